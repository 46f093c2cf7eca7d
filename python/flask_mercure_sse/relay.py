"""A stream that a thread of the server copies from the hub to the client, whose socket cannot be passed."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Iterator
from typing import Any, Final

from .worker import LOOK_SECONDS, gunicorn_worker

_PART_BYTES: Final = 64 * 1024
"""How many bytes are read at once."""


def relay(first: bytes, connection: socket.socket, environ: dict[str, Any]) -> Iterator[bytes]:
    """The parts of an event stream as they arrive, until the hub ends the stream or the client closes its
    connection."""
    # Most servers notice a closed connection when a write fails, which may take two keep-alives. Where a server gives
    # access to the client's socket, the end of the connection is seen at once.
    client = environ.get("werkzeug.socket") or environ.get("gunicorn.socket")
    left = environ.get("waitress.client_disconnected")
    worker = gunicorn_worker(environ)
    pause = LOOK_SECONDS if worker is not None or left is not None else None
    part, last = first, float("inf")
    with connection, selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        if type(client) is socket.socket:
            selector.register(client, selectors.EVENT_READ)
        while True:
            if part:
                yield part
                part = b""
            ready = [key.fileobj for key, _ in selector.select(pause)]
            if left is not None and left():
                return
            if worker is not None and not worker.alive:
                # A worker that is about to end closes a stream once its subscriber has all that has arrived; the
                # subscriber reconnects to another worker. A stream that is never idle is closed after LOOK_SECONDS.
                last = min(last, time.monotonic() + LOOK_SECONDS)
                if connection not in ready or time.monotonic() >= last:
                    return
            if connection in ready:
                part = connection.recv(_PART_BYTES)
                if not part:
                    return
            elif client in ready and type(client) is socket.socket:
                if _has_left(client):
                    return
                # The client sends bytes that nothing reads, so its socket stays readable: it is not watched any more.
                selector.unregister(client)


def _has_left(client: socket.socket) -> bool:
    try:
        return client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
