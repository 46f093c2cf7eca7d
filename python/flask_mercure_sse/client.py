"""HTTP to a hub, with Python's own sockets: they leave the other greenlets and threads alone.

Connections are kept for the next request, by process, so that nothing is shared across a fork.
"""

from __future__ import annotations

import atexit
import contextlib
import http.client
import json
import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from .errors import (
    ForbiddenTopicError,
    HubError,
    HubTimeoutError,
    HubUnreachableError,
    InvalidUpdateError,
    MercureError,
    TokenRefusedError,
)


class Timeouts(NamedTuple):
    """How long a hub may take, in seconds."""

    connect: float = 2.0
    """Until it is reached: one that is away fails fast."""
    read: float = 10.0
    """Until its whole answer is here."""


DEFAULT_TIMEOUTS: Final = Timeouts()


_ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024


@dataclass(frozen=True)
class Answer:
    """What a hub answered."""

    status: int
    content_type: str
    body: bytes

    def raise_for_status(self) -> None:
        """Raise what the status means, with the hub's own words.

        Raises:
            MercureError: one of its subclasses, unless the status is 2xx.
        """
        if 200 <= self.status < 300:
            return
        explanation = self._explanation() or f"the hub answered {self.status}"
        raise _ERRORS.get(self.status, HubError)(explanation, status=self.status)

    def _explanation(self) -> str:
        text = self.body.decode(errors="replace")
        if self.content_type.startswith("application/problem+json"):
            try:
                detail = json.loads(text)["detail"]
            except (ValueError, KeyError, TypeError):
                return ""
            return str(detail)
        # Other hubs answer a line of text; a page of HTML explains nothing.
        return text.strip()[:300] if self.content_type.startswith("text/plain") else ""


_ERRORS: Final[Mapping[int, type[MercureError]]] = {
    400: InvalidUpdateError,
    401: TokenRefusedError,
    403: ForbiddenTopicError,
    413: InvalidUpdateError,
}


