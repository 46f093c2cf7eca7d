"""The summary of ``make test``, and its exit code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import load

SCRIPT = Path(__file__).parent.parent / "tools" / "run_tests.py"

PASSING = """
   Compiling petasos v0.5.0
     Running unittests src/lib.rs (target/debug/deps/petasos-1)

running 2 tests
test config::a ... ok
test config::b ... ok

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s

"""

SKIPPING = """
     Running tests/nats.rs (target/debug/deps/nats-1)

running 4 tests
test a_part ... ignored, run by another
test not_here ... ignored, needs a disk
test conformance ... FAILED
test works ... ok

failures:

---- conformance stdout ----

thread 'conformance' (7) panicked at crates/transports/tests/support/server.rs:1:5:
skipped: nats-server is not installed
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace


failures:
    conformance

test result: FAILED. 1 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.01s

error: test failed, to rerun pass `-p petasos-transports --test nats`
"""

FAILING = """
     Running tests/redis.rs (target/debug/deps/redis-1)

running 1 test
test conformance ... FAILED

failures:

---- conformance stdout ----

thread 'conformance' (7) panicked at crates/transports/tests/redis.rs:1:5:
assertion failed: the text says "skipped: nothing"


failures:
    conformance

test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s

error: 2 targets failed:
"""

CRASHING = """
     Running tests/durable.rs (target/debug/deps/durable-1)

running 1 test
error: test failed, to rerun pass `-p petasos-transports --test durable`
  process didn't exit successfully (signal: 6, SIGABRT: process abort signal)
"""

REPORT = """<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest">
<testcase classname="tests.test_a" name="test_one" time="0.1" />
<testcase classname="tests.test_a" name="test_two"><skipped message="Go is too old">x</skipped></testcase>
{failure}</testsuite></testsuites>"""

FAILURE = '<testcase classname="tests.test_a" name="test_three"><failure message="assert">x</failure></testcase>'


@pytest.fixture(scope="module")
def run_tests():
    return load("run_tests")


def test_a_missing_server_is_skipped_and_says_why(run_tests):
    result = run_tests.read_cargo((PASSING + SKIPPING).splitlines(), 101)
    assert str(result) == "3 passed, 0 failed, 2 skipped"
    assert result.skipped == {"nats-server is not installed": 1, "needs a disk": 1}


def test_tests_of_one_name_in_two_programs_are_two(run_tests):
    result = run_tests.read_cargo((SKIPPING + FAILING).splitlines(), 101)
    assert (result.failed, result.skipped.total()) == (["conformance"], 2)


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ("error: could not compile `petasos`", 101),
        (PASSING + CRASHING, 101),
        (PASSING, 101),
        (PASSING, -9),
        (FAILING, 0),
        (PASSING.replace("0 failed", "1 failed"), 101),
        ("", 0),
    ],
)
def test_what_did_not_run_to_its_end_has_failed(output, code, run_tests):
    assert any("did not run to its end" in name for name in run_tests.read_cargo(output.splitlines(), code).failed)


def test_the_time_of_each_program_and_test_is_kept(run_tests):
    doc_tests = PASSING.replace("Running unittests src/lib.rs (target/debug/deps/petasos-1)", "Doc-tests petasos")
    cargo = run_tests.read_cargo((PASSING + doc_tests).replace("0.01s", "2.50s").splitlines(), 0)
    assert cargo.times == [(2.5, "petasos: src/lib.rs"), (2.5, "petasos: documentation tests")]
    pytest = run_tests.read_pytest(REPORT.format(failure=""), 0)
    assert max(pytest.times) == (0.1, "tests.test_a::test_one")


def test_the_report_of_pytest_is_read(run_tests):
    result = run_tests.read_pytest(REPORT.format(failure=""), 0)
    assert (str(result), result.skipped) == ("1 passed, 0 failed, 1 skipped", {"Go is too old": 1})
    assert run_tests.read_pytest(REPORT.format(failure=FAILURE), 1).failed == ["tests.test_a::test_three"]
    for report, code in ((None, 0), (REPORT.format(failure=""), 1), (REPORT.format(failure=""), 2)):
        assert any("did not run to its end" in name for name in run_tests.read_pytest(report, code).failed)


@pytest.mark.parametrize(("last", "code"), [("", 0), (FAILING, 1)])
def test_the_last_line_sums_up_and_the_exit_code_agrees(last, code, tmp_path):
    """The script runs as in ``make test``, with another cargo, pip and python."""
    programs = {
        "cargo": f"cat <<'END'\n{PASSING + SKIPPING + last}\nEND\nexit 101",
        "pip": "exit 0",
        "python": f"for last; do :; done; cat >\"${{last#--junitxml=}}\" <<'END'\n{REPORT.format(failure='')}\nEND\n",
    }
    (tmp_path / "bin").mkdir()
    for name, text in programs.items():
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/sh\n{text}")
        program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "TEST_VENV": str(tmp_path)}
    script = tmp_path / "tools" / "run_tests.py"
    script.parent.mkdir()
    script.write_text(SCRIPT.read_text())
    (tmp_path / ".build").mkdir()
    ran = subprocess.run(
        [sys.executable, str(script), "rust", "python"], capture_output=True, text=True, env=environment
    )
    assert ran.returncode == code, ran.stdout + ran.stderr
    *_, reasons, closing = ran.stdout.splitlines()
    assert reasons == "== skipped: Go is too old (1), nats-server is not installed (1), needs a disk (1)"
    assert closing == f"4 passed, {code} failed, 3 skipped"
