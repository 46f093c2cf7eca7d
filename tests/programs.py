"""Applications on real servers, each as a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from clients import PATIENCE


class Program:
    """A server of an application, which is written into a file of its own."""

    def __init__(self, directory: Path, application: str, command: list[str], ready: str) -> None:
        (directory / "served.py").write_text(application)
        self.process = subprocess.Popen(
            command if os.path.isabs(command[0]) else [sys.executable, *command],
            cwd=directory,
            stderr=subprocess.STDOUT,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONWARNINGS": "default", "PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        self.log: list[str] = []
        self._seen = 0
        self._has_ended = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.ready = self.wait_for(ready)
        except BaseException:
            self.close()
            raise

    def _read(self) -> None:
        """To the end, as the server would wait otherwise."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.log.append(line)
                self._changed.notify_all()
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def wait_for(self, pattern: str) -> str:
        """The first group, or all, of the next line of the log with this pattern."""
        with self._changed:
            while self._changed.wait_for(lambda: self._has_ended or len(self.log) > self._seen, PATIENCE):
                if len(self.log) == self._seen:
                    break
                line = self.log[self._seen]
                self._seen += 1
                if match := re.search(pattern, line):
                    return match[match.re.groups and 1]
            pytest.fail(f"{pattern!r} never came: {''.join(self.log)}")

    def whole_log(self) -> str:
        """Everything that the server has logged until its end."""
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return "".join(self.log)

    def close(self) -> None:
        if self.process.poll() is None:
            # The reloader has a child, gunicorn has workers.
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        assert self.process.stdout is not None
        self.process.stdout.close()
