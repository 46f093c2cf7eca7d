"""The steps of a release that publish something: ``python3 tools/release.py STEP vVERSION``.

``.github/workflows/release.yml`` runs them, in this order. Each looks first at what is published already and does only
what is missing. So a release that has failed half-way is run again, and nothing is published twice.

- ``check``: the tag is the version of this commit, the changelog has notes for it, and no document says that nothing
  is released yet.
- ``draft``: a draft of the release on GitHub with the notes and all files of ``dist/``, and their checksums.
- ``wheels``: the wheels and the source distribution, to PyPI, with attestations.
- ``crates``: the crates, in the order of their dependencies, to crates.io.
- ``client``: ``petasos-client``, to npm.
- ``image``: the image for both architectures, from the binaries in ``dist/``.
- ``chart``: the Helm chart, from ``dist/``.
- ``publish``: the draft becomes public.

Only the newest version that is no pre-release is "latest": neither a pre-release nor a correction of an older version
moves the tags that people follow. Tokens come from the environment, as ``gh``, ``cargo``, ``npm``,
``docker`` and ``helm`` read them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import changelog
import version as versions
from version import Version

ROOT = Path(__file__).resolve().parent.parent
IMAGE = "ghcr.io/flask-mercure-sse/petasos"
CHARTS = "ghcr.io/flask-mercure-sse/charts"
PLATFORMS = "linux/amd64,linux/arm64"

ALREADY_THERE = ("already exists on", "is already uploaded")
"""What cargo says of a version that was published before."""


class ReleaseError(Exception):
    """The release cannot go on. The text says what to change."""


def run(*command: str | Path) -> None:
    """Runs a command and shows its output.

    Raises:
        ReleaseError: it has failed."""
    print("$", *command, flush=True)
    if subprocess.run(command, cwd=ROOT).returncode != 0:
        raise ReleaseError(f"{command[0]} has failed: mend what it says, and run this step again")


def answer(*command: str, absent: str | None = None) -> str | None:
    """What a command prints. ``None``: what it asks for is not there, because it has failed and said ``absent``.

    Raises:
        ReleaseError: it has failed for another reason, such as the network: nobody knows what is published."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 0:
        return done.stdout.strip()
    if absent is not None and absent in done.stderr:
        return None
    said = done.stderr.strip() or f"exit code {done.returncode}"
    raise ReleaseError(f"{' '.join(command)} has failed: mend what it says, and run this step again\n{said}")


def is_latest(version: Version, tags: Iterable[str]) -> bool:
    """Whether people who ask for no version get this one: it is no pre-release, and no tag is newer that is none."""
    return not version.is_pre_release and all(other <= version for other in releases(tags))


def is_newest_of_its_line(version: Version, tags: Iterable[str]) -> bool:
    """Whether people who ask for the minor version, such as 1.2, get this one."""
    line = [other for other in releases(tags) if (other.major, other.minor) == (version.major, version.minor)]
    return not version.is_pre_release and all(other <= version for other in line)


def releases(tags: Iterable[str]) -> list[Version]:
    """The versions of tags that are no pre-releases. Other tags do not count."""
    found = []
    for tag in tags:
        if tag.startswith("v") and versions.PATTERN.fullmatch(tag[1:]):
            found.append(Version.parse(tag[1:]))
    return [each for each in found if not each.is_pre_release]


def git_tags() -> list[str]:
    tags = answer("git", "tag", "--list", "v*")
    if not tags:
        raise ReleaseError("there are no tags: check the repository out with all of them (fetch-depth: 0)")
    return tags.split()


def image_tags(version: Version, tags: Iterable[str]) -> list[str]:
    """The tags of the image, beside its version, that move to it."""
    tags = list(tags)
    moved = [f"{version.major}.{version.minor}"] if is_newest_of_its_line(version, tags) else []
    return [*moved, "latest"] if is_latest(version, tags) else moved


def crate_order(packages: list[dict[str, Any]]) -> list[str]:
    """The crates of the workspace that are published, each behind those that it depends on."""
    names = {package["name"]: package for package in packages if package["publish"] != []}
    ordered: list[str] = []

    def place(name: str) -> None:
        needed = [each["name"] for each in names[name]["dependencies"] if each["kind"] != "dev"]
        for each in needed:
            if each in names and each != name and each not in ordered:
                place(each)
        if name not in ordered:
            ordered.append(name)

    for name in sorted(names):
        place(name)
    return ordered


def check(version: Version) -> None:
    found = list(versions.differences())
    if found:
        raise ReleaseError("\n".join(found))
    current = versions.current()
    if version != current:
        raise ReleaseError(f"the tag is v{version}, and this commit is {current}: tag the commit that has the version")
    if not version.is_pre_release and (found := list(versions.outdated())):
        raise ReleaseError("\n".join(found))
    changelog.notes((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version)
    print(f"{version} can be released; latest: {is_latest(version, git_tags())}")


def draft(version: Version) -> None:
    tag = f"v{version}"
    files = write_sums(ROOT / "dist")
    existing = answer("gh", "release", "view", tag, "--json", "isDraft", absent="release not found")
    if existing is not None and not json.loads(existing)["isDraft"]:
        print(f"{tag} is public already: its files stay as they are")
        return
    if existing is None:
        notes = changelog.notes((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), version)
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "notes.md")
            path.write_text(notes + "\n", encoding="utf-8")
            kind = ["--prerelease"] if version.is_pre_release else []
            run("gh", "release", "create", tag, "--verify-tag", "--draft", "--title", tag, "--notes-file", path, *kind)
    run("gh", "release", "upload", tag, "--clobber", *files)


