"""Runs the named suites side by side and prints a summary: ``python3 tools/run_tests.py rust python``.

Each suite runs to its end. Cargo compiles the Rust test programs, and each starts as soon as it is compiled; one that
may start a binary starts when cargo has finished. Then the Python suite begins, as both share one build. Several
processes share its files. The output of a Rust program is printed when the program has ended.

The last line is ``N passed, N failed, N skipped``. The lines before it name the slowest tests and the failed tests, and
say why tests were skipped. Rust's harness tells the time of a test program, and not of each test in it.

Rust's test harness cannot skip a test at run time. So a Rust test that cannot run here fails with the words
``skipped: WHY``, and is counted as skipped. A test with ``#[ignore = "run by …"]`` is a part of another test and not
counted."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
CARGO = ["cargo", "test", "--locked", "--workspace"]
COMPILE = [*CARGO, "--no-run", "--message-format=json-render-diagnostics"]
DOCUMENTATION = [*CARGO, "--no-fail-fast", "--doc"]
# The tests of stores wait for servers that are stopped and paused, so these programs run side by side while cargo
# compiles. All others keep a processor busy and run one after another.
WAITING = ("nats", "postgres", "redis", "durable", "durable_faults", "host")
# The wheel is built as a user's pip does it, only with the profile and the features that the Rust tests have compiled.
INSTALL = ["pip", "install", "--quiet", "--force-reinstall", "--no-deps", "."]
WHEEL = {"MATURIN_PEP517_ARGS": "--profile dev --locked --features as-in-tests"}
# The tests of a file stay in one process, which starts their servers once. Tests wait for about half of their time.
PYTEST = ["python", "-m", "pytest", f"--numprocesses={(os.cpu_count() or 1) + 1}", "--dist=loadfile"]
SLOWEST = 10


@dataclass
class Result:
    """The results of a suite, or of a part of it."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)
    """The names of failed tests, or the reason why something did not run to its end."""
    skipped: Counter[str] = field(default_factory=Counter)
    """How many tests, for each reason."""
    times: list[tuple[float, str]] = field(default_factory=list)
    """Seconds, and the name of the test or of the test program that took them."""

    def add(self, other: Result) -> None:
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.times += other.times

    def __str__(self) -> str:
        return f"{self.passed} passed, {len(self.failed)} failed, {self.skipped.total()} skipped"


def rust(compiled: threading.Event) -> Result:
    """Sets the event when cargo has finished, whether the tests compile or not."""
    result = Result()
    with ThreadPoolExecutor(len(WAITING)) as stores, ThreadPoolExecutor(1) as others:
        try:
            with subprocess.Popen(COMPILE, cwd=ROOT, stdout=subprocess.PIPE, text=True) as cargo:
                assert cargo.stdout is not None
                programs, later = [], []
                for program in read_artifacts(cargo.stdout):
                    if program.starts_a_binary:
                        later.append(program)
                    else:
                        programs.append((stores if program.name in WAITING else others).submit(program.run))
        finally:
            compiled.set()
        programs += [others.submit(program.run) for program in later]
        if cargo.returncode == 0:
            programs.append(others.submit(documentation))
        else:
            result.failed.append(f"the tests do not compile (exit code {cargo.returncode})")
        for each in programs:
            result.add(each.result())
    return result


@dataclass(frozen=True)
class Program:
    """A test program that cargo has compiled."""

    name: str
    """The target's."""
    source: Path
    package: Path
    """The directory in which cargo runs it."""
    executable: Path

    @property
    def starts_a_binary(self) -> bool:
        """Whether it may start the binary of its package, which cargo may link later than the program."""
        return self.source.is_relative_to(self.package / "tests") and (self.package / "src" / "main.rs").exists()

    def run(self) -> Result:
        environment = {**os.environ, "CARGO_MANIFEST_DIR": str(self.package)}
        title = f"{self.package.name}: {self.source.relative_to(self.package)}"
        return run(title, [str(self.executable)], self.package, environment)


