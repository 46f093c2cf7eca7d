"""Prints what CHANGELOG.md says about a version, as the notes of its release: ``python3 tools/changelog.py 1.2.3``.

A pre-release has no section of its own: its notes are those of the section ``Unreleased``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from version import Version

ROOT = Path(__file__).resolve().parent.parent
UNRELEASED = "Unreleased"
RELEASED = re.compile(r"(\S+) \((\d{4}-\d{2}-\d{2})\)")


class WrongChangelogError(Exception):
    """CHANGELOG.md has no notes for the version. The text says what to write."""


def sections(text: str) -> dict[str, str]:
    """The text under each heading of the second level, in order, by the text of the heading."""
    parts = re.split(r"(?m)^## (.+)$", text)[1:]
    return dict(zip(parts[::2], (part.strip() for part in parts[1::2]), strict=True))


def notes(text: str, version: Version) -> str:
    """The notes of a version, with links that also work outside of the repository's page.

    Raises:
        WrongChangelogError: there is no section, it is empty, or unreleased changes stand above it.
    """
    found = sections(text)
    headings = list(found)
    if version.is_pre_release:
        heading = UNRELEASED
    else:
        heading = next((each for each in headings if each.startswith(f"{version} ")), "")
        if not RELEASED.fullmatch(heading):
            wanted = f"## {version} (YYYY-MM-DD)"
            raise WrongChangelogError(f'CHANGELOG.md has no section "{wanted}": tools/version.py writes it')
        above = headings[: headings.index(heading)]
        if UNRELEASED in above and found[UNRELEASED]:
            raise WrongChangelogError(f"CHANGELOG.md has unreleased changes: move them into the section of {version}")
    if not found.get(heading):
        raise WrongChangelogError(f'the section "## {heading}" of CHANGELOG.md is empty or missing')
    return with_whole_links(found[heading], version)


def with_whole_links(markdown: str, version: Version) -> str:
    """The relative links of a document at the root become links to the files of the version's tag, and so stay true.

    >>> with_whole_links("![a](docs/a.webp), [b](docs/b.md#c)", Version.parse("1.2.3")).split(", ")
    ... # doctest: +ELLIPSIS
    ['![a](https://github.com/.../raw/v1.2.3/docs/a.webp)', '[b](https://github.com/.../blob/v1.2.3/docs/b.md#c)']
    """
    cargo = (ROOT / "Cargo.toml").read_text(encoding="utf-8")
    repository = re.search(r'(?m)^repository = "([^"]+)"', cargo)
    assert repository is not None, "Cargo.toml names the repository"

    def whole(match: re.Match[str]) -> str:
        kind = "raw" if match[1].endswith((".webp", ".svg")) else "blob"
        return f"]({repository[1]}/{kind}/v{version}/{match[1]})"

    parts = re.split(r"(?ms)(^```.*?^```)", markdown)
    parts[::2] = [re.sub(r"\]\((?![a-z]+:|#)([^)]+)\)", whole, part) for part in parts[::2]]
    return "".join(parts)


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python3 tools/changelog.py VERSION", file=sys.stderr)
        return 2
    try:
        version = Version.parse(arguments[0].removeprefix("v"))
        print(notes((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version))
    except (WrongChangelogError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
