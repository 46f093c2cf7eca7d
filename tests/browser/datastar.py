"""Datastar 1. npm has only a beta of it, but a Python package ships it: its wheel is downloaded into .build."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hubs import ROOT, alone

PACKAGE = "starhtml==0.7.0"
DIGEST = "sha256:3515ac3a21f1be7ce3e724b45440ed2be20d3afcdb60f92f6ebbfaec883d3ea2"
FILE = "starhtml/static/js/datastar-core.js"
"""Datastar 1.0.1, with two patches that concern shadow DOM and clicks outside of an element."""


def datastar() -> Path:
    """The folder with ``datastar.js``. Skips where the package cannot be had."""
    folder = ROOT / ".build" / "browser" / "datastar"
    script = folder / "datastar.js"
    with alone("datastar"):
        if not script.exists():
            folder.mkdir(parents=True, exist_ok=True)
            requirements = folder / "requirements.txt"
            requirements.write_text(f"{PACKAGE} --hash={DIGEST}\n")
            # Not installed: it needs a newer Python than these tests.
            options = ["--no-deps", "--only-binary=:all:", "--python-version=3.12", "--require-hashes", "--quiet"]
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                *options,
                "--dest",
                str(folder),
                "-r",
                str(requirements),
            ]
            if subprocess.run(command, capture_output=True, check=False).returncode != 0:
                pytest.skip(f"{PACKAGE}, which has Datastar, cannot be downloaded")
            (wheel,) = folder.glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                script.write_bytes(archive.read(FILE))
    return folder