def read_artifacts(lines: Iterable[str]) -> Iterator[Program]:
    """Reads the messages of cargo, and gives each test program when its message has come."""
    for line in lines:
        # What a procedural macro prints stands between the messages.
        if not line.startswith("{"):
            continue
        message = json.loads(line)
        if message["reason"] == "compiler-artifact" and message["profile"]["test"] and message["executable"]:
            target, package = message["target"], Path(message["manifest_path"]).parent
            yield Program(target["name"], Path(target["src_path"]), package, Path(message["executable"]))


def documentation() -> Result:
    return run("documentation tests", DOCUMENTATION, ROOT, dict(os.environ))


def run(title: str, command: list[str], directory: Path, environment: dict[str, str]) -> Result:
    ran = subprocess.run(
        command, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace"
    )
    say(f"-- {title}\n{ran.stdout}")
    return read_harness(title, ran.stdout.splitlines(), ran.returncode)


def read_harness(title: str, lines: Iterable[str], code: int) -> Result:
    """Reads the output of a test program, or of the several that ``cargo test --doc`` has run, and the exit code."""
    result = Result()
    failed: dict[tuple[int, str], str | None] = {}
    begun = ended = failures = 0
    section, program = None, title
    for line in map(str.rstrip, lines):
        if found := re.match(r" +Doc-tests (\w+)", line):
            program = f"{found[1]}: {title}"
        elif re.match(r"running \d+ tests?$", line):
            begun += 1
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
            result.failed.append(f"{title}: {name}")
        else:
            result.skipped[reason] += 1
    if begun == 0 or begun != ended or failures != len(failed) or (code != 0) != bool(failed):
        result.failed.append(f"{title}: did not run to its end (exit code {code})")
    return result


def python(compiled: threading.Event) -> Result:
    compiled.wait()
    programs = ROOT / os.environ.get("TEST_VENV", ".build/test") / "bin"
    report = ROOT / ".build" / "pytest.xml"
    report.unlink(missing_ok=True)
    for step, *arguments in (INSTALL, ["pip", "check", "--quiet"]):
        command = [str(programs / step), *arguments]
        if code := subprocess.run(command, cwd=ROOT, env={**os.environ, **WHEEL}).returncode:
            return Result(failed=[f"{step} {arguments[0]} failed (exit code {code})"])
    program, *arguments = PYTEST
    command = [str(programs / program), *arguments, f"--junitxml={report}"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, errors="replace") as pytest:
        assert pytest.stdout is not None
        for line in pytest.stdout:
            say(line)
    return read_pytest(report.read_text(encoding="utf-8") if report.exists() else None, pytest.returncode)


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


SPEAKING = threading.Lock()


def say(text: str) -> None:
    """Writes whole lines, which those of other threads do not part."""
    with SPEAKING:
        print(text.removesuffix("\n"), flush=True)


SUITES = {"rust": rust, "python": python}


def main(names: list[str]) -> int:
    began, compiled, total = time.monotonic(), threading.Event(), Result()
    if "rust" not in names:
        compiled.set()

    def suite(name: str) -> tuple[Result, str]:
        result = SUITES[name](compiled)
        return result, f"== {name.title()}: {result}, after {minutes(time.monotonic() - began)}"

    with ThreadPoolExecutor(len(names)) as pool:
        ended = list(pool.map(suite, names))
    for result, _ in ended:
        total.add(result)
    lines = [line for _, line in ended]
    times = os.times()
    lines.append(f"== processor time: {minutes(times.children_user + times.children_system)}")
    lines += [f"== slow: {seconds:.0f} s {name}" for seconds, name in sorted(total.times, reverse=True)[:SLOWEST]]
    lines += [f"== failed: {name}" for name in total.failed]
    if total.skipped:
        reasons = (f"{reason} ({count})" for reason, count in sorted(total.skipped.items()))
        lines.append(f"== skipped: {', '.join(reasons)}")
    print(*lines, total, sep="\n", flush=True)
    return 1 if total.failed else 0


def minutes(seconds: float) -> str:
    whole, rest = divmod(round(seconds), 60)
    return f"{whole} min {rest} s"


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:] or list(SUITES)))
    except KeyboardInterrupt:
        sys.exit(130)
