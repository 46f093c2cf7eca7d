"""A value that another server has, asked for at most once in a while, whatever the number of requests that want it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from . import forks
from .errors import MercureError

T = TypeVar("T")

FRESH_SECONDS: Final = 1.0
"""How long a value is used again."""

PAUSE_SECONDS: Final = 10.0
"""How long a server that has failed is not asked again, so that not every request waits for it."""


class Fresh(Generic[T]):
    """The last value, and when it was asked for. While one thread asks, others wait for its answer.

    >>> fresh = Fresh[int]()
    >>> fresh.get(lambda last: 1), fresh.get(lambda last: 2)
    (1, 1)
    """

    def __init__(self) -> None:
        self.after_fork()
        forks.register(self)

    def after_fork(self) -> None:
        # Another thread of the parent may have held the lock.
        self._lock = threading.Lock()
        self._value: T | None = None
        self._asked_at = self._failed_at = float("-inf")

    def get(self, ask: Callable[[T | None], T]) -> T:
        """The value, at most FRESH_SECONDS old.

        Args:
            ask: gets the former value, returns the present one.

        Raises:
            MercureError: raised by ``ask``, now or less than PAUSE_SECONDS ago.
        """
        forks.check()
        with self._lock:
            began = time.monotonic()
            if began - self._failed_at < PAUSE_SECONDS:
                raise MercureError("it has not answered a moment ago")
            if self._value is None or began - self._asked_at >= FRESH_SECONDS:
                try:
                    self._value = ask(self._value)
                except BaseException:
                    self._failed_at = time.monotonic()
                    raise
                # The value is at least as old as the question.
                self._asked_at = began
            return self._value
