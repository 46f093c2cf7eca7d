"""The signals that end the server."""

from __future__ import annotations

import os
import signal
import threading
from typing import Final, NoReturn

from .._native import end_process_after_drain, flush_lines


class Stop:
    """Waits for SIGINT and SIGTERM, in a thread that starts when the object is made.

    The first signal stops the hub, as a failure of the hub does; the process ends within two seconds after the drain,
    even if the hub does not. If the hub is still starting, the process ends at once. The second signal ends the process
    at once.
    """

    def __init__(self, drain_seconds: float) -> None:
        self._drain_seconds = drain_seconds
        self._serving, self._asked = threading.Event(), threading.Event()
        self.has_failed = False
        """Whether :meth:`fail` has been called."""
        # Threads that start from now on inherit the mask, so only the thread below takes these signals.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        threading.Thread(target=self._run, name="mercure-signals", daemon=True).start()

    def wait(self) -> None:
        """Wait for the first signal or a failure. To be called once the hub has started."""
        self._serving.set()
        self._asked.wait()

    def fail(self) -> None:
        """Ask for the end of the process, because the hub has failed."""
        self.has_failed = True
        end_process_after_drain(self._drain_seconds, 1)
        self._asked.set()

    def _run(self) -> None:
        signal.sigwait(_SIGNALS)
        end_process_after_drain(self._drain_seconds, 1)
        if not self._serving.is_set():
            _end_process(0)
        self._asked.set()
        # The exit code with which shells report a process that a signal has ended.
        _end_process(128 + signal.sigwait(_SIGNALS))


def _end_process(code: int) -> NoReturn:
    flush_lines()
    # An exception would not end the process while its main thread hangs.
    os._exit(code)


_SIGNALS: Final = {signal.SIGINT, signal.SIGTERM}
