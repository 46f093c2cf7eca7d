"""The events of an SSE stream, parsed from its bytes.

The format is that of the HTML standard, section "Server-sent events". Nothing here reads a socket.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from .errors import HubError

RETRY_SECONDS_MAX: Final = 30.0
"""The longest pause that a stream can ask for: as long as the longest pause of a client that is asked for none."""

EVENT_BYTES_MAX: Final = 16 * 1024 * 1024
"""The longest event that is read. Hubs accept far shorter ones, so a longer event is not from a hub."""


@dataclass(frozen=True)
class Event:
    """One event, as a browser would see it.

    >>> Event(id="urn:uuid:1", type="message", data="[1]").json()
    [1]
    """

    id: str
    """The id of the update: the ``last_event_id`` of a later subscription. Empty: no event had an id yet."""
    type: str
    """The type of the update; "message" if it has none."""
    data: str
    """The data of the update: its lines, joined with LF."""

    def json(self) -> Any:
        """The data, parsed as JSON.

        Raises:
            ValueError: the data is no JSON.
        """
        return json.loads(self.data)


def is_event_id(text: Any) -> bool:
    """Whether a request can name a text as the last event id.

    >>> is_event_id("urn:uuid:1"), is_event_id("a\\nb"), is_event_id(7)
    (True, False, False)
    """
    return isinstance(text, str) and not re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", text)


class Parser:
    """Turns the bytes of one stream into events, wherever the bytes are cut into parts.

    >>> list(Parser().feed(b"id: 1\\ndata: a\\ndata: b\\n\\n"))
    [Event(id='1', type='message', data='a\\nb')]
    """

    def __init__(self) -> None:
        self.last_event_id = ""
        self.retry: float | None = None
        """Seconds to wait before the next connection, RETRY_SECONDS_MAX at most. None: the stream has not said."""
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
        """Take the next bytes and yield each event that they complete.

        Raises:
            HubError: an event has more than EVENT_BYTES_MAX bytes. The parser cannot go on.
        """
        if not part:
            return
        # A part may end between the CR and the LF of one line end.
        completes_crlf = self._ends_with_cr and part.startswith(b"\n")
        self._ends_with_cr = part.endswith(b"\r")
        if completes_crlf:
            part = part[1:]
        # Only CR, LF and CRLF end a line. The text methods of Python know more line ends; those of bytes do not.
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
            # Only lines of data are kept together. Other fields replace each other, or are dropped.
            self._size += len(line)
        elif name == "event":
            self._type = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            # The standard allows any number of digits. Python parses a few thousand at most, so zeros and rest are cut.
            self.retry = min(int(value.lstrip("0")[:12] or 0) / 1000, RETRY_SECONDS_MAX)
        return None
