"""HTTP as a browser would see it: heads with all of their fields, and the time at which each part arrives.

Unlike :mod:`flask_mercure_sse.http`, this module follows nothing, keeps nothing and judges nothing.
"""

from __future__ import annotations

import contextlib
import http.client
import queue
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import Final
from urllib.parse import SplitResult, urlsplit

PATIENCE: Final = 5.0
"""Seconds until a connection stands or an answer begins. A site takes a fraction of one."""

_PART_BYTES: Final = 64 * 1024
_BODY_BYTES_MAX: Final = 64 * 1024


@dataclass(frozen=True)
class Head:
    """The beginning of an answer."""

    status: int
    headers: Message = field(repr=False)
    seconds: float
    """How long it took from the request to its end."""

    def get(self, name: str) -> str:
        """A header field; empty if it is missing."""
        return self.headers.get(name) or ""


def origin_of(url: str) -> str:
    """Scheme, host and port of a URL.

    >>> origin_of("https://example.com/.well-known/mercure")
    'https://example.com'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def ask(url: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> tuple[Head, bytes]:
    """Send a request and read the answer, its first 64 KiB at most.

    Raises:
        OSError, http.client.HTTPException: there is no answer. TimeoutError: not within PATIENCE.
    """
    parts, began = urlsplit(url), time.monotonic()
    with contextlib.closing(_connection(parts)) as connection:
        connection.request(method, _target(parts), headers=dict(headers or {}))
        with connection.getresponse() as response:
            head = Head(response.status, response.headers, time.monotonic() - began)
            return head, response.read(_BODY_BYTES_MAX)


def negotiates_http_2(url: str) -> bool:
    """Whether a server speaks HTTP/2 with browsers.

    Raises:
        OSError: there is no connection.
    """
    parts = urlsplit(url)
    context = ssl.create_default_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    address = (parts.hostname or "", parts.port or 443)
    with (
        socket.create_connection(address, PATIENCE) as plain,
        context.wrap_socket(plain, server_hostname=parts.hostname) as connection,
    ):
        return connection.selected_alpn_protocol() == "h2"


class OpenStream:
    """An answer that is read by a thread of its own, so that waiting for it can end."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._parts, self._headers = urlsplit(url), {"Accept": "text/event-stream", **headers}
        self._arrivals: queue.Queue[Head | bytes | Exception] = queue.Queue()
        self._lock = threading.Lock()
        self._sock: socket.socket | None = None
        self._is_closed = False
        self.body = b""
        """What has arrived of the body and was waited for."""
        self.has_ended = False
        """Whether the end of the answer was seen."""
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> OpenStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def head(self, seconds: float = PATIENCE) -> Head | None:
        """Wait for the head of the answer. None: it does not come in time.

        Raises:
            OSError, http.client.HTTPException: there is no answer.
        """
        first = self._next(seconds)
        if isinstance(first, Exception):
            raise first
        return first if isinstance(first, Head) else None

    def wait_for(self, text: bytes, seconds: float) -> bool:
        """Wait until the body holds a text. False: it has ended, or the time is over."""
        until = time.monotonic() + seconds
        while text not in self.body and not self.has_ended:
            part = self._next(until - time.monotonic())
            if part is None:
                return False
            if isinstance(part, bytes) and part:
                self.body += part
            else:
                self.has_ended = True
        return text in self.body

    def close(self) -> None:
        """End the answer. Idempotent."""
        with self._lock:
            self._is_closed = True
            sock = self._sock
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _next(self, seconds: float) -> Head | bytes | Exception | None:
        try:
            return self._arrivals.get(timeout=max(seconds, 0))
        except queue.Empty:
            return None

    def _read(self) -> None:
        began = time.monotonic()
        try:
            with contextlib.closing(_connection(self._parts)) as connection:
                connection.connect()
                with self._lock:
                    if self._is_closed:
                        return
                    # The connection forgets its socket once it has an answer that ends with the connection.
                    self._sock = connection.sock
                connection.sock.settimeout(None)
                connection.request("GET", _target(self._parts), headers=self._headers)
                with connection.getresponse() as response:
                    self._arrivals.put(Head(response.status, response.headers, time.monotonic() - began))
                    while part := response.read1(_PART_BYTES):
                        self._arrivals.put(part)
            self._arrivals.put(b"")
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._arrivals.put(error)


def _connection(parts: SplitResult) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.netloc, timeout=PATIENCE)


def _target(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
