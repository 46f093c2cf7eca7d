"""The public interface of the Python package is the one that has been agreed on: ``tests/api.txt``."""

from __future__ import annotations

import difflib

import pytest

from scripts import load

api = load("api")

ADVICE = """
If applications may notice the change, say so in CHANGELOG.md (what they have to change, if it breaks them).
Then accept it: make api"""


def difference(agreed: str, now: str) -> str:
    """What was added (+) and what has gone or changed (-). Empty: nothing."""
    changes = difflib.unified_diff(agreed.splitlines(), now.splitlines(), "agreed", "now", n=0, lineterm="")
    return "\n".join(line for line in changes if not line.startswith(("---", "+++", "@@")))


def test_the_public_interface_is_the_agreed_one():
    changes = difference(api.AGREED.read_text(encoding="utf-8"), "\n".join(api.lines()))
    assert not changes, f"the public interface of flask_mercure_sse has changed:\n{changes}\n{ADVICE}"


def test_a_change_is_shown_by_its_lines():
    agreed = "module m\n  f(a: int) -> str\n  g()\n"
    assert difference(agreed, agreed) == ""
    assert difference(agreed, agreed.replace("a: int", "a: int, *, b: str = 'c'")) == (
        "-  f(a: int) -> str\n+  f(a: int, *, b: str = 'c') -> str"
    )


class Example:
    kept: int
    _hidden: int

    def method(self, a: str, /, b: int = 1, *others: bytes, c: object = object, **rest: str) -> None: ...

    @property
    def value(self) -> int:
        return 1

    @classmethod
    def made(cls, *, by: str) -> Example:
        return cls()

    @staticmethod
    def alone() -> None: ...


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("method", "method(a: str, /, b: int = 1, *others: bytes, c: object = <type>, **rest: str) -> None"),
        ("value", "property value() -> int"),
        ("made", "classmethod made(*, by: str) -> Example"),
        ("alone", "staticmethod alone() -> None"),
    ],
)
def test_members_are_written_with_their_types(name, line):
    assert api.member(name, vars(Example)[name]) == line


def test_the_compiled_class_is_described_by_its_stubs():
    assert any(line.startswith("publish(") and "->" in line for line in api.stubs("Hub"))
