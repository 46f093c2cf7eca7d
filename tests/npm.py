"""Packages of npm, in the versions of a lock file, installed once into .build."""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
from pathlib import Path


class Missing(Exception):
    """A program that is needed is not installed."""


def install(source: Path, folder: Path) -> str:
    """Copies ``source`` and installs its packages there. Returns the path of Node. Raises Missing without Node 20.

    Several processes of the tests may call it at the same time."""
    node, npm = shutil.which("node"), shutil.which("npm")
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout if node else ""
    if node is None or npm is None or int(re.findall(r"\d+", version)[0]) < 20:
        raise Missing("Node 20 and npm are not installed")
    lock = (source / "package-lock.json").read_text()
    built = shutil.ignore_patterns("node_modules", "dist")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.install.lock").open("w") as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=built)
        installed = folder / "installed"
        if not installed.exists() or installed.read_text() != lock:
            command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
            installed.write_text(lock)
    return node
