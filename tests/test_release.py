"""The steps of a release publish what is missing and nothing twice, and a pre-release moves no tag that people follow.
The programs that publish are replaced by one that writes down how it was called."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import load

release = load("release")
Version = release.Version

ROOT = release.ROOT
TAGS = ["v0.5.0", "v0.5.1", "v0.6.0-rc.1", "nightly", "v0.4"]

# Answers as the file beside it says: the first entry whose words all stand in the command.
PROGRAM = f"""#!{sys.executable}
import json, os, pathlib, sys
here = pathlib.Path(__file__).parent
command = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
with open(here / "calls", "a") as calls:
    print(json.dumps(command), file=calls)
for words, status, out, err in json.loads((here / "answers").read_text()):
    if set(words) <= set(command):
        print(out)
        print(err, file=sys.stderr)
        sys.exit(status)
"""


class World:
    """The programs that publish."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.answers: list[tuple[list[str], int, str, str]] = [(["git", "tag"], 0, "\n".join(TAGS), "")]
        for name in ("git", "gh", "npm", "docker", "helm", "cargo", "twine", "pypi-attestations"):
            program = directory / name
            program.write_text(PROGRAM)
            program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def says(self, words: str, status: int = 0, out: str = "", err: str = "") -> None:
        self.answers.insert(0, (words.split(), status, out, err))

    def run(self, step: str, tag: str) -> list[list[str]]:
        """The commands that a step ran, without those that only ask."""
        (self.directory / "answers").write_text(json.dumps(self.answers))
        (self.directory / "calls").write_text("")
        assert release.main([step, tag]) == 0
        calls = [json.loads(line) for line in (self.directory / "calls").read_text().splitlines()]
        asks = {"view", "inspect", "metadata", "show"}
        return [call for call in calls if not asks & set(call) and call[0] != "git"]


@pytest.fixture
def world(tmp_path, monkeypatch):
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return World(programs)


@pytest.mark.parametrize(
    ("version", "latest", "tags"),
    [
        ("0.5.2", True, ["0.5", "latest"]),
        ("0.6.0", True, ["0.6", "latest"]),
        ("0.6.0-rc.2", False, []),
        ("0.4.9", False, ["0.4"]),
        ("0.5.0", False, []),
    ],
)
def test_only_the_newest_that_is_no_pre_release_is_latest(version, latest, tags):
    assert release.is_latest(Version.parse(version), [*TAGS, f"v{version}"]) is latest
    assert release.image_tags(Version.parse(version), [*TAGS, f"v{version}"]) == tags


def test_a_tag_that_is_not_the_version_of_the_commit_is_refused(capsys):
    assert release.main(["check", "v99.0.0"]) == 1
    assert "the tag is v99.0.0, and this commit is " in capsys.readouterr().err


def test_a_release_whose_documents_say_that_there_is_none_is_refused(monkeypatch, capsys):
    """It is a mistake that nobody sees before readers do. A pre-release may say so: pip does not find it."""
    said = "README.md says what holds until the release"
    monkeypatch.setattr(release, "git_tags", lambda: TAGS)
    monkeypatch.setattr(release.versions, "outdated", lambda: iter([said]))
    monkeypatch.setattr(release.versions, "differences", lambda: iter([]))
    monkeypatch.setattr(release.changelog, "notes", lambda text, version: "- mended")
    for version in ("0.6.0", "0.6.0-rc.2"):
        monkeypatch.setattr(release.versions, "current", lambda of=version: Version.parse(of))
        assert release.main(["check", f"v{version}"]) == ("rc" not in version)
    assert capsys.readouterr().err.strip() == said


@pytest.mark.parametrize("arguments", [[], ["check"], ["check", "0.5.0"], ["delete", "v0.5.0"]])
def test_a_wrong_call_says_how_to_write_it(arguments, capsys):
    assert release.main(arguments) == 2
    assert "usage: python3 tools/release.py check|draft|" in capsys.readouterr().err


@pytest.fixture
def dist(tmp_path, monkeypatch):
    """A repository of its own, with something to publish."""
    monkeypatch.setattr(release, "ROOT", tmp_path)
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist/petasos.deb").write_text("a package")
    (tmp_path / "CHANGELOG.md").write_text("## Unreleased\n\n## 0.5.2 (2027-01-01)\n\n- mended\n")
    return tmp_path


