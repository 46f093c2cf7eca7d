"""Publishing in the background: a bounded queue, one thread, and retries until the hub is back.

The policy: updates leave in the order in which they came. While the hub is away they wait, and the first of them is
tried again after a pause that grows. A full queue takes no more: the new update is dropped. One that the hub refuses is
dropped. At the end of the process, what waits gets a few more seconds. Each drop is counted; the log tells of each
refusal, and of the first update that a full queue drops. An update that was sent twice because its first answer was
lost has the same id both times.
"""

from __future__ import annotations

import atexit
import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .errors import MercureError, may_pass

PAUSE_MIN: Final = 0.5
PAUSE_MAX: Final = 30.0
"""Seconds between two attempts while the hub is away; each is up to half longer, at random."""

Send = Callable[[], object]


@dataclass(frozen=True)
class BackgroundStats:
    """Counters of one process, as ``mercure.background``."""

    waiting: int = 0
    """Updates in the queue now."""
    published: int = 0
    retried: int = 0
    """Attempts that failed and were made again."""
    dropped: int = 0
    """Updates that a full queue did not take, or that the end of the process left in it."""
    refused: int = 0
    """Updates that the hub refused, for good."""


class BackgroundQueue:
    """Takes updates at once and sends them from a thread of its own, which starts with the first.

    >>> sent = []
    >>> queue = BackgroundQueue(length=10, drain_seconds=1, log=logging.getLogger("example"))
    >>> queue.put(lambda: sent.append("update"), topic="a")
    True
    >>> queue.flush(timeout=10), sent
    (True, ['update'])
    """

    def __init__(self, length: int, drain_seconds: float, log: logging.Logger) -> None:
        self._length, self._drain_seconds, self._log = length, drain_seconds, log
        self._reset()
        atexit.register(self._at_exit)

    def _reset(self) -> None:
        self._process = os.getpid()
        self._queue: deque[tuple[str, Send]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._ending = self._is_full = False
        self._published = self._retried = self._dropped = self._refused = 0

    def put(self, send: Send, topic: str) -> bool:
        """Queue an update; False: the queue is full, and it was dropped.

        send: publishes it, or raises MercureError. topic: names it in the log.
        """
        if self._process != os.getpid():
            # What waits in the parent is the parent's.
            self._reset()
        with self._changed:
            if self._ending or len(self._queue) >= self._length:
                self._dropped += 1
                if not self._is_full:
                    self._log.error(
                        "%d updates for the Mercure hub are waiting: this one and those that follow are dropped until "
                        "the hub takes some",
                        len(self._queue),
                    )
                self._is_full = True
                return False
            self._is_full = False
            self._queue.append((topic, send))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="mercure-publish", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return True

    @property
    def stats(self) -> BackgroundStats:
        """Counters as of now."""
        if self._process != os.getpid():
            return BackgroundStats()
        with self._changed:
            return BackgroundStats(len(self._queue), self._published, self._retried, self._dropped, self._refused)

    def flush(self, timeout: float) -> bool:
        """Wait until nothing is left to send, for at most ``timeout`` seconds; whether nothing is."""
        if self._process != os.getpid():
            return True
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue, timeout)

    def _run(self) -> None:
        pause = PAUSE_MIN
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._queue))
                topic, send = self._queue[0]
            error = _attempt(send)
            with self._changed:
                if isinstance(error, MercureError) and may_pass(error):
                    self._retried += 1
                    if pause == PAUSE_MIN:
                        self._log.warning(
                            "an update waits for the Mercure hub (%d in the queue): %s", len(self._queue), error
                        )
                    self._wait(pause * random.uniform(1, 1.5))
                    pause = min(pause * 2, PAUSE_MAX)
                    continue
                pause = PAUSE_MIN
                if self._queue and self._queue[0][1] is send:
                    self._queue.popleft()
                if error is None:
                    self._published += 1
                else:
                    self._refused += 1
                    self._log.error("the update on topic %r was not published: %s", topic, error)
                self._changed.notify_all()

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + (min(seconds, PAUSE_MIN) if self._ending else seconds)
        # The end of the process ends a long pause.
        already = self._ending
        while (remaining := deadline - time.monotonic()) > 0 and self._ending == already:
            self._changed.wait(remaining)

    def _at_exit(self) -> None:
        if self._process != os.getpid():
            return
        with self._changed:
            self._ending = True
            self._changed.notify_all()
            if self._changed.wait_for(lambda: not self._queue, self._drain_seconds):
                return
            left = len(self._queue)
            self._dropped += left
            self._queue.clear()
        self._log.error("%d updates were not published: the process ended before the Mercure hub took them", left)


def _attempt(send: Send) -> Exception | None:
    try:
        send()
    except Exception as error:
        return error
    return None
