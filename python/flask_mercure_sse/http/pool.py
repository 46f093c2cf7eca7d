"""Connections to hubs, kept for the next request. A forked process begins without any."""

from __future__ import annotations

import atexit
import http.client
import selectors
import socket
import threading
import time
from typing import Final

from .. import forks
from ..errors import HubConnectTimeoutError, HubUnreachableError

Origin = tuple[str, str]
"""Scheme and address of a hub: ``("http", "localhost:5500")``."""


def connect(scheme: str, netloc: str, timeout: float) -> http.client.HTTPConnection:
    """Open a new connection to a hub.

    Args:
        timeout: seconds until the connection must stand.

    Raises:
        HubConnectTimeoutError: the hub cannot be reached in time.
        HubUnreachableError: the system refuses the connection, or the TLS handshake fails.
    """
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


def through(connected: socket.socket) -> http.client.HTTPConnection:
    """A connection that uses a socket which is connected already: the embedded hub's."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = connected
    return connection


def reuse(hub: Origin) -> http.client.HTTPConnection | None:
    """Take a kept connection that the hub has not closed. None: there is none."""
    forks.check()
    while True:
        with _idle.lock:
            kept = _idle.connections.get(hub)
            if not kept:
                return None
            since, connection = kept.pop()
        is_fresh = time.monotonic() - since < IDLE_SECONDS
        # A readable connection has been closed by the hub: it sends nothing unasked.
        if is_fresh and connection.sock is not None and not _is_readable(connection.sock):
            return connection
        connection.close()


def keep(hub: Origin, connection: http.client.HTTPConnection) -> None:
    """Keep a connection whose answer was read to its end. Closes the connections that were kept for too long."""
    now = time.monotonic()
    with _idle.lock:
        closing = [each for kept in _idle.connections.values() for since, each in kept if now - since >= IDLE_SECONDS]
        fresh = {name: [each for each in kept if each[1] not in closing] for name, kept in _idle.connections.items()}
        # A hub without kept connections takes no memory.
        _idle.connections = {name: kept for name, kept in fresh.items() if kept}
        kept = _idle.connections.setdefault(hub, [])
        if len(kept) < IDLE_MAX:
            kept.append((now, connection))
        else:
            closing.append(connection)
    for each in closing:
        each.close()


IDLE_MAX: Final = 8
"""Connections that are kept for one hub: as many threads as usually publish at once."""

IDLE_SECONDS: Final = 4.0
"""How long a connection is kept. Shorter than any server's own limit: an update that meets a closing connection could
not be sent again, since nobody knows whether the hub has taken it."""


class _Idle:
    """The kept connections of this process."""

    def __init__(self) -> None:
        self.after_fork()
        forks.register(self)

    def after_fork(self) -> None:
        # The parent goes on using its connections.
        self.lock = threading.Lock()
        self.connections: dict[Origin, list[tuple[float, http.client.HTTPConnection]]] = {}


_idle: Final = _Idle()


def _close_idle() -> None:
    with _idle.lock:
        connections = [connection for kept in _idle.connections.values() for _, connection in kept]
        _idle.connections = {}
    for connection in connections:
        connection.close()


# Registered with the import, so that it runs after every publication at the end of the process.
atexit.register(_close_idle)


def _is_readable(sock: socket.socket) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(sock, selectors.EVENT_READ)
        return bool(selector.select(0))
