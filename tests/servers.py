"""A server of another project in a process of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from clients import PATIENCE


class ServerProcess:
    """Starts a command and waits until it writes that it is ready. Skips the test where the program is missing."""

    def __init__(
        self, command: list[str], ready: str, cwd: Path | None = None, *, pass_fds: tuple[int, ...] = ()
    ) -> None:
        needs(command[0])
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=pass_fds,
        )
        self.ready, self.lines, self.is_ready = ready, list[str](), threading.Event()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        if not self.is_ready.wait(PATIENCE) or self.ready not in "".join(self.lines):
            self.kill()
            pytest.fail(f"{command[0]} does not become ready: {''.join(self.lines)}")

    def _read(self) -> None:
        """To the end, as the server would wait otherwise."""
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self.lines.append(line.decode(errors="replace"))
                if self.ready in self.lines[-1]:
                    self.is_ready.set()
        self.is_ready.set()

    def send(self, number: int) -> None:
        """To the process and all of its children."""
        for process in [self.process.pid, *children(self.process.pid)]:
            # One that serves a client may end at any time.
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def pause(self) -> None:
        """Returns when no thread of it runs any more: a signal takes effect some time after it was sent."""
        self.send(signal.SIGSTOP)
        deadline = time.monotonic() + PATIENCE
        while not all(_is_paused(process) for process in [self.process.pid, *children(self.process.pid)]):
            assert time.monotonic() < deadline, "the server does not pause"
            os.sched_yield()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """As an operator does; in the end it has written everything."""
        self.process.send_signal(number)
        self._ends()

    def kill(self) -> None:
        if self.process.poll() is None:
            self.send(signal.SIGKILL)
        self._ends()

    def _ends(self) -> None:
        self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)


def needs(program: str) -> str:
    """The path of a program. Skips the test where it is missing."""
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"{Path(program).name} is not installed")
    return path


def _is_paused(process: int) -> bool:
    """Whether each thread of the process has stopped (T), or the process has ended."""
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{process}/task").iterdir():
            # The state follows the name, which may hold anything and ends with the last parenthesis.
            if (thread / "stat").read_text().rpartition(")")[2].split()[0] not in ("T", "Z"):
                return False
    return True


def children(parent: int) -> list[int]:
    """The processes that it has started, and theirs."""
    path = Path(f"/proc/{parent}/task/{parent}/children")
    try:
        own = [int(child) for child in path.read_text().split()]
    except OSError:
        return []
    return [*own, *(grandchild for child in own for grandchild in children(child))]