def test_a_draft_is_made_once_and_gets_all_files(world, dist):
    world.says("gh view", status=1, err="release not found")
    create, upload = world.run("draft", "v0.5.2")
    assert create[:4] == ["gh", "release", "create", "v0.5.2"]
    assert {"--draft", "--verify-tag"} < set(create)
    assert "--prerelease" not in create
    files = [str(dist / "dist" / name) for name in ("petasos.deb", "SHA256SUMS")]
    assert upload == ["gh", "release", "upload", "v0.5.2", "--clobber", *files]
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=dist / "dist", check=True)
    world.says("gh view", out='{"isDraft": true}')
    assert world.run("draft", "v0.5.2") == [upload]


def test_a_public_release_keeps_its_files(world, dist):
    world.says("gh view", out='{"isDraft": false}')
    assert world.run("draft", "v0.5.2") == []


def test_wheels_are_attested_and_those_that_are_there_are_passed_over(world, dist):
    names = ["flask_mercure_sse-0.6.0rc2-cp310-abi3-manylinux_2_28_x86_64.whl", "flask_mercure_sse-0.6.0rc2.tar.gz"]
    for name in names:
        (dist / "dist" / name).write_text("an archive")
    files = [str(dist / "dist" / name) for name in names]
    sign, upload = world.run("wheels", "v0.6.0-rc.2")
    assert sign == ["pypi-attestations", "sign", *files]
    assert upload[:2] == ["twine", "upload"]
    assert {"--skip-existing", "--attestations"} < set(upload)
    assert upload[-4:] == [*files, *(f"{name}.publish.attestation" for name in files)]


def test_wheels_of_another_version_are_not_published(dist, capsys):
    (dist / "dist/flask_mercure_sse-0.5.1-cp310-abi3-manylinux_2_28_x86_64.whl").write_text("an archive")
    assert release.main(["wheels", "v0.5.2"]) == 1
    assert "dist/ lacks flask_mercure_sse-0.5.2.tar.gz of 0.5.2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("tag", "kind", "latest"),
    [
        ("v0.5.2", "--prerelease=false", "--latest=true"),
        ("v0.5.0", "--prerelease=false", "--latest=false"),
        ("v0.6.0-rc.2", "--prerelease", "--latest=false"),
    ],
)
def test_a_release_is_latest_only_if_it_is(world, tag, kind, latest):
    assert world.run("publish", tag) == [["gh", "release", "edit", tag, "--draft=false", kind, latest]]


def test_an_image_is_pushed_once_and_its_tags_move(world):
    world.says("docker inspect", status=1, err=f"ERROR: {release.IMAGE}:0.5.2: not found")
    build, *moves = world.run("image", "v0.5.2")
    assert build[:3] == ["docker", "buildx", "build"]
    assert build[build.index("--tag") + 1] == f"{release.IMAGE}:0.5.2"
    assert [move[move.index("--tag") + 1] for move in moves] == [f"{release.IMAGE}:0.5", f"{release.IMAGE}:latest"]
    world.says("docker inspect")
    assert world.run("image", "v0.5.2") == moves
    assert world.run("image", "v0.6.0-rc.2") == []


def test_a_chart_is_pushed_once(world, dist):
    (dist / "dist/petasos-0.5.2.tgz").write_text("a chart")
    name = f"{release.CHARTS}/petasos:0.5.2"
    world.says("helm show", status=1, err=f'Error: failed to perform "FetchReference" on source: {name}: not found')
    assert world.run("chart", "v0.5.2") == [
        ["helm", "push", str(dist / "dist/petasos-0.5.2.tgz"), f"oci://{release.CHARTS}"]
    ]
    world.says("helm show", out="version: 0.5.2")
    assert world.run("chart", "v0.5.2") == []


def test_a_chart_is_pushed_again_where_the_registry_is_late(world, dist, monkeypatch):
    monkeypatch.setattr(release, "CHART_PAUSE_SECONDS", 0)
    (dist / "dist/petasos-0.5.2.tgz").write_text("a chart")
    world.says("helm show", status=1, err=f"{release.CHARTS}/petasos:0.5.2: not found")
    world.says("helm push", status=1, err='Error: failed to perform "Tag" on destination: sha256:0: not found')
    with pytest.raises(AssertionError):
        world.run("chart", "v0.5.2")
    calls = [json.loads(line) for line in (world.directory / "calls").read_text().splitlines()]
    assert [call[1] for call in calls] == ["show", "push", "push", "push"]


