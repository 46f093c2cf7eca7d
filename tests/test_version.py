"""The version is the same everywhere, and the changelog has notes for it."""

from __future__ import annotations

import datetime
import itertools
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import flask_mercure_sse
from scripts import load

version = load("version")
changelog = load("changelog")
Version = version.Version

ROOT = Path(__file__).parent.parent
CHANGELOG = "# Changelog\n\n## Unreleased\n\n- next\n\n## 0.5.0 (2026-12-01)\n\n- [first](docs/a.md) of all\n"


def copied(directory: Path) -> Path:
    """The files that have the version."""
    for path in {*(place.path for place in version.PLACES), "CHANGELOG.md"}:
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, directory / path)
    return directory


def test_every_copy_of_the_version_is_that_of_cargo_toml():
    assert list(version.differences()) == []
    assert flask_mercure_sse.__version__ in (str(version.current()), version.current().for_python())


def test_each_file_with_the_version_is_known():
    """A release would leave it behind otherwise. ``make reference`` writes docs/reference and python/PYPI.md."""
    searched = subprocess.run(["git", "grep", "-lIF", str(version.current())], cwd=ROOT, stdout=subprocess.PIPE)
    if searched.returncode != 0:
        pytest.skip("this is no clone")
    known = {place.path for place in version.PLACES} | {"CHANGELOG.md"}
    ignored = re.compile(r".*\.(lock|sum)$|.*package-lock\.json$|docs/reference/|python/PYPI\.md$|tests/")
    assert [name for name in searched.stdout.decode().split() if name not in known and not ignored.match(name)] == []


def test_a_copy_that_differs_is_named(tmp_path):
    root = copied(tmp_path)
    package = root / "client/package.json"
    package.write_text(package.read_text().replace(f'"version": "{version.current()}"', '"version": "0.0.1"'))
    [difference] = version.differences(root)
    assert difference.startswith("client/package.json says 0.0.1, and Cargo.toml ")


def test_a_place_that_is_gone_is_named(tmp_path):
    root = copied(tmp_path)
    (root / "docs/reference/openapi.yaml").write_text("nothing")
    [difference] = version.differences(root)
    assert difference.startswith("docs/reference/openapi.yaml has the version 0 times")


def test_a_version_is_written_into_all_places(tmp_path):
    root = copied(tmp_path)
    (root / "CHANGELOG.md").write_text(CHANGELOG)
    version.write(Version.parse("0.6.0-rc.1"), root)
    assert list(version.differences(root)) == []
    assert str(version.current(root)) == "0.6.0-rc.1"
    assert (root / "CHANGELOG.md").read_text() == CHANGELOG
    version.write(Version.parse("0.6.0"), root, datetime.date(2027, 1, 2))
    assert list(version.differences(root)) == []
    assert "\n## 0.6.0 (2027-01-02)\n\n- next\n" in (root / "CHANGELOG.md").read_text()
    assert "Unreleased" not in (root / "CHANGELOG.md").read_text()


@pytest.mark.skipif(shutil.which("cargo") is None, reason="cargo is not installed")
def test_cargo_accepts_a_written_version(tmp_path):
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, stdout=subprocess.PIPE)
    if listed.returncode != 0:
        pytest.skip("this is no clone")
    # Targets of crates are found by their files.
    for name in listed.stdout.decode().split("\0"):
        if re.match(
            r"(crates|bench)/.*(\.rs|Cargo\.toml)$|Cargo\.(toml|lock)$|fuzz/|client/|deploy/|docs/|CHANGELOG",
            name,
        ):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    version.write(Version.parse("7.8.9-beta.2"), tmp_path)
    command = ["cargo", "metadata", "--locked", "--offline", "--no-deps", "--format-version", "1"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert '"version":"7.8.9-beta.2"' in answer.stdout


def test_what_holds_until_the_release_goes_with_it_and_not_with_a_pre_release(tmp_path):
    root = copied(tmp_path)
    page = root / "docs/new.md"
    page.write_text("a\n\n<!-- until the release -->\n\nNothing\n\nyet.\n\n<!-- released -->\n\nb\n\n<!-- name -->\n")
    version.write(Version.parse("0.6.0-rc.1"), root)
    assert "docs/new.md says what holds until the release: " in "".join(version.outdated(root))
    version.write(Version.parse("0.6.0"), root)
    assert page.read_text() == "a\n\nb\n\n<!-- name -->\n"
    assert list(version.outdated(root)) == []


@pytest.mark.parametrize("path", version.documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_sentence_outlives_the_release_that_makes_it_untrue(path):
    kept = version.UNTIL_RELEASED.sub("", path.read_text(encoding="utf-8"))
    assert "<!-- until the release -->" not in kept, "a part without its end"
    assert "<!-- released -->" not in kept, "an end without its part"
    untrue = re.compile(r"(?i)(until|before) (this version|the first|its first) release|version is released|PyPI has")
    allowed = {"CHANGELOG.md", "RELEASING.md"}
    assert path.name in allowed or untrue.findall(kept) == []


def test_versions_are_in_order():
    texts = ["0.4.9", "0.5.0-alpha.2", "0.5.0-beta.1", "0.5.0-rc.2", "0.5.0-rc.10", "0.5.0", "0.10.0"]
    versions = [Version.parse(text) for text in texts]
    assert all(older < newer and newer > older for older, newer in itertools.pairwise(versions))
    assert [str(each) for each in versions] == texts
    assert [each.for_python() for each in versions[1:4]] == ["0.5.0a2", "0.5.0b1", "0.5.0rc2"]
    assert [each.is_pre_release for each in versions] == [False, True, True, True, True, False, False]


@pytest.mark.parametrize("text", ["", "1.2", "v1.2.3", "1.2.3rc1", "1.2.3-rc", "1.2.3-rc.0", "01.2.3", "1.2.3+a"])
def test_other_texts_are_no_versions(text):
    with pytest.raises(ValueError, match=r"is no version: write 1\.2\.3"):
        Version.parse(text)


def test_the_changelog_has_notes_for_what_is_released_next():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = next(iter(changelog.sections(text)))
    current = version.current()
    if newest == changelog.UNRELEASED:
        # The changes of the version that is written next.
        text = text.replace("## Unreleased", f"## {current} (2026-01-01)", 1)
    assert newest == changelog.UNRELEASED or newest.startswith(f"{current} ")
    assert changelog.notes(text, current)


def test_notes_are_the_section_of_the_version():
    released = CHANGELOG.replace("\n## Unreleased\n\n- next\n", "")
    repository = "https://github.com/flask-mercure-sse/flask-mercure-sse/blob/v0.5.0"
    assert changelog.notes(released, Version.parse("0.5.0")) == f"- [first]({repository}/docs/a.md) of all"
    assert changelog.notes(CHANGELOG, Version.parse("0.6.0-rc.1")) == "- next"


@pytest.mark.parametrize(
    ("text", "of", "problem"),
    [
        (CHANGELOG, "0.7.0", "has no section"),
        (CHANGELOG, "0.5.0", "unreleased changes"),
        ("## 0.5.0\n\n- a\n", "0.5.0", "has no section"),
        ("## 0.5.0 (2026-12-01)\n\n", "0.5.0", "is empty"),
        ("## 0.5.0 (2026-12-01)\n\n- a\n", "0.6.0-rc.1", "is empty or missing"),
    ],
)
def test_a_version_without_notes_is_refused(text, of, problem):
    with pytest.raises(changelog.WrongChangelogError, match=problem):
        changelog.notes(text, Version.parse(of))
