"""Publishing in the background: a bounded queue for each hub, one thread each, and retries until the hub is back.

The policy: updates leave in the order in which they came. While the hub is away they wait, and the first of them is
tried again after a pause. The pauses grow until the hub accepts or refuses an update. One that the hub receives and
does not take holds up the others for ATTEMPTS_MAX attempts, and is dropped then. A full queue takes no more: the new
update is dropped. One that the hub refuses is dropped. At the end of the process, what waits gets a few more seconds.
Each drop is counted; the log tells of each refusal, and of the first update that a full queue drops. An update that was
sent twice because its first answer was lost has the same id both times.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import cache
from typing import Final

from . import forks
from .backoff import Backoff
from .errors import MercureError, describe, is_away, may_pass
from .greenlets import ends_this_thread

PAUSE_MIN: Final = 0.5
PAUSE_MAX: Final = 30.0
"""Seconds between two attempts; each is up to half longer, at random."""

ATTEMPTS_MAX: Final = 10
"""How often a hub that can be reached is asked to take one update: the pauses add up to two or three minutes, which is
longer than a hub takes to start."""

HUBS_MAX: Final = 8
"""How many hubs have a queue and a thread of their own; further ones share one."""

IDLE_SECONDS: Final = 10.0
"""How long a thread waits for the next update before it ends."""

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
    """Updates that a full queue did not take, that a hub did not take in ATTEMPTS_MAX attempts, or that the end of the
    process left in the queue."""
    refused: int = 0
    """Updates that the hub refused, for good."""


class BackgroundQueues:
    """The queues of an application, one for each hub that it publishes on: a hub that is away holds up no other.

    >>> sent = []
    >>> queues = BackgroundQueues(length=10, drain_seconds=1, log=logging.getLogger("example"))
    >>> queues.put("http://hub.example", lambda: sent.append("update"), topic="a")
    True
    >>> queues.flush(timeout=10), sent
    (True, ['update'])
    """

    def __init__(self, length: int, drain_seconds: float, log: logging.Logger) -> None:
        self.drain_seconds = drain_seconds
        self._length, self._log = length, log
        self.after_fork()
        forks.register(self)
        _all.add(self)
        _register_at_exit()

    def after_fork(self) -> None:
        # What waits in the parent is the parent's.
        self._lock = threading.Lock()
        self._queues: dict[str, _Queue] = {}

    def put(self, hub: str, send: Send, topic: str) -> bool:
        """Queue an update for a hub; False: its queue is full, and it was dropped.

        send: publishes it, or raises MercureError. topic: names it in the log.
        """
        forks.check()
        with self._lock:
            name = hub if hub in self._queues or len(self._queues) < HUBS_MAX else ""
            queue = self._queues.setdefault(name, _Queue(self._length, self._log))
        return queue.put(send, topic)

    @property
    def queues(self) -> list[_Queue]:
        """Those that there are in this process."""
        forks.check()
        with self._lock:
            return list(self._queues.values())

    @property
    def stats(self) -> BackgroundStats:
        """Counters as of now, of all hubs together."""
        return BackgroundStats(
            *(sum(column) for column in zip(*(astuple(each.stats) for each in self.queues), strict=True))
        )

    def flush(self, timeout: float) -> bool:
        """Wait until nothing is left to send, for at most ``timeout`` seconds; whether nothing is."""
        deadline = time.monotonic() + timeout
        return all(each.flush(max(deadline - time.monotonic(), 0)) for each in self.queues)


class _Queue:
    """Takes updates for one hub at once and sends them from a thread of its own, which starts with the first."""

    def __init__(self, length: int, log: logging.Logger) -> None:
        self._length, self._log = length, log
        self._queue: deque[tuple[str, Send]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._attempts = 0
        """Attempts to send the first update in the queue."""
        self._backoff = Backoff()
        """The pauses of this hub. They go on from a dropped update to the next one."""
        self._ending = self._is_full = False
        self._published = self._retried = self._dropped = self._refused = 0

    def put(self, send: Send, topic: str) -> bool:
        with self._changed:
            if self._ending:
                self._dropped += 1
                self._log.error("the update on topic %r was not published: the process ends", topic)
                return False
            if len(self._queue) >= self._length:
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
            self._ensure_thread()
            self._changed.notify_all()
        return True

    def _ensure_thread(self) -> None:
        if self._thread is not None or not self._queue:
            return
        thread = threading.Thread(target=self._run, name="mercure-publish", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # The next update, or a call of flush, tries again.
            self._log.error("%d updates for the Mercure hub wait for a thread: %s", len(self._queue), error)
            return
        self._thread = thread

    @property
    def stats(self) -> BackgroundStats:
        with self._changed:
            return BackgroundStats(len(self._queue), self._published, self._retried, self._dropped, self._refused)

    def flush(self, timeout: float) -> bool:
        with self._changed:
            self._ensure_thread()
            return self._changed.wait_for(lambda: not self._queue, timeout)

    def _run(self) -> None:
        end: BaseException | None = None
        try:
            self._work()
        except BaseException as error:
            end = error
            self._log.error("the thread that publishes in the background was ended: %s", describe(error))
        with self._changed:
            self._thread = None
            # Another thread sends the updates that wait.
            self._ensure_thread()
        if isinstance(end, (KeyboardInterrupt, SystemExit)):
            raise end

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: bool(self._queue), IDLE_SECONDS):
                    return
                topic, send = self._queue[0]
            error = _attempt(send)
            with self._changed:
                self._attempts += 1
                if self._is_worth_another(error):
                    self._retried += 1
                    if error is not None and ends_this_thread(error):
                        raise error
                    self._wait(self._backoff.next(PAUSE_MIN, PAUSE_MAX))
                    continue
                if _is_an_answer(error):
                    self._backoff.succeed()
                self._attempts = 0
                if self._queue and self._queue[0][1] is send:
                    self._queue.popleft()
                    self._count(topic, error)
                self._changed.notify_all()

    def _is_worth_another(self, error: BaseException | None) -> bool:
        if isinstance(error, Exception) and not (isinstance(error, MercureError) and may_pass(error)):
            return False
        if error is None:
            return False
        if self._attempts == 1:
            waiting = len(self._queue)
            self._log.warning("an update waits for the Mercure hub (%d in the queue): %s", waiting, describe(error))
        return (isinstance(error, MercureError) and is_away(error)) or self._attempts < ATTEMPTS_MAX

    def _count(self, topic: str, error: BaseException | None) -> None:
        if error is None:
            self._published += 1
        elif isinstance(error, MercureError) and error.status is not None and 200 <= error.status < 300:
            # The hub, or whatever answers there, has taken it.
            self._published += 1
            self._log.error("the update on topic %r may not have been published: %s", topic, error)
        else:
            if not isinstance(error, Exception) or (isinstance(error, MercureError) and may_pass(error)):
                self._dropped += 1
            else:
                self._refused += 1
            self._log.error("the update on topic %r was not published: %s", topic, describe(error))

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + (min(seconds, PAUSE_MIN) if self._ending else seconds)
        # The end of the process ends a long pause.
        already = self._ending
        while (remaining := deadline - time.monotonic()) > 0 and self._ending == already:
            self._changed.wait(remaining)

    def end(self) -> None:
        """Take no more, and make haste."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()

    def drop(self) -> None:
        """Give up on what is left."""
        with self._changed:
            left = len(self._queue)
            self._dropped += left
            self._queue.clear()
        if left:
            self._log.error("%d updates were not published: the process ended before the Mercure hub took them", left)


def _attempt(send: Send) -> BaseException | None:
    """Send an update, and return its error, if any.

    An error that is no Exception (SystemExit, a time-out of gevent, a panic) is a failure of this update, not of the
    queue. It does not tell whether the hub has the update, so the update is sent again, with the same id.
    """
    try:
        send()
    except BaseException as error:
        return error
    return None


def _is_an_answer(error: BaseException | None) -> bool:
    """Whether the hub has answered: it has accepted the update, or refused it."""
    return error is None or (isinstance(error, MercureError) and not may_pass(error))


_all: Final[weakref.WeakSet[BackgroundQueues]] = weakref.WeakSet()


def _at_exit() -> None:
    began = time.monotonic()
    everything = [(each, queue) for each in list(_all) for queue in each.queues]
    for _, queue in everything:
        queue.end()
    # Applications and hubs are waited for together.
    for each, queue in everything:
        queue.flush(max(began + each.drain_seconds - time.monotonic(), 0))
        queue.drop()


@cache
def _register_at_exit() -> None:
    # After the import, so that it comes before whatever ends the connections.
    atexit.register(_at_exit)
