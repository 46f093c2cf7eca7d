"""What became of the updates of one application in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Literal

from . import forks

Result = Literal["published", "failed", "retried", "refused", "dropped"]
"""What became of an update, or of an attempt to send it: see :class:`flask_mercure_sse.Stats`."""

RESULTS: Final[tuple[Result, ...]] = ("published", "failed", "retried", "refused", "dropped")


class Counters:
    """Counts the results, and the updates that wait in background queues.

    >>> counters = Counters()
    >>> counters.add("published")
    >>> counters.results["published"], counters.queued
    (1, 0)
    """

    def __init__(self) -> None:
        self._watchers: list[tuple[Callable[[Result, int], None], Callable[[int], None]]] = []
        self.after_fork()
        forks.register(self)

    def after_fork(self) -> None:
        # The counters are those of one process, and another thread of the parent may have held the lock.
        self._lock = threading.Lock()
        self._results: dict[Result, int] = dict.fromkeys(RESULTS, 0)
        self._queued = 0

    @property
    def results(self) -> dict[Result, int]:
        """How often each result has occurred."""
        with self._lock:
            return dict(self._results)

    @property
    def queued(self) -> int:
        """Updates that wait in background queues now."""
        with self._lock:
            return self._queued

    def add(self, result: Result, count: int = 1) -> None:
        """Count a result ``count`` times."""
        with self._lock:
            self._results[result] += count
        for told, _ in self._watchers:
            told(result, count)

    def queue(self, change: int) -> None:
        """So many more updates wait in a background queue; negative: so many fewer."""
        with self._lock:
            self._queued += change
        for _, told in self._watchers:
            told(change)

    def watch(self, result: Callable[[Result, int], None], queued: Callable[[int], None]) -> None:
        """Have both called with every change from now on, in whichever thread makes it."""
        self._watchers.append((result, queued))
