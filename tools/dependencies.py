"""Checks the crates that the workspace depends on: ``python3 tools/dependencies.py``.

- Each licence is one that ``deny.toml`` allows.
- Each crate is there in one version. An older version stands in ``deny.toml`` with its reason, and no reason stands
  there for a version that is gone.
- Each crate comes from crates.io or from this repository.
- Each dependency of each crate here is used in its sources.

``cargo-deny``, which ``tools/audit.py`` runs, checks the first three, too. This script needs nothing but cargo, so that
it is also a test. It reads the answer of ``cargo metadata`` and takes a second."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent

CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"

Package = dict[str, Any]
"""A package as ``cargo metadata`` describes it."""


def problems(packages: list[Package], rules: dict[str, Any]) -> Iterator[str]:
    """All that is wrong, each as a sentence."""
    yield from wrong_licences(packages, set(rules["licenses"]["allow"]))
    yield from second_versions(packages, [entry["crate"] for entry in rules["bans"]["skip"]])
    for package in packages:
        if package["source"] not in (None, CRATES_IO):
            yield f"{package['name']} comes from {package['source']}: only crates.io is allowed"
    for package in packages:
        if package["source"] is None:
            yield from unused(package)


def wrong_licences(packages: list[Package], allowed: set[str]) -> Iterator[str]:
    for package in packages:
        licence = package["license"] or "no licence"
        if not is_allowed(licence, allowed):
            yield f"{package['name']} {package['version']} has {licence}, which [licenses] of deny.toml does not allow"


def is_allowed(expression: str, allowed: set[str]) -> bool:
    """Whether an SPDX expression leaves a choice of allowed licences only. Old crates write ``/`` for ``OR``."""
    tokens = re.findall(r"\(|\)|[^\s()/]+(?: WITH \S+)?|/", expression)

    def any_of() -> bool:
        value = all_of()
        while tokens and tokens[0] in ("OR", "/"):
            tokens.pop(0)
            value = all_of() or value
        return value

    def all_of() -> bool:
        value = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            value = one() and value
        return value

    def one() -> bool:
        token = tokens.pop(0) if tokens else ""
        if token != "(":
            return token in allowed
        value = any_of()
        return bool(tokens) and tokens.pop(0) == ")" and value

    return any_of() and not tokens


def second_versions(packages: list[Package], known: list[str]) -> Iterator[str]:
    versions = defaultdict(set)
    for package in packages:
        versions[package["name"]].add(package["version"])

    def order(version: str) -> list[tuple[bool, int, str]]:
        parts = re.split(r"[.+-]", version)
        return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]

    older = {f"{name}@{version}" for name, all_of in versions.items() for version in sorted(all_of, key=order)[:-1]}
    for crate in sorted(older - set(known)):
        yield f"{crate} stands beside a newer version: give it up, or write its reason under [bans] of deny.toml"
    for crate in sorted(set(known) - older):
        yield f"{crate} stands beside no newer version any more: take it out of [bans] of deny.toml"


def unused(package: Package) -> Iterator[str]:
    folder = Path(package["manifest_path"]).parent
    sources = {kind: texts(folder, kind) for kind in ("src", "tests", "benches", "examples", "fuzz_targets")}
    for dependency in package["dependencies"]:
        if dependency["kind"] == "build" or (dependency["optional"] and is_only_for_features(package, dependency)):
            continue
        name = (dependency["rename"] or dependency["name"]).replace("-", "_")
        places = ["src"] if dependency["kind"] is None else list(sources)
        if not any(re.search(rf"\b{name}\b", sources[place]) for place in places):
            yield f"{package['name']} does not use its dependency {dependency['name']}"


def is_only_for_features(package: Package, dependency: Package) -> bool:
    """Whether an optional dependency is only turned on by the feature ``as-in-tests``, which unifies features."""
    name = f"dep:{dependency['name']}"
    return {feature for feature, parts in package["features"].items() if name in parts} == {"as-in-tests"}


def texts(folder: Path, kind: str) -> str:
    """The sources in a folder, without comments."""
    files = sorted((folder / kind).rglob("*.rs"))
    return re.sub(r"//[^\n]*", "", "\n".join(file.read_text(encoding="utf-8") for file in files))


def main() -> int:
    rules = tomllib.loads((ROOT / "deny.toml").read_text(encoding="utf-8"))
    command = ["cargo", "metadata", "--locked", "--format-version", "1", "--all-features"]
    command += [f"--filter-platform={target}" for target in rules["graph"]["targets"]]
    answer = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    found = list(problems(json.loads(answer.stdout)["packages"], rules))
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
