"""Looks for known vulnerabilities of everything that is depended on: ``python3 tools/audit.py``.

- Crates: cargo-deny compares ``Cargo.lock`` with the advisories of RustSec, and checks licences, second versions and
  sources, which needs no network.
- Python packages: pip-audit asks PyPI about the packages that the tests install.

Where an advisory database cannot be reached, a line says ``not checked here`` and why, and the result is 0: a machine
without network can still run ``make check``. With ``--strict`` it is 1, as in ``make audit`` and in the workflows. A
vulnerability is always 1."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from enum import Enum
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = Path(sys.executable).parent
OWN = "flask-mercure-sse"


class Result(Enum):
    """What looking has shown."""

    FINE = "fine"
    FOUND = "found"
    NOT_CHECKED = "not checked"


def run(*command: str) -> tuple[int, str, str]:
    """Status, output and errors of a program that is installed beside this interpreter."""
    program, *arguments = command
    try:
        done = subprocess.run([str(PROGRAMS / program), *arguments], cwd=ROOT, capture_output=True, text=True)
    except FileNotFoundError:
        return 127, "", f"{program} is not installed: make check installs it"
    return done.returncode, done.stdout, done.stderr


def judged_crates(status: int, errors: str) -> tuple[Result, str]:
    """What an answer of ``cargo-deny check advisories`` means. Whatever is not understood is a finding."""
    if status == 0:
        return Result.FINE, "crates: no known vulnerability"
    unreachable = [line for line in errors.splitlines() if "failed to fetch advisory database" in line]
    if unreachable or status == 127:
        reason = "the advisories of RustSec cannot be fetched" if unreachable else errors
        return Result.NOT_CHECKED, f"not checked here: vulnerabilities of crates ({reason})"
    return Result.FOUND, errors


def judged_packages(status: int, answer: str, errors: str) -> tuple[Result, str]:
    """What an answer of ``pip-audit --format json`` means. Whatever is not understood is a finding."""
    try:
        packages = json.loads(answer)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (errors.strip().splitlines() or ["no answer"])[-1]
        unreachable = status == 127 or "ConnectionError" in errors or "ServiceError" in errors
        if unreachable:
            return Result.NOT_CHECKED, f"not checked here: vulnerabilities of Python packages ({last})"
        return Result.FOUND, f"pip-audit has failed: {last}"
    vulnerable = [
        f"{package['name']} {package['version']}: {', '.join(each['id'] for each in package['vulns'])}"
        for package in packages
        if package.get("vulns")
    ]
    if vulnerable:
        return Result.FOUND, "\n".join(vulnerable)
    if status != 0:
        return Result.FOUND, f"pip-audit has failed: {errors.strip()}"
    # The package of this repository may have a version that nobody has published.
    skipped = [package["name"] for package in packages if "skip_reason" in package and package["name"] != OWN]
    checked = len(packages) - len(skipped)
    if not skipped:
        return Result.FINE, f"Python: no known vulnerability in {checked} packages"
    some = ", ".join(skipped[:3]) + (" …" if len(skipped) > 3 else "")
    reason = f"PyPI says nothing about {len(skipped)} of {len(packages)}: {some}"
    return Result.NOT_CHECKED, f"not checked here: vulnerabilities of Python packages ({reason})"


def main(arguments: Sequence[str]) -> int:
    status, _, errors = run("cargo-deny", "--offline", "check", "bans", "licenses", "sources")
    rules = (Result.FINE, "crates: licences, versions and sources as deny.toml allows")
    results = [rules if status == 0 else (Result.FOUND, errors)]
    status, _, errors = run("cargo-deny", "check", "advisories")
    results.append(judged_crates(status, errors))
    installed = sysconfig.get_path("purelib")
    asked = ["pip-audit", "--progress-spinner", "off", "--format", "json", "--path", installed]
    results.append(judged_packages(*run(*asked)))
    for _, text in results:
        print(text)
    bad = {Result.FOUND} | ({Result.NOT_CHECKED} if "--strict" in arguments else set())
    return 1 if bad & {result for result, _ in results} else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
