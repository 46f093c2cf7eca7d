"""A known vulnerability is always a failure, and what could not be looked at is said."""

from __future__ import annotations

import json

import pytest

from scripts import load

audit = load("audit")
Result = audit.Result

ADVISORY = "error[vulnerability]: a hole\n  ├ ID: RUSTSEC-2026-0001\n"
OFFLINE = "[ERROR] failed to fetch advisory database https://… with cli: failed to clone\n"


def answer(*packages: tuple[str, dict[str, object]]) -> str:
    return json.dumps({"dependencies": [{"name": name, "version": "1.0", **rest} for name, rest in packages]})


FINE: dict[str, object] = {"vulns": []}
BAD: dict[str, object] = {"vulns": [{"id": "PYSEC-2026-1"}]}
SKIPPED: dict[str, object] = {"skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("status", "errors", "result"),
    [
        (0, "advisories ok", Result.FINE),
        (1, ADVISORY, Result.FOUND),
        (1, OFFLINE, Result.NOT_CHECKED),
        (1, "something else", Result.FOUND),
        (127, "cargo-deny is not installed", Result.NOT_CHECKED),
    ],
)
def test_answers_about_crates(status, errors, result):
    judged, text = audit.judged_crates(status, errors)
    assert judged is result
    assert text.startswith("not checked here: ") is (result is Result.NOT_CHECKED)


@pytest.mark.parametrize(
    ("status", "out", "errors", "result"),
    [
        (0, answer(("flask", FINE)), "", Result.FINE),
        (0, answer(("flask", FINE), ("flask-mercure-sse", SKIPPED)), "", Result.FINE),
        (1, answer(("flask", BAD)), "Found 1 known vulnerability", Result.FOUND),
        (1, answer(("flask", BAD), ("other", SKIPPED)), "", Result.FOUND),
        (0, answer(("flask", FINE), ("other", SKIPPED)), "", Result.NOT_CHECKED),
        (1, "", "requests.exceptions.ConnectionError: no route", Result.NOT_CHECKED),
        (2, "", "unknown option", Result.FOUND),
        (1, answer(("flask", FINE)), "something else", Result.FOUND),
        (0, "[]", "", Result.FOUND),
    ],
)
def test_answers_about_python_packages(status, out, errors, result):
    judged, text = audit.judged_packages(status, out, errors)
    assert judged is result
    assert text.startswith("not checked here: ") is (result is Result.NOT_CHECKED)


@pytest.mark.parametrize(
    ("advisories", "packages", "lenient", "strict"),
    [
        ((0, "", ""), (0, answer(("flask", FINE)), ""), 0, 0),
        ((1, "", OFFLINE), (0, answer(("flask", SKIPPED)), ""), 0, 1),
        ((1, "", ADVISORY), (0, answer(("flask", SKIPPED)), ""), 1, 1),
        ((1, "", OFFLINE), (1, answer(("flask", BAD)), ""), 1, 1),
    ],
)
def test_a_finding_is_never_hidden_by_what_was_not_checked(advisories, packages, lenient, strict, monkeypatch, capsys):
    def run(*command: str) -> tuple[int, str, str]:
        return packages if command[0] == "pip-audit" else advisories if "advisories" in command else (0, "", "")

    monkeypatch.setattr(audit, "run", run)
    assert audit.main([]) == lenient
    assert audit.main(["--strict"]) == strict
    assert len(capsys.readouterr().out.splitlines()) >= 6
