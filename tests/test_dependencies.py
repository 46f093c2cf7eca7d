"""The crates that the workspace depends on are allowed, single and used, and the script that says so finds others."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from scripts import load

dependencies = load("dependencies")

RULES = {"licenses": {"allow": ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"]}, "bans": {"skip": []}}


def package(name: str, version: str = "1.0.0", **other: Any) -> dict[str, Any]:
    fields = {"source": dependencies.CRATES_IO, "license": "MIT", "dependencies": [], "features": {}}
    return {"name": name, "version": version, **fields, **other}


@pytest.mark.skipif(shutil.which("cargo") is None, reason="cargo is not installed")
def test_the_dependencies_are_allowed_single_and_used(capfd: pytest.CaptureFixture[str]) -> None:
    assert dependencies.main() == 0, capfd.readouterr().out


@pytest.mark.parametrize(
    ("expression", "is_allowed"),
    [
        ("MIT", True),
        ("GPL-3.0", False),
        ("", False),
        ("no licence", False),
        ("MIT OR GPL-3.0", True),
        ("GPL-3.0/MIT", True),
        ("MIT AND GPL-3.0", False),
        ("MIT AND ISC", True),
        ("GPL-3.0 OR MIT AND ISC", True),
        ("(GPL-3.0 OR MIT) AND ISC", True),
        ("ISC AND (GPL-3.0 OR AGPL-3.0)", False),
        ("ISC AND (MIT OR GPL-3.0", False),
        ("Apache-2.0", False),
        ("Apache-2.0 WITH LLVM-exception OR GPL-3.0", True),
    ],
)
def test_a_licence_is_allowed_if_it_leaves_a_choice_of_allowed_ones(expression: str, is_allowed: bool) -> None:
    assert dependencies.is_allowed(expression, set(RULES["licenses"]["allow"])) is is_allowed
    found = list(dependencies.problems([package("a", license=expression)], RULES))
    assert bool(found) is not is_allowed


def test_an_older_version_needs_a_reason_and_a_reason_needs_an_older_version() -> None:
    packages = [package("a", "0.9.0"), package("a", "0.10.0"), package("b")]

    def named(*known: str) -> list[str]:
        rules = {**RULES, "bans": {"skip": [{"crate": crate, "reason": "r"} for crate in known]}}
        return [problem.split()[0] for problem in dependencies.problems(packages, rules)]

    assert named() == ["a@0.9.0"]
    assert named("a@0.9.0") == []
    assert named("a@0.9.0", "a@0.10.0", "b@1.0.0") == ["a@0.10.0", "b@1.0.0"]


def test_a_crate_from_elsewhere_is_found() -> None:
    (problem,) = dependencies.problems([package("a", source="git+https://example.com/a")], RULES)
    assert problem.startswith("a comes from git+https://example.com/a")


def test_a_dependency_that_no_source_names_is_found(tmp_path: Path) -> None:
    def dependency(name: str, kind: str | None = None, rename: str | None = None, optional: bool = False) -> Any:
        return {"name": name, "kind": kind, "rename": rename, "optional": optional}

    (tmp_path / "src").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "src" / "lib.rs").write_text("use used_here::x; // unused\nfn f() { other::g() }")
    (tmp_path / "tests" / "t.rs").write_text("use in_tests::x;")
    ours = package(
        "ours",
        source=None,
        manifest_path=str(tmp_path / "Cargo.toml"),
        features={"as-in-tests": ["dep:only-unified"], "more": ["dep:optional"]},
        dependencies=[
            dependency("used-here"),
            dependency("renamed", rename="other"),
            dependency("unused"),
            dependency("in-tests", "dev"),
            dependency("in_tests"),
            dependency("unused-dev", "dev"),
            dependency("build-script", "build"),
            dependency("only-unified", optional=True),
            dependency("optional", optional=True),
        ],
    )
    found = [problem.removeprefix("ours does not use its dependency ") for problem in dependencies.unused(ours)]
    assert found == ["unused", "in_tests", "unused-dev", "optional"]
