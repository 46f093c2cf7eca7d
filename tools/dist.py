"""Builds what a release consists of, into ``dist/``: ``python3 tools/dist.py [PART …] [--target TRIPLE …]``.

- Parts: ``sdist``, ``wheel``, ``threads`` (a wheel for free-threaded Python), ``binary`` (tarballs), ``deb``, ``rpm``,
  ``sbom``. Without parts: all but ``threads``, which needs that Python.
- Without targets: those of this machine's processor, and those of the other one if rustup can install them.

It can be run again: cargo compiles only what has changed, and each file replaces the file of the same name.
``SHA256SUMS`` covers all files in ``dist/``. ``make dist`` installs the tools first: those of the group ``dist`` in
``pyproject.toml``, and those in ``.build/tools``.

Zig compiles and links the parts in C, in the same way for glibc 2.28, for musl, and for other processors."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import packages
import paths
import version
from packages import ROOT, Hub, Texts

OUT = ROOT / "dist"
VERSION = version.current()
TOOLS = [ROOT / ".build" / "dist" / "bin", ROOT / ".build" / "tools" / "bin"]
TARGETS = [f"{processor}-unknown-linux-{libc}" for processor in ("x86_64", "aarch64") for libc in ("gnu", "musl")]
PARTS = ("sdist", "wheel", "threads", "binary", "deb", "rpm", "sbom")
OPTIONAL = ("threads",)
WHEEL_BYTES_MAX = 8_000_000
"""A wheel that grows beyond this has something in it that does not belong there."""
FREE_THREADED = "3.14t"
"""Free-threaded Python has a stable interface from 3.15 on. Before that, each version needs a wheel of its own."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Build what a release consists of.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--target", action="append", dest="targets", choices=TARGETS)
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    parts = arguments.parts or [part for part in PARTS if part not in OPTIONAL]
    targets = arguments.targets or possible_targets()
    OUT.mkdir(exist_ok=True)
    begin = time.monotonic()
    made = list(build(parts, targets))
    sums()
    print_table(made, time.monotonic() - begin)
    return 0


def build(parts: list[str], targets: list[str]) -> Iterator[Path]:
    """Builds the parts. Yields what it has made."""
    if "sdist" in parts:
        say("source distribution")
        maturin("sdist")
        yield checked(OUT / f"flask_mercure_sse-{VERSION.for_python()}.tar.gz")
    texts = None
    for target in targets:
        if "wheel" in parts:
            yield wheel(target)
        if "threads" in parts:
            yield wheel(target, FREE_THREADED)
        if not {"binary", "deb", "rpm"} & set(parts):
            continue
        binary = compile_binary(target)
        # The first target is one of this machine, unless only others are asked for.
        texts = texts or Texts.ask(runnable(target, binary))
        hub = Hub(str(VERSION), target, binary, texts, notices(target))
        if "binary" in parts:
            yield packages.tarball(hub, OUT)
        # Each system with dpkg or rpm has glibc, which takes its security updates from the system.
        if target.endswith("-gnu"):
            yield from (getattr(packages, part)(hub, OUT) for part in ("deb", "rpm") if part in parts)
    if "sbom" in parts:
        yield from (bill_of_materials(target) for target in targets)


def possible_targets() -> list[str]:
    here = [target for target in TARGETS if target.startswith(platform.machine())]
    others = [target for target in TARGETS if target not in here]
    for target in others[:]:
        ran = subprocess.run(["rustup", "target", "add", target], capture_output=True, check=False)
        if ran.returncode != 0:
            print(f"== {target} is left out: rustup cannot install its standard library", flush=True)
            others.remove(target)
    return here + others


def wheel(target: str, python: str | None = None) -> Path:
    """Builds a wheel and checks that it is what its name says."""
    say(f"wheel for {target}" + (f", Python {python}" if python else ""))
    libc = "manylinux_2_28" if target.endswith("-gnu") else "musllinux_1_2"
    tag = f"cp{python.replace('.', '')}" if python else "cp310"
    interface = tag if python else "abi3"
    name = f"flask_mercure_sse-{VERSION.for_python()}-{tag.rstrip('t')}-{interface}-{libc}_{target.split('-')[0]}.whl"
    arguments = ["--interpreter", f"python{python}"] if python else []
    install_target(target)
    maturin("build", "--release", "--locked", "--zig", "--target", target, "--compatibility", libc, *arguments)
    paths.clean_wheel(OUT / name)
    path = checked(paths.check(OUT / name))
    if path.stat().st_size > WHEEL_BYTES_MAX:
        raise SystemExit(f"{name} has {path.stat().st_size:,} bytes, more than {WHEEL_BYTES_MAX:,}: what has grown?")
    # It looks at the libraries that the wheel asks for, so they must be here.
    if target.startswith(platform.machine()) and target.endswith("gnu") == (platform.libc_ver()[0] == "glibc"):
        run("auditwheel", "show", path)
    if not python:
        run("abi3audit", "--strict", "--summary", path)
    return path


