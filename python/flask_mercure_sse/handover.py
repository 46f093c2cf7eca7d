"""Streams that leave the WSGI server: the client's socket is passed to the hub, and the server is free.

The answer goes through the application as usual. When all of its functions have seen it, the hub gets the head that
came out, and the client's socket, and writes to it by itself. From then on, the server's file descriptor is one end of
a socket pair. The server writes an empty answer into it, reads an end, and closes.

What the hub does with it: ``crates/server/src/connection/passing.rs``.
"""

from __future__ import annotations

import array
import contextlib
import logging
import os
import socket
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from flask import Response, current_app
from werkzeug.wsgi import ClosingIterator

from .relay import relay
from .servers import Unreachable, client_number, takes_chunks, why_blocked

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_logger: Final = logging.getLogger(__name__)

_HEAD_BYTES_MAX: Final = 60 * 1024
"""The longest head that is passed; the hub takes 64 KiB."""

_FIELDS_MAX: Final = 120
"""The most fields of a head that is passed; the hub takes 128."""

_KEPT: Final = b"\n"
"""Tells the hub that the client is not passed: it writes the stream to the pair."""


def stream_response(connection: socket.socket, environ: WSGIEnvironment, headers: list[tuple[str, str]]) -> Response:
    """The answer for a stream that the hub offers on that connection, for the client of that request."""
    response = StreamResponse(_events(connection, environ), headers=headers)
    response.offer = response.response, connection
    response.call_on_close(connection.close)
    # Flask would give a response of another class than the application's that class, without what is here.
    base = current_app.response_class
    if base not in _classes:
        _classes[base] = type(StreamResponse.__name__, (StreamResponse, base), {})
    response.__class__ = _classes[base]
    return response


class StreamResponse(Response):
    """The answer to a subscriber. Its call passes the client to the hub, if the application has left the stream as it
    is. Otherwise a thread of the server copies the stream, if the server has one for it."""

    offer: tuple[Any, socket.socket]
    """The stream that the hub offers, and the connection to the hub."""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """The answer as a WSGI application."""
        events, connection = self.offer
        headers = self.get_wsgi_headers(environ)
        is_unchanged = self.response is events and self.status_code == 200 and "Content-Encoding" not in headers
        if is_unchanged and _pass_client(connection, environ, list(headers)):
            headers["Content-Length"] = "0"
            start_response(self.status, headers.to_wsgi_list())
            return ClosingIterator((), self.close)
        problem = why_blocked(environ)
        if problem is None:
            return super().__call__(environ, start_response)
        self.close()
        _logger.error("The embedded Mercure hub refuses a subscriber: %s", problem)
        return Response(problem, 503)(environ, start_response)


_classes: Final[dict[Any, type[StreamResponse]]] = {}
"""By the response class of the application."""


def _pass_client(connection: socket.socket, environ: WSGIEnvironment, headers: list[tuple[str, str]]) -> bool:
    """Pass the client to the hub. False: it cannot be passed, and nothing has happened."""
    try:
        number = client_number(environ)
        head = _head(environ, headers)
        is_blocking = os.get_blocking(number)
        servers_end, hubs_end = socket.socketpair()
    except (Unreachable, OSError, ValueError):
        return False
    with servers_end, hubs_end:
        # The server reads an end at once, also if the hub takes a moment.
        hubs_end.shutdown(socket.SHUT_WR)
        os.set_blocking(servers_end.fileno(), is_blocking)
        passed = array.array("i", [number, hubs_end.fileno()])
        try:
            sent = connection.sendmsg([head], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, passed)])
        except OSError:
            # The hub has ended, or the system has no room for descriptors on their way.
            return False
        with contextlib.suppress(OSError), connection:
            connection.sendall(head[sent:])
        # The hub has the socket now, whatever this number stands for.
        os.dup2(servers_end.fileno(), number, inheritable=False)
    return True


def _head(environ: WSGIEnvironment, headers: list[tuple[str, str]]) -> bytes:
    """The head of the answer; the hub adds what belongs to the connection.

    Raises:
        ValueError: the head cannot be passed.
    """
    lines = [f"HTTP/1.{1 if takes_chunks(environ) else 0} 200 OK", *(f"{name}: {value}" for name, value in headers)]
    if len(headers) > _FIELDS_MAX or any("\r" in line or "\n" in line for line in lines):
        raise ValueError("the hub takes no such fields")
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    if len(head) > _HEAD_BYTES_MAX:
        raise ValueError("the hub takes no such head")
    return head


def _events(connection: socket.socket, environ: WSGIEnvironment) -> Iterator[bytes]:
    """The stream, for a client that is not passed after all."""
    with connection:
        if why_blocked(environ) is None:
            with contextlib.suppress(OSError):
                connection.sendall(_KEPT)
            yield from relay(b"", connection, environ)