def test_a_chart_that_is_not_packed_is_not_pushed(world, dist, capsys):
    world.says("helm show", status=1, err=f"{release.CHARTS}/petasos:0.5.2: not found")
    with pytest.raises(AssertionError):
        world.run("chart", "v0.5.2")
    assert "dist/ lacks petasos-0.5.2.tgz: helm package" in capsys.readouterr().err


def test_each_step_is_in_the_workflow():
    workflow = (Path(__file__).parent.parent / ".github/workflows/release.yml").read_text(encoding="utf-8")
    assert [step for step in release.STEPS if f"tools/release.py {step} " not in workflow] == []


@pytest.mark.parametrize(("tag", "npm"), [("v0.5.2", "latest"), ("v0.6.0-rc.2", "next"), ("v0.4.9", "older")])
def test_the_client_is_published_once_under_a_tag_that_fits(world, tag, npm):
    world.says("npm view", status=1, err="npm error code E404")
    publish = world.run("client", tag)[-1]
    assert publish[:2] == ["npm", "publish"]
    assert publish[publish.index("--tag") + 1] == npm
    world.says("npm view", out=tag[1:])
    assert world.run("client", tag) == []


@pytest.mark.parametrize("error", ["dial tcp: lookup example.com: no such host", "401 Unauthorized", ""])
@pytest.mark.parametrize(
    ("step", "question"),
    [("draft", "gh view"), ("client", "npm view"), ("image", "docker inspect"), ("chart", "helm show")],
)
def test_what_cannot_be_asked_does_not_count_as_missing(step, question, error, world, dist, capsys):
    world.says(question, status=1, err=error)
    with pytest.raises(AssertionError):
        world.run(step, "v0.5.2")
    assert (error or "exit code 1") in capsys.readouterr().err
    calls = [json.loads(line) for line in (world.directory / "calls").read_text().splitlines()]
    assert len(calls) == 1, "it has asked, and did nothing more"


CRATES = [
    {"name": "b", "publish": None, "dependencies": [{"name": "a", "kind": None}, {"name": "serde", "kind": None}]},
    {"name": "a", "publish": None, "dependencies": [{"name": "c", "kind": "dev"}, {"name": "z", "kind": None}]},
    {"name": "c", "publish": None, "dependencies": [{"name": "b", "kind": "build"}]},
    {"name": "z", "publish": None, "dependencies": []},
    {"name": "module", "publish": [], "dependencies": [{"name": "b", "kind": None}]},
]


def test_crates_are_published_behind_what_they_need():
    assert release.crate_order(CRATES) == ["z", "a", "b", "c"]


def test_crates_that_are_published_already_are_passed_over(world):
    world.says("cargo metadata", out=json.dumps({"packages": CRATES}))
    world.says("cargo publish a", status=101, err="error: crate a@0.5.2 already exists on crates.io index")
    assert [call[-1] for call in world.run("crates", "v0.5.2")] == ["z", "a", "b", "c"]


def test_a_crate_that_cannot_be_published_ends_the_step(world, capsys):
    world.says("cargo metadata", out=json.dumps({"packages": CRATES}))
    world.says("cargo publish a", status=101, err="error: the token is wrong")
    with pytest.raises(AssertionError):
        world.run("crates", "v0.5.2")
    assert "a could not be published" in capsys.readouterr().err
    assert 'publish", "--locked", "-p", "b"' not in (world.directory / "calls").read_text()


@pytest.mark.skipif(shutil.which("cargo") is None, reason="cargo is not installed")
def test_the_crates_of_this_workspace_have_an_order():
    described = release.answer("cargo", "metadata", "--locked", "--no-deps", "--format-version", "1")
    order = release.crate_order(json.loads(described)["packages"])
    assert order[0] == "petasos-protocol"
    assert order[-1] == "petasos"
    assert "petasos-python" not in order


def test_documents_name_the_oldest_rust_of_the_manifest():
    oldest = re.search(r'^rust-version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    named = re.findall(r"\[Rust\]\(https://rustup.rs\) ([\d.]+) or later", (ROOT / "docs/installing.md").read_text())
    assert named == [oldest]
    pinned = re.search(r'^channel = "(.+)"', (ROOT / "rust-toolchain.toml").read_text(), re.MULTILINE)[1]
    assert [int(part) for part in oldest.split(".")] <= [int(part) for part in pinned.split(".")]


def test_the_installed_package_delivers():
    """What the workflows run on every version of Python."""
    assert load("smoke").main() == 0
