"""The site of the documentation: its navigation, and the pages that are made from the code."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from hubs import ROOT, petasos

DOCS = ROOT / "docs"


def entries(part: Any) -> Iterator[str]:
    """The pages of a part of the navigation."""
    if isinstance(part, str):
        yield part
    for below in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from entries(below)


def test_every_page_has_one_line_in_the_navigation():
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = list(entries(settings["nav"]))
    pages = {str(path.relative_to(DOCS)) for path in DOCS.glob("**/*.md")}
    at_root = {name for name in listed if (ROOT / name).exists()}
    assert sorted(listed) == sorted(pages | at_root)


@pytest.mark.parametrize("page", ["python", "client", "crates", "http", "commands", "settings", "pypi"])
def test_a_page_of_the_reference_is_as_its_source(page):
    variables = {**os.environ, **({"PETASOS": petasos()[0]} if page == "commands" else {})}
    command = [sys.executable, "tools/reference", "--check", page]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_stale_page_of_the_reference_is_noticed(tmp_path):
    def tool(*options: str) -> int:
        command = [sys.executable, "tools/reference", "--folder", str(tmp_path), *options, "crates"]
        return subprocess.run(command, cwd=ROOT, capture_output=True).returncode

    assert (tool("--check"), tool(), tool("--check")) == (1, 0, 0)
    path = tmp_path / "crates.md"
    path.write_text(path.read_text(encoding="utf-8").replace("petasos-hub", "petasos-hat"), encoding="utf-8")
    assert tool("--check") == 1


def test_a_changed_meaning_of_a_setting_makes_its_page_stale(tmp_path):
    """The table is the code's; the text around it is not touched."""
    page = (DOCS / "reference" / "settings.md").read_text(encoding="utf-8")
    (tmp_path / "settings.md").write_text(page.replace("Signs publishers' tokens", "Signs tokens"), encoding="utf-8")
    command = [sys.executable, "tools/reference", "--folder", str(tmp_path), "settings"]
    assert subprocess.run([*command, "--check"], cwd=ROOT, capture_output=True).returncode == 1
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 0
    assert (tmp_path / "settings.md").read_text(encoding="utf-8") == page
