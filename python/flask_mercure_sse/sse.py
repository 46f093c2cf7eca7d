"""Receiving: the events of an SSE stream, and a subscription that comes back after every break.

The format is that of the HTML standard, section "Server-sent events".
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from .backoff import Backoff
from .client import Stream
from .errors import HubError, HubTimeoutError, MercureError, may_pass

PAUSE_MIN: Final = 0.5
PAUSE_MAX: Final = 30.0
"""Seconds before a broken subscription is opened again: the pauses grow from break to break until an event comes, or a
stream has lasted as long as the longest of them. Each pause is up to half longer, at random."""

EVENT_BYTES_MAX: Final = 16 * 1024 * 1024
"""The longest event that is read; hubs take far shorter ones."""


@dataclass(frozen=True)
class Event:
    """One event, as a browser would see it.

    >>> Event(id="urn:uuid:1", type="message", data="[1]").json()
    [1]
    """

    id: str
    """The update's id: the cursor from which a subscription goes on."""
    type: str
    """"message" where the update has no type."""
    data: str

    def json(self) -> Any:
        """The data, parsed as JSON.

        Raises:
            ValueError: it is no JSON.
        """
        return json.loads(self.data)


class Parser:
    """Makes events of bytes, however they are cut.

    >>> list(Parser().feed(b"id: 1\\ndata: a\\ndata: b\\n\\n"))
    [Event(id='1', type='message', data='a\\nb')]
    """

    def __init__(self) -> None:
        self.last_event_id = ""
        self.retry: float | None = None
        """Seconds, when the stream has asked for a pause before the next connection."""
        self._rest = bytearray()
        self._ends_with_cr = False
        self._is_first = True
        self._clear()

    def _clear(self) -> None:
        self._id: str | None = None
        self._type = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, part: bytes) -> Iterator[Event]:
        """The events that are complete with this part.

        Raises:
            HubError: an event of more than EVENT_BYTES_MAX bytes.
        """
        if not part:
            return
        # A part may end between the CR and the LF of one line end.
        completes_crlf = self._ends_with_cr and part.startswith(b"\n")
        self._ends_with_cr = part.endswith(b"\r")
        if completes_crlf:
            part = part[1:]
        # Line ends are CR, LF and CRLF, and nothing else that Python takes for one: bytes know only these.
        *lines, rest = part.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            whole = bytes(self._rest) + line if self._rest else line
            self._rest.clear()
            if self._is_first:
                whole = whole.removeprefix(b"\xef\xbb\xbf")
                self._is_first = False
            self._bound(len(whole))
            event = self._line(whole)
            if event is not None:
                yield event
        self._rest += rest
        self._bound(len(self._rest))

    def _bound(self, line_bytes: int) -> None:
        if self._size + line_bytes > EVENT_BYTES_MAX:
            raise HubError(f"the hub sent an event of more than {EVENT_BYTES_MAX} bytes")

    def _line(self, line: bytes) -> Event | None:
        if not line:
            self.last_event_id = self.last_event_id if self._id is None else self._id
            event = Event(self.last_event_id, self._type or "message", "\n".join(self._data)) if self._data else None
            self._clear()
            return event
        name, _, value = line.decode(errors="replace").partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
            # Only lines of data add up: other fields replace each other, or are dropped.
            self._size += len(line)
        elif name == "event":
            self._type = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            # The standard allows any number of digits; Python parses some thousand at most.
            self.retry = min(int(value.lstrip("0")[:12] or 0) / 1000, PAUSE_MAX)
        return None


class Subscription:
    """The events of some topics, for ever: what ``for event in mercure.subscribe(topics)`` goes through.

    A broken connection is opened again from the last event, so that nothing is lost while the hub's history reaches
    back, and nothing comes twice. Use it as a context manager, or call :meth:`close`; also from another thread, which
    ends the loop.
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
        """connect: opens the stream from a cursor on, or from now. clock, wait: in seconds; for tests."""
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
        """The id of the last event that the loop has received: where a later subscription may go on."""
        return self._cursor

    def open(self) -> Subscription:
        """Connect now, instead of with the first event; then whatever is published from now on comes.

        Raises:
            MercureError: the hub cannot be reached, or refuses.
        """
        if self._stream is None and not self._closed.is_set():
            self._stream = self._connect(self._cursor)
            self._opened_at = self._clock()
            # Before its first event, too, a stream that breaks is taken up where it was.
            self._cursor = self._cursor or self._stream.position
            self._parser = Parser()
            if self._closed.is_set():
                self._stream.close()
        return self

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        """The next event, waiting for it.

        Raises:
            StopIteration: it has been closed.
            MercureError: the hub refuses, which another attempt would not change.
        """
        while not self._closed.is_set():
            if self._events:
                event = self._events.popleft()
                # An event without an id before it has no place in the history.
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
            # The bytes that follow belong to an event whose beginning is lost.
            self._end_stream()
            raise
        self._retry = self._parser.retry if self._parser.retry is not None else self._retry

    def _end_stream(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
            # A stream that lasted long was served, even if nothing was published on it.
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
        """End the subscription; the loop ends with it. Idempotent."""
        self._closed.set()
        stream = self._stream
        if stream is not None:
            stream.close()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
