"""Keeps paths of the machine that builds a release out of its files: messages of panics and lists of crates have them.

They say nothing to those who run the release, and with them two machines never build the same file."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOUND_MAX = 5


def flags() -> str:
    """Options of rustc that give the folders of this machine other names."""
    prefixes = {f"{cargo_home()}/registry/src": "crates", str(ROOT): "petasos"}
    return " ".join([os.environ.get("RUSTFLAGS", ""), *(f"--remap-path-prefix={a}={b}" for a, b in prefixes.items())])


def check(path: Path) -> Path:
    """Looks for paths of this machine in a file. Of a wheel, in all files that are in it.

    Raises:
        SystemExit: some are there. The text names the first of them."""
    found = [(name, text) for name, content in contents(path) for text in of_this_machine(content)]
    if found:
        lines = "".join(f"\n  {name}: {text}" for name, text in found[:FOUND_MAX])
        raise SystemExit(f"{path.name} has {len(found)} paths of this machine in it, such as{lines}")
    return path


def of_this_machine(content: bytes) -> list[str]:
    """The paths below the repository, and below the folders of cargo and rustup."""
    rustup_home = os.environ.get("RUSTUP_HOME", Path.home() / ".rustup")
    folders = b"|".join(re.escape(str(folder).encode()) for folder in (ROOT, cargo_home(), rustup_home))
    return [found[0].decode() for found in re.finditer(rb"(?:%s)/[\w./+-]*" % folders, content)]


def contents(path: Path) -> Iterator[tuple[str, bytes]]:
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as wheel:
            yield from ((name, wheel.read(name)) for name in wheel.namelist())
    else:
        yield path.name, path.read_bytes()


def clean_bill(text: str, root: Path) -> str:
    """A list of crates (CycloneDX) without paths, and without what differs each time: its number and its time."""
    content = json.loads(text)
    content.pop("serialNumber", None)
    content["metadata"].pop("timestamp", None)
    cleaned = json.dumps(content, indent=1, sort_keys=True) + "\n"
    return cleaned.replace(f"path+file://{root}/", "path+file:///").replace(str(root), "")


def clean_wheel(path: Path) -> None:
    """Cleans the lists of crates in a wheel. ``RECORD`` has the sum of each file, so it changes with them."""
    with zipfile.ZipFile(path) as wheel:
        files = [(entry, wheel.read(entry)) for entry in wheel.infolist()]
    sums = {}
    for index, (entry, content) in enumerate(files):
        if ".dist-info/sboms/" in entry.filename:
            content = clean_bill(content.decode(), ROOT).encode()
            files[index] = (entry, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            sums[entry.filename] = f"{entry.filename},sha256={digest},{len(content)}"
    written = path.with_suffix(".new")
    with zipfile.ZipFile(written, "w") as wheel:
        for entry, content in files:
            if entry.filename.endswith(".dist-info/RECORD"):
                lines = content.decode().splitlines()
                content = "".join(f"{sums.get(line.split(',')[0], line)}\n" for line in lines).encode()
            wheel.writestr(entry, content, zipfile.ZIP_DEFLATED, 9)
    written.replace(path)


def cargo_home() -> Path:
    return Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
