"""The page of the commands: what the programs say of themselves."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

OPENING = """# Commands

What `--help` prints, for each command of the programs. [Settings of the binary](../configuration.md) has all flags of
`petasos` in tables.
"""
WIDTH = "100"


def page() -> str:
    """
    Raises:
        RuntimeError: a program is not there. PETASOS is the path of the binary; the package is this interpreter's.
    """
    petasos = os.environ.get("PETASOS", "petasos")
    flask = str(Path(sys.executable).with_name("flask"))
    parts = [OPENING, "## The binary\n"]
    parts += _tree([petasos], ["petasos"], r"^Commands:\n(.*?)(?:\n\n|\Z)")
    parts += ["## The extension\n", *_tree([flask, "mercure"], ["flask", "mercure"], r"^Commands:\n(.*?)\Z")]
    module = ["python", "-m", "flask_mercure_sse.server"]
    parts += ["## The hub in Python\n", _section(module, _help([sys.executable, *module[1:]]))]
    return "\n".join(parts)


def _tree(command: list[str], name: list[str], listing: str) -> list[str]:
    """A command and the commands below it."""
    text = _help(command)
    found = re.search(listing, text, re.DOTALL | re.MULTILINE)
    parts = [_section(name, text)]
    for line in (found[1] if found else "").splitlines():
        below = re.match(r"  (\S+)", line)
        if below and below[1] != "help":
            parts += _tree([*command, below[1]], [*name, below[1]], listing)
    return parts


def _section(name: list[str], text: str) -> str:
    return f"### {' '.join(name)}\n\n```text\n{text}\n```\n"


def _help(command: list[str]) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PETASOS", "MERCURE", "FLASK"))}
    variables = {**kept, "COLUMNS": WIDTH, "TERM": "dumb", "NO_COLOR": "1"}
    try:
        done = subprocess.run([*command, "--help"], env=variables, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise RuntimeError(f"{' '.join(command)} --help: {error}") from error
    # The interpreter has another name on each machine.
    text = re.sub(r"^(usage: )\S*python\S*", r"\1python", done.stdout, flags=re.MULTILINE)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())
