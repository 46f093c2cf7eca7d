"""The output of ``flask mercure doctor``, for the tests of this folder."""

from __future__ import annotations

import re


class Report:
    """The output of the command."""

    def __init__(self, result):
        self.exit_code, self.output = result.exit_code, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        joined = re.sub(r"\n {9}(?!change: )", " ", self.output)
        self.lines = [line for line in joined.splitlines() if re.match(r"ok  |warning |problem ", line)]
        self.changes = dict(re.findall(r"^\w+ +([^:]+): .*\n {9}change: (.*)", joined, re.MULTILINE))

    def level(self, check):
        return [line.split()[0] for line in self.lines if line.split(maxsplit=1)[1].strip().startswith(f"{check}: ")]

    def line(self, check):
        (found,) = (line for line in self.lines if line.split(maxsplit=1)[1].strip().startswith(f"{check}: "))
        return found

    @property
    def bad(self):
        return [line for line in self.lines if not line.startswith("ok ")]


def examine(app, *arguments):
    report = Report(app.test_cli_runner().invoke(args=["mercure", "doctor", *arguments]))
    assert report.exit_code == (1 if any(line.startswith("problem") for line in report.lines) else 0)
    return report
