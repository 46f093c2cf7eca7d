"""Receiving updates: a subscription that connects again after every break."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from .backoff import Backoff
from .errors import HubError, HubTimeoutError, MercureError, may_pass
from .http.stream import Stream
from .sse import RETRY_SECONDS_MAX, Event, Parser, is_event_id
from .state import MercureSSEState
from .tokens import check_token
from .urls import subscribe_url
from .values import HUB_PATH, check_url

PAUSE_MIN: Final = 0.5
PAUSE_MAX: Final = RETRY_SECONDS_MAX
"""Seconds before a broken subscription connects again. The pauses double from break to break. They begin anew once an
event has arrived, or a stream has lasted for PAUSE_MAX. Each pause is up to half longer, at random."""


class Subscription:
    """An endless iterator over the events of some topics: ``for event in mercure.subscribe(topics)``.

    After a break the subscription connects again and goes on after the last event. So no event is lost as long as the
    hub's history reaches back to that event, and no event arrives twice. Use it as a context manager, or call
    :meth:`close`. Another thread may call that, too: the loop ends then.
    """

    def __init__(
        self,
        connect: Callable[[str | None], Stream],
        last_event_id: str | None,
        log: logging.Logger,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        """Make a subscription; nothing is sent before :meth:`open` or the first event.

        Args:
            connect: opens a stream that begins after an event's id; None: from now on.
            last_event_id: the first id to pass to ``connect``.
            log: gets a warning when the hub cannot be reached.
            clock, wait: the clock and the pauses in seconds, to be replaced in tests.
        """
        self._connect, self._log = connect, log
        self._cursor = last_event_id
        self._stream: Stream | None = None
        self._opened_at = 0.0
        self._events: deque[Event] = deque()
        self._parser = Parser()
        self._retry: float | None = None
        self._backoff = Backoff()
        self._closed = threading.Event()
        self._clock, self._sleep = clock, wait or self._closed.wait

    @property
    def last_event_id(self) -> str | None:
        """The id of the last event that the loop has received, for a later subscription to go on after it."""
        return self._cursor

    def open(self) -> Subscription:
        """Connect now, not when the first event is asked for: every update that is published after this call arrives.

        Raises:
            MercureError: the hub cannot be reached, or refuses.
        """
        if self._stream is None and not self._closed.is_set():
            self._stream = self._connect(self._cursor)
            self._opened_at = self._clock()
            # So a stream that breaks before its first event goes on where it began.
            self._cursor = self._cursor or self._stream.position
            self._parser = Parser()
            if self._closed.is_set():
                self._stream.close()
        return self

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        """Wait for the next event and return it.

        Raises:
            StopIteration: the subscription has been closed.
            MercureError: the hub refuses the subscription for good.
        """
        while not self._closed.is_set():
            if self._events:
                event = self._events.popleft()
                # An event without an id, and without one before it, is no cursor.
                self._cursor = event.id or self._cursor
                return event
            if self._stream is None:
                self._open_or_wait()
                continue
            part = self._stream.read()
            if part:
                self._take(part)
            else:
                self._end_stream()
                self._wait()
        raise StopIteration

    def _take(self, part: bytes) -> None:
        try:
            for event in self._parser.feed(part):
                # An event shows that the hub serves this subscription. A comment does not: each stream begins with a
                # comment, even a stream that ends at once.
                self._backoff.succeed()
                self._events.append(event)
        except HubError:
            # The next bytes would be read as the beginning of an event, and are not.
            self._end_stream()
            raise
        self._retry = self._parser.retry if self._parser.retry is not None else self._retry

    def _end_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
            # The hub has served a stream that lasted so long, even if nothing was published on it.
            if self._clock() - self._opened_at >= PAUSE_MAX:
                self._backoff.succeed()

    def _open_or_wait(self) -> None:
        try:
            self.open()
        except MercureError as error:
            if not may_pass(error):
                raise
            if self._backoff.failures == 0 or isinstance(error, HubTimeoutError):
                self._log.warning("a subscription waits for the Mercure hub: %s", error)
            self._wait()

    def _wait(self) -> None:
        first = PAUSE_MIN if self._retry is None else max(self._retry, PAUSE_MIN / 5)
        self._sleep(self._backoff.next(first, PAUSE_MAX))

    def close(self) -> None:
        """End the subscription and the loop over its events. Idempotent."""
        self._closed.set()
        stream = self._stream
        if stream is not None:
            stream.close()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def subscribe(
    state: MercureSSEState,
    selected: list[str],
    last_event_id: str | None = None,
    jwt: str | None = None,
    hub_url: str | None = None,
) -> Subscription:
    """See :meth:`flask_mercure_sse.MercureSSE.subscribe`. selected: the topics, as texts."""
    settings = state.settings
    is_embedded = state.embedded.is_used and hub_url is None
    base = "http://localhost" + HUB_PATH if is_embedded else check_url("hub_url", hub_url) or settings.external_url
    url = subscribe_url(state, base, selected)
    if jwt:
        jwt = check_token(jwt)
    if last_event_id is not None and not is_event_id(last_event_id):
        raise ValueError("last_event_id: write the id of an event: a text without control characters")

    def connect(cursor: str | None) -> Stream:
        # The embedded hub's own key signs for no other hub.
        key = state.keys.find("subscriber") if hub_url else state.authorization.own_key("subscriber")
        granted = {"subscribe": selected}
        token = jwt or (state.authorization.sign("subscriber", key, granted) if key else None)
        through = state.embedded.connect() if is_embedded else None
        return Stream(url, token=token, last_event_id=cursor, through=through, timeouts=settings.timeouts)

    subscription = Subscription(connect, last_event_id, state.app.logger)
    try:
        return subscription.open()
    except MercureError as error:
        if not may_pass(error):
            raise
        # The loop connects again.
        return subscription
