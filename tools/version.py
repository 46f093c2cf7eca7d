"""The version of everything that is released: ``python3 tools/version.py`` prints it.

It stands in ``Cargo.toml``, under ``[workspace.package]``. The Python package, the binary and the crates read it there.
Files that cannot read it have a copy, and ``PLACES`` lists them.

- ``tools/version.py --check`` names every copy that differs.
- ``tools/version.py 0.6.0`` writes a version into all of them, names the section ``Unreleased`` of the changelog after
  it, and removes from the documents what holds until the release: the parts between ``<!-- until the release -->`` and
  ``<!-- released -->``. A pre-release is ``0.6.0-rc.1``; it leaves the changelog and those parts as they are."""

from __future__ import annotations

import datetime
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import total_ordering
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent

PATTERN = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-(alpha|beta|rc)\.([1-9]\d*))?")
"""What PyPI, crates.io and npm all accept, each in its own spelling."""

CRATES = "|".join(["petasos", *(f"petasos-{name}" for name in ("auth", "hub", "protocol", "server", "transports"))])


IMAGE = r"(flask-mercure-sse/petasos:)\d[\w.-]*()"


class Place(NamedTuple):
    """A copy of the version."""

    path: str
    pattern: str
    """The text around the version, in two groups: what stands before it, and what stands behind it."""
    how_often: int | None = 1
    """``None``: once or more."""


SOURCE = Place("Cargo.toml", r'(\[workspace\.package\]\nversion = ")[^"]+(")')

PLACES = [
    SOURCE,
    Place("Cargo.toml", rf'(?m)(^(?:{CRATES}) = {{ path = "[^"]+", version = ")[^"]+(")', 6),
    Place("Cargo.lock", r'(?m)(^name = "petasos(?:-\w+)?"\nversion = ")[^"]+("\ndep)', None),
    Place("fuzz/Cargo.lock", rf'(?m)(^name = "(?:{CRATES})"\nversion = ")[^"]+("\ndep)', None),
    Place("client/package.json", r'(?m)(^  "version": ")[^"]+(")'),
    Place("client/package-lock.json", r'("name": "petasos-client",\n +"version": ")[^"]+(")', 2),
    Place("docs/reference/openapi.yaml", r"(?m)(^  version: )\S+()"),
    Place("deploy/chart/petasos/Chart.yaml", r'(?m)(^(?:version: |appVersion: "))[^"\n]+("?\n)', 2),
    Place("deploy/platforms/fly.toml", r'(petasos:)\d[^"]*(")'),
    Place("deploy/platforms/render.yaml", r"(petasos:)\d[^\n]*(\n)"),
    Place("docs/how-to/docker.md", r"(/petasos:)\d[^\n]*(\n)", 2),
    Place("deploy/chart/petasos/Chart.yaml", r'(?m)(^version: "?)[^"\s]+("?$)'),
    Place("deploy/chart/petasos/Chart.yaml", r'(?m)(^appVersion: "?)[^"\s]+("?$)'),
    Place("deploy/platforms/fly.toml", IMAGE),
    Place("deploy/platforms/render.yaml", IMAGE),
    Place("docs/how-to/docker.md", IMAGE, None),
]


UNTIL_RELEASED = re.compile(r"<!-- until the release -->\n.*?<!-- released -->\n\n?", re.DOTALL)


