"""No source files import each other in a circle, and the script that says so finds circles."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import load

circles = load("circles")


def found(root: Path, files: dict[str, str]) -> list[list[str]]:
    """The circles in these files, each as its ties: ``a imports NAME of b``."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    groups = [group for of_folder in circles.find(root).values() for group in of_folder]
    return [[f"{tie.importer.stem} imports {tie.name} of {tie.imported.stem}" for tie in group] for group in groups]


def crate(**files: str) -> dict[str, str]:
    sources = {f"crates/c/src/{name.replace('__', '/')}.rs": text for name, text in files.items()}
    return {"crates/c/Cargo.toml": "", "crates/c/src/lib.rs": "", **sources}


def package(**files: str) -> dict[str, str]:
    sources = {f"python/p/{name}.py": text for name, text in files.items()}
    return {"python/p/__init__.py": "", **sources}


def test_no_source_files_import_each_other_in_a_circle(capsys: pytest.CaptureFixture[str]) -> None:
    assert circles.main() == 0, capsys.readouterr().out


def test_a_circle_is_printed_with_the_imports_that_tie_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found(tmp_path, crate(a="use crate::b::{B, C};", b="use crate::a::A;"))
    assert circles.main(tmp_path) == 1
    assert capsys.readouterr().out.splitlines() == [
        "c: 2 files import each other:",
        "  crates/c/src/a.rs imports B, C of crates/c/src/b.rs",
        "  crates/c/src/b.rs imports A of crates/c/src/a.rs",
    ]


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("use crate::b::B;", "use super::a::A;"),
        ("use crate::{c::C, b::{self, B as Other}};", "pub(crate) fn f(a: &crate::a::A) {}"),
        ("fn f() { crate::b::f() }", "use crate::a;"),
        ("pub use super::b::B;", "use crate::{\n    a::{A},\n};"),
    ],
)
def test_a_circle_of_two_rust_files_is_found_in_each_spelling(tmp_path: Path, a: str, b: str) -> None:
    assert len(found(tmp_path, crate(a=a, b=b, c=""))) == 1


def test_a_circle_through_names_that_only_a_root_hands_on_is_found(tmp_path: Path) -> None:
    files = crate(
        lib="mod room; mod a; pub use room::B;",
        room__mod="mod b; pub use b::Inner as B;",
        room__b="use crate::a::A;",
        a="use crate::B;",
    )
    assert found(tmp_path, files) == [["a imports B of b", "b imports A of a"]]


def test_larger_circles_are_found_whole_and_apart(tmp_path: Path) -> None:
    files = crate(
        a="use crate::b::B;",
        b="use crate::c::C;",
        c="use crate::a::A; use crate::d::D;",
        d="use crate::e::E;",
        e="use crate::d::D;",
    )
    names = [[tie.split()[0] for tie in group] for group in found(tmp_path, files)]
    assert names == [["a", "b", "c"], ["d", "e"]]


def test_tests_comments_and_texts_do_not_count(tmp_path: Path) -> None:
    a = """
        //! use crate::b::B;
        /* use crate::b::B; */
        #[cfg(test)]
        use crate::b::{B, C};
        const TEXT: &str = "use crate::b::B; \\" {";
        const RAW: &str = r#"use crate::b::B; " {"#;
        const BRACES: [char; 3] = ['{', '"', '\\''];
        #[cfg(test)]
        mod tests { use crate::b::B; }
    """
    assert found(tmp_path, crate(a=a, b="use crate::a::A;")) == []


def test_what_stands_behind_an_item_for_tests_counts(tmp_path: Path) -> None:
    a = "#[cfg(test)] fn only() -> [u8; 1] { [0] }\nuse crate::b::B;"
    assert len(found(tmp_path, crate(a=a, b="use crate::a::A;"))) == 1


def test_a_folder_and_its_files_are_no_circle(tmp_path: Path) -> None:
    files = crate(room__mod="mod a; use self::a::A; pub struct Room;", room__a="use super::Room;")
    assert found(tmp_path, files) == []


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("from . import b", "from .a import A"),
        ("from .b import (\n    B,\n    C,\n)", "from p.a import A"),
        ("import p.b", "def f():\n    from . import a"),
    ],
)
def test_a_circle_of_two_python_files_is_found_in_each_spelling(tmp_path: Path, a: str, b: str) -> None:
    assert len(found(tmp_path, package(a=a, b=b))) == 1


def test_a_circle_through_names_that_only_the_package_hands_on_is_found(tmp_path: Path) -> None:
    room = {"room/__init__": "from .b import B", "room/b": "from ..a import A"}
    files = package(a="from .room import B", **room)
    assert found(tmp_path, files) == [["a imports B of b", "b imports A of a"]]


def test_imports_for_a_type_checker_do_not_count(tmp_path: Path) -> None:
    a = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .b import B"
    assert found(tmp_path, package(a=a, b="from .a import A")) == []
