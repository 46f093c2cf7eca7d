"""Runs the named suites, each to its end, and prints a summary: ``python3 tools/run_tests.py rust python``.

The last line is ``N passed, N failed, N skipped``. The lines before it name the slowest tests and the failed tests, and
say why tests were skipped. Rust's harness tells the time of a test program, and not of each test in it.

Rust's test harness cannot skip a test at run time. So a Rust test that cannot run here fails with the words
``skipped: WHY``, and is counted as skipped. A test with ``#[ignore = "run by …"]`` is a part of another test and not
counted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
CARGO = ["cargo", "test", "--locked", "--workspace", "--no-fail-fast"]
# The wheel is built as a user's pip does it, only with the profile and the features that the Rust tests have compiled.
INSTALL = ["pip", "install", "--quiet", "--force-reinstall", "--no-deps", "."]
WHEEL = {"MATURIN_PEP517_ARGS": "--profile dev --locked --features as-in-tests"}
PYTEST = ["python", "-m", "pytest"]
SLOWEST = 10


@dataclass
class Result:
    """The results of a suite."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)
    """The names of failed tests, or the reason why the suite did not run to its end."""
    skipped: Counter[str] = field(default_factory=Counter)
    """How many tests, for each reason."""
    times: list[tuple[float, str]] = field(default_factory=list)
    """Seconds, and the name of the test or of the test program that took them."""

    def __str__(self) -> str:
        return f"{self.passed} passed, {len(self.failed)} failed, {self.skipped.total()} skipped"


def rust() -> Result:
    process = subprocess.Popen(CARGO, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    return read_cargo(lines, process.wait())


def read_cargo(lines: Iterable[str], code: int) -> Result:
    """Reads the output of ``cargo test --no-fail-fast``, standard output and error, and its exit code."""
    result = Result()
    failed: dict[tuple[int, str], str | None] = {}
    begun = ended = failures = 0
    section, program = None, ""
    for line in map(str.rstrip, lines):
        if found := re.match(r" +(?:Running (?:unittests )?(\S+) \(\S+/(\w+)-\w+\)|Doc-tests (\w+))", line):
            begun += 1
            program = f"{found[2]}: {found[1]}" if found[1] else f"{found[3]}: documentation tests"
        elif found := re.match(r"test result: \w+\. (\d+) passed; (\d+) failed; .*finished in ([\d.]+)s", line):
            ended += 1
            result.times.append((float(found[3]), program))
            result.passed += int(found[1])
            failures += int(found[2])
            section = None
        elif found := re.match(r"test (.+) \.\.\. ignored(?:, (.+))?$", line):
            reason = found[2] or "ignored without a reason"
            if not reason.startswith("run by "):
                result.skipped[reason] += 1
        elif found := re.match(r"test (.+) \.\.\. FAILED$", line):
            failed.setdefault((begun, found[1]), None)
        elif found := re.match(r"---- (.+) stdout ----$", line):
            section = (begun, found[1])
            failed.setdefault(section, None)
        elif (found := re.match(r"skipped: (.+)$", line)) and section is not None:
            failed[section] = found[1]
    for (_, name), reason in failed.items():
        if reason is None:
            result.failed.append(name)
        else:
            result.skipped[reason] += 1
    if begun == 0 or begun != ended or failures != len(failed) or (code != 0) != bool(failed):
        result.failed.append(f"cargo test did not run to its end (exit code {code})")
    return result


def python() -> Result:
    programs = ROOT / os.environ.get("TEST_VENV", ".build/test") / "bin"
    report = ROOT / ".build" / "pytest.xml"
    report.unlink(missing_ok=True)
    for step, *arguments in (INSTALL, ["pip", "check", "--quiet"]):
        command = [str(programs / step), *arguments]
        if code := subprocess.run(command, cwd=ROOT, env={**os.environ, **WHEEL}).returncode:
            return Result(failed=[f"{step} {arguments[0]} failed (exit code {code})"])
    program, *arguments = PYTEST
    command = [str(programs / program), *arguments, f"--junitxml={report}"]
    code = subprocess.run(command, cwd=ROOT).returncode
    return read_pytest(report.read_text(encoding="utf-8") if report.exists() else None, code)


def read_pytest(report: str | None, code: int) -> Result:
    """Reads the JUnit report of pytest, None if there is none, and the exit code."""
    result = Result()
    for case in ElementTree.fromstring(report).iter("testcase") if report else ():
        skipped = case.find("skipped")
        result.times.append((float(case.get("time", "0")), f"{case.get('classname')}::{case.get('name')}"))
        if case.find("failure") is not None or case.find("error") is not None:
            result.failed.append(f"{case.get('classname')}::{case.get('name')}")
        elif skipped is not None:
            result.skipped[skipped.get("message", "skipped without a reason")] += 1
        else:
            result.passed += 1
    # 1 says that tests failed.
    if report is None or code > 1 or (code == 1) != bool(result.failed):
        result.failed.append(f"pytest did not run to its end (exit code {code})")
    return result


SUITES = {"rust": rust, "python": python}


def main(names: list[str]) -> int:
    lines, total = [], Result()
    for name in names:
        print(f"== {name.title()} tests", flush=True)
        began = time.monotonic()
        result = SUITES[name]()
        minutes, seconds = divmod(round(time.monotonic() - began), 60)
        lines.append(f"== {name.title()}: {result}, in {minutes} min {seconds} s")
        total.passed += result.passed
        total.failed += result.failed
        total.skipped += result.skipped
        total.times += result.times
    lines += [f"== slow: {seconds:.0f} s {name}" for seconds, name in sorted(total.times, reverse=True)[:SLOWEST]]
    lines += [f"== failed: {name}" for name in total.failed]
    if total.skipped:
        reasons = (f"{reason} ({count})" for reason, count in sorted(total.skipped.items()))
        lines.append(f"== skipped: {', '.join(reasons)}")
    print(*lines, total, sep="\n", flush=True)
    return 1 if total.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:] or list(SUITES)))
    except KeyboardInterrupt:
        sys.exit(130)
