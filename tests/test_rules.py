"""The rules for tests that a reader can check: no test sleeps, and none chooses a port for somebody else."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTS = [
    *ROOT.glob("crates/*/tests/**/*.rs"),
    *ROOT.glob("bench/tests/**/*.rs"),
    ROOT / "crates/hub/src/log/conformance.rs",
    *ROOT.glob("tests/**/*.py"),
]
# Both are found in their own words: this file is left out.
SLEEP = re.compile(r"\bsleep\((?!0\))|\bsleep_until\(|wait_for_timeout|Event\(\)\.wait\(")
CHOICE = re.compile(r"free_port|\.bind\(\(.*, 0\)\)|bind\([^)]*:0\"\)[^;]*local_addr\(\)[^;]*port\(\)")


def found(pattern: re.Pattern[str], *allowed: str) -> list[str]:
    places = []
    for path in TESTS:
        # A program with a client library is no test: it waits before it connects again, as its users do.
        if path.name in ("test_rules.py", *allowed) or path.match("clients_matrix/python/with_*.py"):
            continue
        is_paused, before = False, ""
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if "::test" in line:
                is_paused = "start_paused = true" in line
            # Where the clock is paused, a sleep moves it and takes no time.
            if pattern.search(line) and not is_paused and "Sleeps: " not in before:
                places.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
            before = line
    return places


def test_no_test_sleeps():
    """It waits for an event, or with ``wait_until`` (Python) and ``until`` or ``Wait`` (Rust) for a fact.
    Where only time can be waited for, the line before says why: ``Sleeps: …``."""
    assert found(SLEEP) == []


def test_no_test_chooses_a_port_that_another_process_binds_later():
    """The server chooses, with port 0, or the test holds the port: ``Port``, in both languages."""
    assert found(CHOICE, "ports.py", "test_ports.py") == []
