"""Writes docs/reference/ from what it documents: ``make reference``, or ``python tools/reference [--check] [PAGE …]``.

With ``--check`` it writes nothing, and names the pages that are stale. A page is written from one source:

- ``python``: the docstrings and signatures of the package.
- ``client``: the exported types of client/src.
- ``crates``: the manifests and the first sentences of the crates.
- ``http``: docs/reference/openapi.yaml, which tests compare with a running hub.
- ``commands``: what the programs print for ``--help``. It needs them: PETASOS is the path of the binary.
- ``settings``: the table of the extension's settings, from settings.py. The rest of that page is written by hand.
- ``pypi``: README.md. It is python/PYPI.md, the description of the package on PyPI.

The pages are committed, since readers on GitHub see no page that a build makes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import commands
import crates
import http_api
import pypi
import python_api
import settings
import typescript

PAGES: dict[str, Callable[[], str]] = {
    "python": python_api.page,
    "client": typescript.page,
    "crates": crates.page,
    "http": http_api.page,
    "commands": commands.page,
    "settings": settings.page,
    "pypi": pypi.page,
}
ELSEWHERE = {"pypi": "../../python/PYPI.md"}
"""Pages that no reader of docs/ looks for, from the folder of the others."""
FOLDER = Path(__file__).parent.parent.parent / "docs" / "reference"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tools/reference", description="Write the pages of docs/reference.")
    parser.add_argument("--check", action="store_true", help="write nothing, and fail if a page is stale")
    parser.add_argument("pages", nargs="*", metavar="PAGE", help=f"{', '.join(PAGES)}; by default all")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the pages are")
    arguments = parser.parse_args()
    stale = 0
    for name in arguments.pages or PAGES:
        path, text = arguments.folder / ELSEWHERE.get(name, f"{name}.md"), PAGES[name]()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        if arguments.check:
            print(f"{path} is stale: run make reference")
        else:
            path.write_text(text, encoding="utf-8")
            print(f"{path}: written")
    return stale if arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