def checked(path: Path) -> Path:
    """Asks whether an index would take the file."""
    run("twine", "check", "--strict", path)
    return path


def compile_binary(target: str) -> Path:
    """Compiles petasos with the list of its crates inside (``cargo audit bin petasos`` reads it)."""
    say(f"petasos for {target}")
    install_target(target)
    zig_target = f"{target}.{packages.GLIBC_MIN}" if target.endswith("-gnu") else target
    cargo = ["cargo", "auditable", "zigbuild", "--release", "--locked", "--package", "petasos"]
    run(*cargo, "--target", zig_target)
    return packages.check_glibc(paths.check(cargo_folder() / target / "release" / "petasos"))


def runnable(target: str, binary: Path) -> Path:
    """A binary that this machine can ask for its manual page: the given one, or one that is built here anyway."""
    if target.split("-")[0] == platform.machine():
        return binary
    say("petasos for this machine, which writes the manual page and the completions")
    run("cargo", "build", "--locked", "--package", "petasos")
    return cargo_folder() / "debug" / "petasos"


def bill_of_materials(target: str) -> Path:
    """Writes what the binary consists of, as CycloneDX. A wheel has its own list, in ``*.dist-info/sboms``.

    cargo-cyclonedx writes into the folders of the crates, so it works on a copy."""
    say(f"bill of materials for {target}")
    path = OUT / f"petasos-{VERSION}-{target}.cdx.json"
    with tempfile.TemporaryDirectory() as folder:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "Cargo.toml", "Cargo.lock", "crates", "bench", "README.md"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        for name in filter(None, listed.stdout.split("\0")):
            copy = Path(folder, name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, copy)
        cyclonedx = ["cargo", "cyclonedx", "--format", "json", "--spec-version", "1.5", "--target", target, "--quiet"]
        run(*cyclonedx, "--override-filename", "bill", cwd=Path(folder))
        text = Path(folder, "crates/petasos/bill.json").read_text(encoding="utf-8")
    path.write_text(paths.clean_bill(text, Path(folder)), encoding="utf-8")
    return path


def notices(target: str) -> str:
    """The licence texts of all crates that are compiled in: most of them ask that binaries come with them."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--filter-platform", target]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    metadata = json.loads(answer)
    tree = ["cargo", "tree", "--locked", "--package", "petasos", "--edges", "normal", "--target", target]
    listed = subprocess.run([*tree, "--prefix", "none", "--format", "{p}"], cwd=ROOT, capture_output=True, text=True)
    used = {tuple(line.split()[:2]) for line in listed.stdout.splitlines()}
    found = [package for package in metadata["packages"] if (package["name"], f"v{package['version']}") in used]
    return "\n".join(notice(package) for package in found if package["source"])


def notice(package: dict[str, Any]) -> str:
    folder = Path(package["manifest_path"]).parent
    names = re.compile(r"(licen[cs]e|copying|notice|copyright)", re.IGNORECASE)
    files = sorted(path for path in folder.iterdir() if path.is_file() and names.match(path.name))
    texts = [path.read_text(encoding="utf-8", errors="replace").strip() for path in files]
    line = "=" * 78
    head = (
        f"{line}\n{package['name']} {package['version']} ({package['license']})\n{package['repository'] or ''}\n{line}"
    )
    return "\n\n".join([head, *texts]) + "\n"


def sums() -> None:
    """Writes ``SHA256SUMS`` over all that lies in ``dist/``, in the form that ``sha256sum --check`` reads."""
    files = sorted(path for path in OUT.iterdir() if path.is_file() and path.name != "SHA256SUMS")
    (OUT / "SHA256SUMS").write_text("".join(f"{digest(path)}  {path.name}\n" for path in files), encoding="utf-8")


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def print_table(made: Iterable[Path], seconds: float) -> None:
    print(f"\n{'file in dist/':72} {'bytes':>12}  SHA-256")
    for path in made:
        print(f"{path.name:72} {path.stat().st_size:12,}  {digest(path)[:16]}…")
    print(f"in {seconds / 60:.1f} minutes; dist/SHA256SUMS has the whole sums", flush=True)


def maturin(command: str, *arguments: str | Path) -> None:
    run("maturin", command, *arguments, "--out", OUT)


def install_target(target: str) -> None:
    """Does nothing where it is installed, or where cargo does not come from rustup."""
    if shutil.which("rustup"):
        run("rustup", "--quiet", "target", "add", target)


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    path = os.pathsep.join([*map(str, TOOLS), os.environ["PATH"]])
    program = shutil.which(command[0], path=path)
    if program is None:
        raise SystemExit(f"{command[0]} is missing: make dist installs it")
    ran = subprocess.run(
        [program, *command[1:]], cwd=cwd, env={**os.environ, "PATH": path, "RUSTFLAGS": paths.flags()}, check=False
    )
    if ran.returncode != 0:
        raise SystemExit(f"this failed: {' '.join(map(str, command))}")


def cargo_folder() -> Path:
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))


def say(what: str) -> None:
    print(f"== {what}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
