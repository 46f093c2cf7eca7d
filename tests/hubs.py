"""Hubs to compare with and to talk to: petasos on its own, and the reference hub of each dialect.

The reference hub comes from its module registry and is built here, when Go is there. None of its code is in this
repository."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from clients import HUB_PATH

ROOT = Path(__file__).parent.parent
BUILD = ROOT / ".build" / "reference"
PUBLISHER, SUBSCRIBER = "publisher key of at least 32 bytes", "subscriber key of at least 32 bytes"
PAGE = "https://page.example"
RESOURCE = "https://hub.example" + HUB_PATH
ISSUER = "https://issuer.example"


def petasos(
    listen: str = "127.0.0.1:0",
    cors_origins: str = PAGE,
    drain_delay: str = "0",
    drain: str = "1s",
    admin_listen: str = "off",
) -> list[str]:
    """How to start petasos; protocol 0.x needs --compat, too.

    The operators' default port belongs to one process at a time, so it is off."""
    options = {
        "--listen": listen,
        "--admin-listen": admin_listen,
        "--public-url": RESOURCE,
        "--issuer": ISSUER,
        "--publisher-key": PUBLISHER,
        "--subscriber-key": SUBSCRIBER,
        "--cors-origins": cors_origins,
        "--publish-origins": PAGE,
        "--drain-delay": drain_delay,
        "--drain": drain,
    }
    arguments = [part for pair in options.items() for part in pair]
    return [_binary(), "--anonymous", *arguments]


@cache
def _binary() -> str:
    # What cargo has built for its own tests, with the same features.
    build = ["cargo", "test", "--locked", "--workspace", "--no-run", "--quiet"]
    subprocess.run(build, cwd=ROOT, check=True)
    return str(Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "petasos")


def reference(dialect: str) -> list[str]:
    """How to start the reference hub; a directory for its database is the last argument. Skips without Go 1.26."""
    go = shutil.which("go")
    version = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True).stdout if go else ""
    if go is None or [int(part) for part in re.findall(r"\d+", version)[:2]] < [1, 26]:
        pytest.skip("Go 1.26 is not installed")
    name, flags = ("v0", ["-tags=v0", "-modfile=v0.mod"]) if dialect == "0.x" else ("v1", [])
    command = [go, "build", *flags, "-o", str(BUILD / name), "."]
    with alone(name):
        subprocess.run(command, cwd=ROOT / "tests" / "reference", check=True)
    return [str(BUILD / name)]


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Keeps other processes of the tests from building the same thing at the same time."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class HubProcess:
    """A hub of a process of its own, which says where it listens."""

    def __init__(self, command: list[str], log: str = os.devnull, stdin: int | None = None) -> None:
        with open(log, "w") as error:
            self.process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, stderr=error, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        self.url = re.sub(re.escape(HUB_PATH) + "$", "", line.removeprefix("Serving on ").strip()) + HUB_PATH

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
