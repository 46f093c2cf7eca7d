"""The summary of ``make test``, and its exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clients import PATIENCE
from scripts import load

SCRIPT = Path(__file__).parent.parent / "tools" / "run_tests.py"

PASSING = """

running 2 tests
test config::a ... ok
test config::b ... ok

test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s

"""

SKIPPING = """

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
"""

FAILING = """

running 1 test
test conformance ... FAILED

failures:

---- conformance stdout ----

thread 'conformance' (7) panicked at crates/transports/tests/redis.rs:1:5:
assertion failed: the text says "skipped: nothing"


failures:
    conformance

test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
"""

CRASHING = "\nrunning 1 test\n"

REPORT = """<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest">
<testcase classname="tests.test_a" name="test_one" time="0.1" />
<testcase classname="tests.test_a" name="test_two"><skipped message="Go is too old">x</skipped></testcase>
{failure}</testsuite></testsuites>"""

FAILURE = '<testcase classname="tests.test_a" name="test_three"><failure message="assert">x</failure></testcase>'


@pytest.fixture(scope="module")
def run_tests():
    return load("run_tests")


def test_a_missing_server_is_skipped_and_says_why(run_tests):
    result = run_tests.read_harness("nats", SKIPPING.splitlines(), 101)
    assert str(result) == "1 passed, 0 failed, 2 skipped"
    assert result.skipped == {"nats-server is not installed": 1, "needs a disk": 1}


def test_tests_of_one_name_in_two_parts_are_two(run_tests):
    result = run_tests.read_harness("both", (SKIPPING + FAILING).splitlines(), 101)
    assert (result.failed, result.skipped.total()) == (["both: conformance"], 2)


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
    result = run_tests.read_harness("x", output.splitlines(), code)
    assert f"x: did not run to its end (exit code {code})" in result.failed


def test_the_time_of_each_program_and_test_is_kept(run_tests):
    program = run_tests.read_harness("petasos: src/lib.rs", PASSING.splitlines(), 0)
    assert program.times == [(0.01, "petasos: src/lib.rs")]
    parts = "   Doc-tests petasos\n" + PASSING + "   Doc-tests petasos_hub\n" + PASSING
    examples = run_tests.read_harness("examples", parts.splitlines(), 0)
    assert examples.times == [(0.01, "petasos: examples"), (0.01, "petasos_hub: examples")]
    pytest = run_tests.read_pytest(REPORT.format(failure=""), 0)
    assert max(pytest.times) == (0.1, "tests.test_a::test_one")


def test_the_report_of_pytest_is_read(run_tests):
    result = run_tests.read_pytest(REPORT.format(failure=""), 0)
    assert (str(result), result.skipped) == ("1 passed, 0 failed, 1 skipped", {"Go is too old": 1})
    assert run_tests.read_pytest(REPORT.format(failure=FAILURE), 1).failed == ["tests.test_a::test_three"]
    for report, code in ((None, 0), (REPORT.format(failure=""), 1), (REPORT.format(failure=""), 2)):
        assert any("did not run to its end" in name for name in run_tests.read_pytest(report, code).failed)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def artifact(package: Path, name: str, *, is_test: bool) -> str:
    """The message of cargo for a program that it has compiled."""
    return json.dumps(
        {
            "reason": "compiler-artifact",
            "manifest_path": str(package / "Cargo.toml"),
            "target": {"name": name, "src_path": str(package / "tests" / f"{name}.rs")},
            "profile": {"test": is_test},
            "executable": str(package / name),
        }
    )


@pytest.fixture
def run(tmp_path):
    """Runs the script as ``make test`` does, with another cargo, pip and python. Takes shell scripts by their name, and
    the exit code of the compiler. A script can write a line into ``$EVENTS``, and wait for one that another writes."""
    (tmp_path / ".build").mkdir()
    write(tmp_path / "tools" / "run_tests.py", SCRIPT.read_text())
    events = tmp_path / "events"
    events.touch()
    wait = 'wait_for() { until grep -q "$1" "$EVENTS"; do sleep 0.01; done; }\n'

    def run(suites: list[str], compiles: int = 0, **scripts: str):
        package = tmp_path / "some"
        messages = ["a macro prints", artifact(package, "petasos", is_test=False), '{"reason": "build-finished"}']
        for name in scripts.keys() - {"python", "documentation", "cargo"}:
            write(package / name, f"#!/bin/sh\n{wait}{scripts[name]}")
            messages.insert(0, artifact(package, name, is_test=True))
        compiler = "cat <<'END'\n" + "\n".join(messages) + f"\nEND\n{scripts.get('cargo', '')}\nexit {compiles}"
        documentation = scripts.get("documentation", f"cat <<'END'\n{PASSING}\nEND\n")
        cargo = f'case "$*" in *--doc*) {documentation}\n;; *) {compiler}\n;; esac'
        report = f"cat >\"${{last#--junitxml=}}\" <<'END'\n{REPORT.format(failure='')}\nEND\n"
        python = f"for last; do :; done; {scripts.get('python', '')}\n{report}"
        for name, text in {"cargo": cargo, "pip": "exit 0", "python": python}.items():
            write(tmp_path / "bin" / name, f"#!/bin/sh\n{wait}{text}")
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "TEST_VENV": str(tmp_path), "EVENTS": str(events)}
        return subprocess.run(
            [sys.executable, str(tmp_path / "tools" / "run_tests.py"), *suites],
            capture_output=True,
            text=True,
            env=environment,
            timeout=PATIENCE,
        )

    return run


def prints(text: str, code: int = 0) -> str:
    return f"cat <<'END'\n{text}\nEND\nexit {code}"


@pytest.mark.parametrize(("last", "code"), [(PASSING, 0), (FAILING, 1)])
def test_the_last_line_sums_up_and_the_exit_code_agrees(last, code, run):
    ran = run(["rust", "python"], nats=prints(SKIPPING, 101), last=prints(last, 101 * code))
    assert ran.returncode == code, ran.stdout + ran.stderr
    *_, reasons, closing = ran.stdout.splitlines()
    assert reasons == "== skipped: Go is too old (1), nats-server is not installed (1), needs a disk (1)"
    assert closing == f"{6 - 2 * code} passed, {code} failed, 3 skipped"
    assert ("== failed: some: tests/last.rs: conformance" in ran.stdout.splitlines()) == bool(code)


def test_programs_run_side_by_side_and_while_cargo_compiles(run):
    """A store's program waits for another's, the compiler for both, and pytest for the compiler."""
    first = f"wait_for redis; echo nats >>$EVENTS; {prints(PASSING)}"
    second = f"echo redis >>$EVENTS; wait_for nats; {prints(PASSING)}"
    compiler = "wait_for nats; echo compiled >>$EVENTS"
    python = 'grep -q compiled "$EVENTS" || exit 3'
    ran = run(["rust", "python"], nats=first, redis=second, cargo=compiler, python=python)
    assert (ran.returncode, ran.stdout.splitlines()[-1]) == (0, "7 passed, 0 failed, 1 skipped"), ran.stdout


def test_a_program_that_may_start_a_binary_waits_until_cargo_has_linked_it(run, tmp_path):
    (tmp_path / "some" / "src").mkdir(parents=True)
    write(tmp_path / "some" / "src" / "main.rs", "")
    program = f"echo started >>$EVENTS; {prints(PASSING)}"
    linking = 'n=0; while [ $n -lt 200 ]; do grep -q started "$EVENTS" && exit 4; n=$((n+1)); done'
    ran = run(["rust"], nats=program, redis=program, cargo=linking)
    assert (ran.returncode, ran.stdout.splitlines()[-1]) == (0, "6 passed, 0 failed, 0 skipped"), ran.stdout


def test_the_output_of_a_program_is_kept_together(run):
    first = f"echo one; echo nats >>$EVENTS; wait_for redis; echo two; {prints(PASSING)}"
    second = f"wait_for nats; echo three; echo redis >>$EVENTS; {prints(PASSING)}"
    lines = run(["rust"], nats=first, redis=second).stdout.splitlines()
    assert lines[lines.index("-- some: tests/nats.rs") + 1 :][:2] == ["one", "two"]


def test_tests_that_do_not_compile_have_failed_and_the_others_are_counted(run):
    ran = run(["rust", "python"], compiles=101, nats=prints(PASSING))
    assert ran.returncode == 1
    assert "== failed: the tests do not compile (exit code 101)" in ran.stdout.splitlines()
    assert ran.stdout.splitlines()[-1] == "3 passed, 1 failed, 1 skipped"