def request(
    method: str,
    url: str,
    *,
    token: str | None,
    body: bytes | None = None,
    content_type: str | None = None,
    through: socket.socket | None = None,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> Answer:
    """Send one request to a hub and return its answer, whatever its status.

    through: a connected socket to use, once, instead of one to the URL's host: the embedded hub's.

    Raises:
        HubUnreachableError: no connection.
        HubTimeoutError: no answer in time.
        HubError: the connection broke, or the answer is not HTTP.
    """
    parts = urlsplit(url)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    if content_type:
        headers["Content-Type"] = content_type
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    idle = _idle.setdefault((os.getpid(), parts.scheme, parts.netloc), deque())
    if through is None:
        connection = _reuse(idle) or _connect(parts.scheme, parts.netloc, timeouts.connect)
        connection.sock.settimeout(timeouts.read)
    else:
        through.settimeout(timeouts.read)
        connection = http.client.HTTPConnection("localhost")
        connection.sock = through
    deadline = time.monotonic() + timeouts.read
    sock = connection.sock
    try:
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        content = _read(response, sock, deadline)
    except TimeoutError:
        connection.close()
        raise HubTimeoutError(f"no answer from {_name(parts)} within {timeouts.read:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        reason = f"{type(error).__name__}: what was asked for may or may not have happened"
        raise HubError(f"{_name(parts)} broke the connection: {reason}") from error
    if response.will_close or through is not None or len(idle) >= _IDLE_MAX:
        connection.close()
    else:
        idle.append((time.monotonic(), connection))
    return Answer(response.status, response.getheader("Content-Type", ""), content)


class Stream:
    """An open answer that does not end: what has come of it, as it comes.

    Raises:
        MercureError: the hub cannot be reached, or refuses; the subclass says why.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None,
        last_event_id: str | None,
        through: socket.socket | None = None,
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> None:
        parts = urlsplit(url)
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        headers.update({} if token is None else {"Authorization": f"Bearer {token}"})
        headers.update({} if last_event_id is None else {"Last-Event-ID": last_event_id})
        if through is None:
            self._connection = _connect(parts.scheme, parts.netloc, timeouts.connect)
            _notice_silence(self._connection.sock)
        else:
            self._connection = http.client.HTTPConnection("localhost")
            self._connection.sock = through
        self._sock = self._connection.sock
        self._sock.settimeout(timeouts.read)
        try:
            self._connection.request("GET", f"{parts.path}?{parts.query}", headers=headers)
            self._response = self._connection.getresponse()
            self._check(time.monotonic() + timeouts.read)
        except TimeoutError:
            self.close()
            raise HubTimeoutError(f"no answer from {_name(parts)} within {timeouts.read:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise HubError(f"{_name(parts)} broke the connection: {type(error).__name__}") from error
        except MercureError:
            self.close()
            raise
        self._sock.settimeout(None)

    def _check(self, deadline: float) -> None:
        content_type = self._response.getheader("Content-Type", "")
        if self._response.status == 200 and content_type.startswith("text/event-stream"):
            return
        if self._response.status == 200:
            raise HubError("the answer is no event stream: is MERCURE_HUB_URL right?", status=200)
        Answer(self._response.status, content_type, _read(self._response, self._sock, deadline)).raise_for_status()
        raise HubError(f"the hub answered {self._response.status}, no event stream", status=self._response.status)

    def read(self) -> bytes:
        """What has come, at least a byte; nothing at the end, however it came about."""
        try:
            return self._response.read1(_PART_BYTES)
        except (OSError, http.client.HTTPException, ValueError, AttributeError):
            # The last two: the response was closed by another thread.
            return b""

    def close(self) -> None:
        """End it, also while another thread waits in :meth:`read`."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def _notice_silence(sock: socket.socket) -> None:
    """A hub that has vanished without a word is noticed in about a minute."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _read(response: http.client.HTTPResponse, sock: socket.socket, deadline: float) -> bytes:
    """The whole body, however slowly it comes, within the time."""
    parts: list[bytes] = []
    size = 0
    # The end of the body may close the socket with it.
    while not response.isclosed():
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        sock.settimeout(remaining)
        part = response.read1(_PART_BYTES)
        if not part:
            break
        parts.append(part)
        size += len(part)
        if size > _ANSWER_BYTES_MAX:
            raise http.client.HTTPException(f"an answer of more than {_ANSWER_BYTES_MAX} bytes")
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    # Nothing is left to read: the connection may carry the next request.
    response.close()
    return b"".join(parts)


_PART_BYTES: Final = 64 * 1024

_IDLE_MAX: Final = 8

_IDLE_SECONDS: Final = 4.0
"""Shorter than any server keeps a connection: an update that meets a closing one could not be sent again, since nobody
knows whether the hub has taken it."""

# By process and hub; appending and popping at the ends of a deque is atomic. A child process has keys of its own, so it
# never writes to its parent's sockets.
_Idle = deque[tuple[float, http.client.HTTPConnection]]
_idle: Final[dict[tuple[int, str, str], _Idle]] = {}


def _close_idle() -> None:
    for (process, _, _), connections in _idle.items():
        while process == os.getpid() and connections:
            connections.pop()[1].close()


# Registered with the import, so that it comes after whatever still publishes at the end of the process.
atexit.register(_close_idle)


def _reuse(idle: _Idle) -> http.client.HTTPConnection | None:
    """A kept connection on which nothing has happened: one that is readable has been closed by the hub."""
    while True:
        try:
            since, connection = idle.pop()
        except IndexError:
            return None
        fresh = time.monotonic() - since < _IDLE_SECONDS
        if fresh and connection.sock is not None and not _is_readable(connection.sock):
            return connection
        connection.close()


def _connect(scheme: str, netloc: str, timeout: float) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
    connection = kind(netloc, timeout=timeout)
    try:
        connection.connect()
    except TimeoutError:
        raise HubTimeoutError(f"no connection to {netloc} within {timeout:g} s") from None
    except OSError as error:
        raise HubUnreachableError(
            f"no connection to {netloc}: {error}: is the hub running, and is MERCURE_HUB_URL right?"
        ) from error
    return connection


def _name(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.netloc}{parts.path}"


def _is_readable(sock: socket.socket) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(0))
