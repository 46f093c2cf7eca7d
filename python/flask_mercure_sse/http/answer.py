"""HTTP to a hub, with Python's own sockets: they leave the other greenlets and threads alone.

Connections are kept for the next request; a forked process begins without any.
"""

from __future__ import annotations

import atexit
import contextlib
import http.client
import io
import json
import re
import selectors
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from . import forks
from .errors import (
    ForbiddenTopicError,
    HubConnectTimeoutError,
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


def is_cooperative() -> bool:
    """Whether waiting for a socket lets other greenlets go on: without gevent's patch, sockets are the system's."""
    return socket.socket.__module__.startswith("gevent.")


DEFAULT_TIMEOUTS: Final = Timeouts()


_ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024


@dataclass(frozen=True)
class Answer:
    """What a hub answered."""

    status: int
    content_type: str
    body: bytes
    location: str = ""

    def raise_for_status(self) -> None:
        """Raise what the status means, with the hub's own words.

        Raises:
            MercureError: one of its subclasses, unless the status is 2xx.
        """
        if 200 <= self.status < 300:
            return
        explanation = self._explanation() or f"the hub answered {self.status}"
        if self.location and 300 <= self.status < 400:
            explanation = f"the hub answered {self.status}: MERCURE_HUB_URL is {self.location.partition('?')[0]} now"
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


def check_token(token: Any) -> str:
    """A token as a header takes it, without the line end of the file that it was read from.

    >>> check_token("j.w.t\\n")
    'j.w.t'

    Raises:
        TokenRefusedError: no hub would take it. The message does not quote it.
    """
    stripped = token.strip() if isinstance(token, str) else ""
    if not _TOKEN.fullmatch(stripped):
        raise TokenRefusedError("jwt: write a token: letters, digits, dots, dashes and underscores; it was not sent")
    return stripped


_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""RFC 6750, section 2.1."""


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
    headers = {} if token is None else {"Authorization": f"Bearer {check_token(token)}"}
    if content_type:
        headers["Content-Type"] = content_type
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    hub = (parts.scheme, parts.netloc)
    if through is None:
        connection = _reuse(hub) or _connect(*hub, timeouts.connect)
    else:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = through
    _limit(connection, timeouts.read)
    try:
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        content = _read(response)
    except TimeoutError:
        connection.close()
        raise HubTimeoutError(f"no answer from {_name(parts)} within {timeouts.read:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        reason = f"{type(error).__name__}: what was asked for may or may not have happened"
        raise HubError(f"{_name(parts)} broke the connection: {reason}") from error
    except BaseException:
        # Such as a time-out of gevent: a late answer must not become that of the next request.
        connection.close()
        raise
    if response.will_close or through is not None:
        connection.close()
    else:
        _keep(hub, connection)
    return _answer(response, content, token)


def _answer(response: http.client.HTTPResponse, content: bytes, token: str | None) -> Answer:
    location = response.getheader("Location", "")
    if token and not 200 <= response.status < 300:
        # Some servers quote the request in what they say.
        content = content.replace(token.strip().encode(), b"[token]")
        location = location.replace(token.strip(), "[token]")
    return Answer(response.status, response.getheader("Content-Type", ""), content, location)


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
        headers.update({} if token is None else {"Authorization": f"Bearer {check_token(token)}"})
        # Headers are bytes: http.client writes Latin-1, servers read UTF-8.
        headers.update({} if last_event_id is None else {"Last-Event-ID": last_event_id.encode().decode("latin-1")})
        self._lock = threading.Lock()
        self._is_read = self._is_closed = False
        if through is None:
            self._connection = _connect(parts.scheme, parts.netloc, timeouts.connect)
            _notice_silence(self._connection.sock)
        else:
            self._connection = http.client.HTTPConnection("localhost")
            self._connection.sock = through
        self._sock = self._connection.sock
        self._response: http.client.HTTPResponse | None = None
        deadline = _limit(self._connection, timeouts.read)
        try:
            self._connection.request("GET", f"{parts.path}?{parts.query}", headers=headers)
            self._response = self._connection.getresponse()
            self._check(self._response, token)
        except TimeoutError:
            self.close()
            raise HubTimeoutError(f"no answer from {_name(parts)} within {timeouts.read:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise HubError(f"{_name(parts)} broke the connection: {type(error).__name__}") from error
        except BaseException:
            # Also for a time-out of gevent.
            self.close()
            raise
        deadline.at = None
        self._sock.settimeout(None)

    @staticmethod
    def _check(response: http.client.HTTPResponse, token: str | None) -> None:
        content_type = response.getheader("Content-Type", "")
        if response.status == 200 and content_type.startswith("text/event-stream"):
            return
        if response.status == 200:
            raise HubError("the answer is no event stream: is MERCURE_HUB_URL right?", status=200)
        _answer(response, _read(response), token).raise_for_status()
        raise HubError(f"the hub answered {response.status}, no event stream", status=response.status)

    @property
    def position(self) -> str | None:
        """Where the stream begins, if the hub has said so: the id of the update before its first event."""
        if self._response is None:
            return None
        # The one of 1.0, which petasos sends in 0.x, too; other hubs of 0.x send the other.
        header = self._response.getheader("Mercure-Last-Event-ID") or self._response.getheader("Last-Event-ID")
        try:
            return header.encode("latin-1").decode() if header else None
        except UnicodeError:
            return None

    def read(self) -> bytes:
        """What has come, at least a byte; nothing at the end, however it came about."""
        with self._lock:
            if self._is_closed or self._response is None:
                return b""
            self._is_read = True
        try:
            return self._response.read1(_PART_BYTES)
        except (OSError, http.client.HTTPException):
            return b""
        finally:
            with self._lock:
                self._is_read, is_closed = False, self._is_closed
            if is_closed:
                self._release()

    def close(self) -> None:
        """End it, also while another thread or greenlet waits in :meth:`read`: that one then releases it, since a
        buffered reader may not be closed by others. Idempotent."""
        with self._lock:
            self._is_closed = True
            is_read = self._is_read
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        if not is_read:
            self._release()

    def _release(self) -> None:
        if self._response is not None:
            self._response.close()
        self._connection.close()


def _notice_silence(sock: socket.socket) -> None:
    """A hub that has vanished without a word is noticed in about a minute."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class _Deadline:
    """When an answer has to be here: time.monotonic(); None: whenever."""

    def __init__(self, at: float | None) -> None:
        self.at = at


class _Timed(io.RawIOBase):
    """What a socket receives, however slowly it trickles, until the deadline."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: _Deadline) -> None:
        self._raw, self._sock, self._deadline = raw, sock, deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._deadline.at is not None:
            remaining = self._deadline.at - time.monotonic()
            if remaining <= 0:
                raise TimeoutError
            self._sock.settimeout(remaining)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, deadline: _Deadline, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Timed(self.fp.detach(), sock, deadline))


def _limit(connection: http.client.HTTPConnection, seconds: float) -> _Deadline:
    """Let the next answer of a connection, from its first byte to its last, take so long."""
    deadline = _Deadline(time.monotonic() + seconds)
    connection.sock.settimeout(seconds)
    connection.response_class = partial(_Response, deadline=deadline)  # type: ignore[assignment]
    return deadline


def _read(response: http.client.HTTPResponse) -> bytes:
    """The whole body."""
    parts: list[bytes] = []
    size = 0
    # The end of the body may close the socket with it.
    while not response.isclosed():
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


class _Idle:
    """Connections that wait for the next request, by scheme and address of their hub."""

    def __init__(self) -> None:
        self.after_fork()
        forks.register(self)

    def after_fork(self) -> None:
        # The parent's connections are the parent's.
        self.lock = threading.Lock()
        self.connections: dict[tuple[str, str], list[tuple[float, http.client.HTTPConnection]]] = {}


_idle: Final = _Idle()


def _reuse(hub: tuple[str, str]) -> http.client.HTTPConnection | None:
    """A kept connection on which nothing has happened: one that is readable has been closed by the hub."""
    forks.check()
    while True:
        with _idle.lock:
            kept = _idle.connections.get(hub)
            if not kept:
                return None
            since, connection = kept.pop()
        fresh = time.monotonic() - since < _IDLE_SECONDS
        if fresh and connection.sock is not None and not _is_readable(connection.sock):
            return connection
        connection.close()


def _keep(hub: tuple[str, str], connection: http.client.HTTPConnection) -> None:
    now = time.monotonic()
    with _idle.lock:
        old = [each for kept in _idle.connections.values() for since, each in kept if now - since >= _IDLE_SECONDS]
        # Hubs that nobody asks any more leave nothing behind.
        fresh = {name: [each for each in kept if each[1] not in old] for name, kept in _idle.connections.items()}
        _idle.connections = {name: kept for name, kept in fresh.items() if kept}
        kept = _idle.connections.setdefault(hub, [])
        if len(kept) < _IDLE_MAX:
            kept.append((now, connection))
        else:
            old.append(connection)
    for each in old:
        each.close()


def _close_idle() -> None:
    with _idle.lock:
        connections = [connection for kept in _idle.connections.values() for _, connection in kept]
        _idle.connections = {}
    for connection in connections:
        connection.close()


# Registered with the import, so that it comes after whatever still publishes at the end of the process.
atexit.register(_close_idle)


def _connect(scheme: str, netloc: str, timeout: float) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
    connection = kind(netloc, timeout=timeout)
    try:
        connection.connect()
    except TimeoutError:
        raise HubConnectTimeoutError(f"no connection to {netloc} within {timeout:g} s") from None
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