def write_sums(directory: Path) -> list[Path]:
    """Writes ``SHA256SUMS``, as ``sha256sum`` reads it: each part of ``make dist`` has brought one of its own."""
    files = sorted(path for path in directory.iterdir() if path.is_file() and path.name != "SHA256SUMS")
    if not files:
        raise ReleaseError(f"{directory.name}/ is empty: run make dist")
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    sums = directory / "SHA256SUMS"
    sums.write_text("".join(lines), encoding="utf-8")
    return [*files, sums]


def wheels(version: Version) -> None:
    """twine passes over files that PyPI has."""
    python = version.for_python()
    dist = ROOT / "dist"
    files = sorted([*dist.glob(f"flask_mercure_sse-{python}-*.whl"), dist / f"flask_mercure_sse-{python}.tar.gz"])
    missing = [path.name for path in files if not path.exists()]
    if missing or len(files) < 2:
        raise ReleaseError(f"dist/ lacks {', '.join(missing) or 'wheels'} of {python}: run make dist")
    attestations = [Path(f"{path}.publish.attestation") for path in files]
    for path in attestations:
        path.unlink(missing_ok=True)
    run("pypi-attestations", "sign", *files)
    run("twine", "upload", "--non-interactive", "--skip-existing", "--attestations", *files, *attestations)


def crates(version: Version) -> None:
    described = answer("cargo", "metadata", "--locked", "--no-deps", "--format-version", "1")
    for name in crate_order(json.loads(described or "{}")["packages"]):
        print(f"$ cargo publish -p {name}", flush=True)
        # make publish-check has compiled it from its package: the token ends before that could be done again.
        command = ["cargo", "publish", "--locked", "--no-verify", "-p", name]
        done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0 and any(text in done.stderr for text in ALREADY_THERE):
            print(f"{name} {version} is published already")
            continue
        print(done.stderr, file=sys.stderr)
        if done.returncode != 0:
            raise ReleaseError(f"{name} could not be published: mend what cargo says, and run this step again")


def client(version: Version) -> None:
    if answer("npm", "view", f"petasos-client@{version}", "version", absent="E404"):
        print(f"petasos-client {version} is published already")
        return
    run("npm", "--prefix", "client", "ci")
    tag = "latest" if is_latest(version, git_tags()) else "next" if version.is_pre_release else "older"
    run("npm", "publish", "./client", "--access", "public", "--provenance", "--tag", tag)


def image(version: Version) -> None:
    name = f"{IMAGE}:{version}"
    if answer("docker", "buildx", "imagetools", "inspect", name, absent=f"{name}: not found") is None:
        command = ["docker", "buildx", "build", "--platform", PLATFORMS, "--file", "deploy/Dockerfile"]
        revision = answer("git", "rev-parse", "HEAD") or "unknown"
        for argument in ("BINARY=prebuilt", f"VERSION={version}", f"REVISION={revision.strip()}"):
            command += ["--build-arg", argument]
        command += ["--provenance", "mode=max", "--sbom", "true"]
        run(*command, "--tag", name, "--push", ".")
    else:
        print(f"{name} is published already")
    for tag in image_tags(version, git_tags()):
        run("docker", "buildx", "imagetools", "create", "--tag", f"{IMAGE}:{tag}", name)


def chart(version: Version) -> None:
    name = f"{CHARTS}/petasos:{version}"
    shown = ("helm", "show", "chart", f"oci://{CHARTS}/petasos", "--version", str(version))
    if answer(*shown, absent=f"{name}: not found") is not None:
        print(f"{name} is published already")
        return
    file = ROOT / "dist" / f"petasos-{version}.tgz"
    if not file.exists():
        raise ReleaseError(f"dist/ lacks {file.name}: helm package deploy/chart/petasos --destination dist")
    for attempt in range(1, CHART_ATTEMPTS + 1):
        try:
            run("helm", "push", file, f"oci://{CHARTS}")
            break
        except ReleaseError:
            if attempt == CHART_ATTEMPTS:
                raise
            time.sleep(CHART_PAUSE_SECONDS)


CHART_ATTEMPTS, CHART_PAUSE_SECONDS = 3, 10.0
"""GitHub's registry may not know yet of an upload when helm gives it a tag. A second push then adds the tag."""


def publish(version: Version) -> None:
    kind = "--prerelease" if version.is_pre_release else "--prerelease=false"
    latest = "true" if is_latest(version, git_tags()) else "false"
    run("gh", "release", "edit", f"v{version}", "--draft=false", kind, f"--latest={latest}")


STEPS: dict[str, Callable[[Version], None]] = {
    "check": check,
    "draft": draft,
    "wheels": wheels,
    "crates": crates,
    "client": client,
    "image": image,
    "chart": chart,
    "publish": publish,
}


def main(arguments: list[str]) -> int:
    if len(arguments) != 2 or arguments[0] not in STEPS or not arguments[1].startswith("v"):
        print(f"usage: python3 tools/release.py {'|'.join(STEPS)} vVERSION", file=sys.stderr)
        return 2
    try:
        STEPS[arguments[0]](Version.parse(arguments[1][1:]))
    except (ReleaseError, changelog.WrongChangelogError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