@total_ordering
@dataclass(frozen=True)
class Version:
    """A version in the spelling of crates.io and npm, in the order of Semantic Versioning."""

    major: int
    minor: int
    patch: int
    suffix: str = ""
    number: int = 0

    @classmethod
    def parse(cls, text: str) -> Version:
        """Raises ValueError, which says how to write it."""
        match = PATTERN.fullmatch(text)
        if match is None:
            raise ValueError(f'"{text}" is no version: write 1.2.3, or 1.2.3-rc.1 for a pre-release')
        major, minor, patch, suffix, number = match.groups()
        return cls(int(major), int(minor), int(patch), suffix or "", int(number or 0))

    @property
    def is_pre_release(self) -> bool:
        return self.suffix != ""

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return self._order() < other._order()

    def _order(self) -> tuple[int, int, int, str, int]:
        # "~" is behind every letter: 1.0.0 is newer than 1.0.0-rc.1.
        return self.major, self.minor, self.patch, self.suffix or "~", self.number

    def __str__(self) -> str:
        text = f"{self.major}.{self.minor}.{self.patch}"
        return f"{text}-{self.suffix}.{self.number}" if self.suffix else text

    def for_python(self) -> str:
        """The same version as PyPI spells it, as maturin translates it: ``1.0.0rc1``."""
        letters = {"alpha": "a", "beta": "b", "rc": "rc", "": ""}[self.suffix]
        return f"{self.major}.{self.minor}.{self.patch}" + (f"{letters}{self.number}" if letters else "")


def current(root: Path = ROOT) -> Version:
    """The version in ``Cargo.toml``."""
    text = (root / SOURCE.path).read_text(encoding="utf-8")
    found = re.search(SOURCE.pattern, text)
    assert found is not None, "Cargo.toml has a version"
    return Version.parse(found[0].split('"')[1])


def differences(root: Path = ROOT) -> Iterator[str]:
    """Every copy that is not the version in ``Cargo.toml``, each as a sentence."""
    version = str(current(root))
    for place in PLACES:
        path = root / place.path
        text = path.read_text(encoding="utf-8")
        found = [match[0].removeprefix(match[1]).removesuffix(match[2]) for match in re.finditer(place.pattern, text)]
        if not found or place.how_often not in (None, len(found)):
            yield f"{place.path} has the version {len(found)} times: PLACES of tools/version.py must find it"
        for other in sorted({other for other in found if other != version}):
            yield f"{place.path} says {other}, and Cargo.toml {version}: python3 tools/version.py {version}"


def documents(root: Path = ROOT) -> list[Path]:
    """What people read, in which sentences may stand that the release makes untrue."""
    patterns = ("*.md", "docs/**/*.md", "examples/**/*.md", "client/*.md", "crates/*/README.md")
    return sorted(path for pattern in patterns for path in root.glob(pattern))


def outdated(root: Path = ROOT) -> Iterator[str]:
    """Every document that still says that nothing is released, each as a sentence."""
    for path in documents(root):
        if "<!-- until the release -->" in path.read_text(encoding="utf-8"):
            name = path.relative_to(root)
            yield f"{name} says what holds until the release: python3 tools/version.py {current(root)} removes it"


def write(version: Version, root: Path = ROOT, today: datetime.date | None = None) -> None:
    """Writes a version into all places. If it is no pre-release, also into the changelog."""
    for place in PLACES:
        path = root / place.path
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(place.pattern, rf"\g<1>{version}\g<2>", text), encoding="utf-8")
    if version.is_pre_release:
        return
    for path in documents(root):
        text = path.read_text(encoding="utf-8")
        if (kept := UNTIL_RELEASED.sub("", text)) != text:
            path.write_text(kept, encoding="utf-8")
    changelog = root / "CHANGELOG.md"
    text = changelog.read_text(encoding="utf-8")
    if f"\n## {version} " not in text:
        date = (today or datetime.date.today()).isoformat()
        changelog.write_text(text.replace("\n## Unreleased\n", f"\n## {version} ({date})\n", 1), encoding="utf-8")


def main(arguments: list[str]) -> int:
    if not arguments:
        print(current())
        return 0
    if arguments == ["--check"]:
        found = list(differences())
        print(*found, sep="\n", end="\n" if found else "")
        return 1 if found else 0
    try:
        version = Version.parse(arguments[0])
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    write(version)
    print(f"{version} is written. Run make reference, look at the changes, commit them, and see RELEASING.md.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
