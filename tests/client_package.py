"""The npm package in client/, installed in .build. As a program, it checks the package for ``make check``."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import npm

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".build" / "client"


def install() -> str:
    """Copies the package into ``FOLDER``. Returns the path of Node. Raises npm.Missing without Node 20."""
    for folder in ("src", "test", "dist"):
        shutil.rmtree(FOLDER / folder, ignore_errors=True)
    return npm.install(ROOT / "client", FOLDER)


@contextmanager
def held() -> Iterator[str]:
    """The package, installed, for this process alone. Gives the path of Node. Raises npm.Missing without Node 20."""
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with FOLDER.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield install()


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in ``FOLDER``. It finds the committed files in the repository."""
    environment = {**os.environ, "PETASOS_CLIENT_REPOSITORY": str(ROOT)}
    return subprocess.run(
        command, cwd=FOLDER, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def main() -> int:
    try:
        node = install()
    except npm.Missing as missing:
        print(f"skipped: {missing}")  # noqa: T201
        return 0
    done = run(node, "build.mjs", "--check")
    print(done.stdout, end="")  # noqa: T201
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
