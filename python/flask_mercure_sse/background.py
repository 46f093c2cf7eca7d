"""Publishing in the background: for each hub a bounded queue with a thread, and retries until the hub is available.

The policy of a queue:

- Updates are sent in the order in which they were published.
- While the hub is unavailable, all updates wait, and the first one is sent again after a pause. The pauses grow until
  the hub accepts or refuses an update.
- An update that the hub receives and does not accept is sent ATTEMPTS_MAX times and dropped then. The others wait for
  it.
- An update that the hub refuses for good is dropped.
- A full queue drops new updates.
- At the end of the process, the updates that wait get a few more seconds.

Every drop is counted. The log has every refusal, and the first update that a full queue drops. An update that is sent
twice, because its first answer was lost, has the same id both times.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import astuple, dataclass
from functools import cache
from typing import Final

from . import forks
from .backoff import Backoff
from .counters import Counters, Result
from .errors import MercureError, describe, is_away, may_pass
from .greenlets import ends_this_thread

PAUSE_MIN: Final = 0.5
PAUSE_MAX: Final = 30.0
"""Seconds between two attempts: the pauses double from PAUSE_MIN to PAUSE_MAX. Each is up to half longer, at random."""

ATTEMPTS_MAX: Final = 10
"""How often an update is sent to a hub that can be reached. The pauses add up to two or three minutes, which is longer
than a hub takes to start."""

HUBS_MAX: Final = 8
"""How many hubs have a queue and a thread of their own. All further hubs share one queue."""

IDLE_SECONDS: Final = 10.0
"""How long a thread waits for the next update before it ends."""

Send = Callable[[], object]


@dataclass(frozen=True)
class BackgroundStats:
    """Counters of one process, as ``mercure.background``.

    >>> BackgroundStats(waiting=2).dropped
    0
    """

    waiting: int = 0
    """Updates in the queues now."""
    published: int = 0
    """Updates that a hub has accepted."""
    retried: int = 0
    """Failed attempts after which the update was sent again."""
    dropped: int = 0
    """Updates for which the queue was full, that a hub did not accept in ATTEMPTS_MAX attempts, or that were still in
    the queue at the end of the process."""
    refused: int = 0
    """Updates that a hub has refused for good."""


class BackgroundQueues:
    """The queues of an application, one for each hub that it publishes on: an unavailable hub delays no other hub.

    Args:
        length: updates that may wait in each queue.
        drain_seconds: how long the queues may go on sending at the end of the process.
        counters: those of the application, which count everything that the queues do.

    >>> sent = []
    >>> queues = BackgroundQueues(length=10, drain_seconds=1, log=logging.getLogger("example"))
    >>> queues.put("http://hub.example", lambda: sent.append("update"), topic="a")
    True
    >>> queues.flush(timeout=10), sent
    (True, ['update'])
    """

    def __init__(
        self, length: int, drain_seconds: float, log: logging.Logger, counters: Counters | None = None
    ) -> None:
        self.drain_seconds = drain_seconds
        self._length, self._log, self._counters = length, log, counters or Counters()
        self.after_fork()
        forks.register(self)
        _all.add(self)
        _register_at_exit()

    def after_fork(self) -> None:
        # The parent sends the updates that wait in the parent.
        self._lock = threading.Lock()
        self._queues: dict[str, _Queue] = {}

    def put(self, hub: str, send: Send, topic: str) -> bool:
        """Queue an update for a hub. Return False if the queue is full and the update was dropped.

        Args:
            hub: the URL of the hub.
            send: called in another thread, possibly several times: publishes the update, or raises MercureError.
            topic: names the update in the log.
        """
        forks.check()
        with self._lock:
            name = hub if hub in self._queues or len(self._queues) < HUBS_MAX else ""
            queue = self._queues.setdefault(name, _Queue(self._length, self._log, self._counters))
        return queue.put(send, topic)

    @property
    def queues(self) -> list[_Queue]:
        """The queues that were made in this process."""
        forks.check()
        with self._lock:
            return list(self._queues.values())

    @property
    def stats(self) -> BackgroundStats:
        """The counters of all hubs together."""
        return BackgroundStats(
            *(sum(column) for column in zip(*(astuple(each.stats) for each in self.queues), strict=True))
        )

    def flush(self, timeout: float) -> bool:
        """Wait until all queues are empty, at most ``timeout`` seconds, and return whether they are."""
        deadline = time.monotonic() + timeout
        return all(each.flush(max(deadline - time.monotonic(), 0)) for each in self.queues)


class _Queue:
    """The updates for one hub, and the thread that sends them. The thread starts with the first update."""

    def __init__(self, length: int, log: logging.Logger, counters: Counters) -> None:
        self._length, self._log, self._counters = length, log, counters
        self._queue: deque[tuple[str, Send]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._attempts = 0
        """Attempts to send the first update in the queue."""
        self._backoff = Backoff()
        """The pauses of this hub. A dropped update does not shorten them."""
        self._ending = self._is_full = False
        self._results: Counter[Result] = Counter()

    def put(self, send: Send, topic: str) -> bool:
        with self._changed:
            if self._ending:
                self._add("dropped")
                self._log.error("the update on topic %r was not published: the process ends", topic)
                return False
            if len(self._queue) >= self._length:
                self._add("dropped")
                if not self._is_full:
                    self._log.error(
                        "%d updates wait for the Mercure hub: this update and later ones are dropped until the hub "
                        "accepts some",
                        len(self._queue),
                    )
                self._is_full = True
                return False
            self._is_full = False
            self._queue.append((topic, send))
            self._counters.queue(+1)
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
            # The next update, or the next call of flush, tries again.
            self._log.error("%d updates for the Mercure hub wait for a thread: %s", len(self._queue), error)
            return
        self._thread = thread

    @property
    def stats(self) -> BackgroundStats:
        with self._changed:
            counts = self._results
            return BackgroundStats(
                len(self._queue), counts["published"], counts["retried"], counts["dropped"], counts["refused"]
            )

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
                    self._add("retried")
                    if error is not None and ends_this_thread(error):
                        raise error
                    self._wait(self._backoff.next(PAUSE_MIN, PAUSE_MAX))
                    continue
                if _is_an_answer(error):
                    self._backoff.succeed()
                self._attempts = 0
                if self._queue and self._queue[0][1] is send:
                    self._queue.popleft()
                    self._counters.queue(-1)
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

    def _add(self, result: Result, count: int = 1) -> None:
        self._results[result] += count
        self._counters.add(result, count)

    def _count(self, topic: str, error: BaseException | None) -> None:
        if error is None:
            self._add("published")
        elif isinstance(error, MercureError) and error.status is not None and 200 <= error.status < 300:
            # The server that answers at the hub's URL has accepted it.
            self._add("published")
            self._log.error("the update on topic %r may not have been published: %s", topic, error)
        else:
            if not isinstance(error, Exception) or (isinstance(error, MercureError) and may_pass(error)):
                self._add("dropped")
            else:
                self._add("refused")
            self._log.error("the update on topic %r was not published: %s", topic, describe(error))

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + (min(seconds, PAUSE_MIN) if self._ending else seconds)
        # The end of the process ends a long pause.
        already = self._ending
        while (remaining := deadline - time.monotonic()) > 0 and self._ending == already:
            self._changed.wait(remaining)

    def end(self) -> None:
        """Accept no more updates, and shorten the pauses."""
        with self._changed:
            self._ending = True
            self._changed.notify_all()

    def drop(self) -> None:
        """Drop the updates that are left."""
        with self._changed:
            left = len(self._queue)
            self._counters.queue(-left)
            self._add("dropped", left)
            self._queue.clear()
        if left:
            self._log.error(
                "%d updates were not published: the process ended before the Mercure hub accepted them", left
            )


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
    # All queues have the same deadline, counted from the beginning.
    for each, queue in everything:
        queue.flush(max(began + each.drain_seconds - time.monotonic(), 0))
        queue.drop()


@cache
def _register_at_exit() -> None:
    # At the first use and not at import: functions that are registered later run earlier, so the connections still
    # stand.
    atexit.register(_at_exit)
