"""An event stream: an answer that does not end."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from urllib.parse import urlsplit

from ..errors import HubError
from . import pool
from .answer import (
    PART_BYTES,
    Timeouts,
    as_request_id,
    authorization,
    broken,
    header_of,
    position,
    read_answer,
    timed_out,
)
from .deadline import limit


class Stream:
    """An open event stream. Gives the bytes of the body in the parts in which they arrive.

    Making one sends the request and waits for the head of the answer.

    Args:
        last_event_id: the id of the event to go on after; None: from now on.
        through: a connected socket to use, instead of a connection to the URL's host. It is closed with the stream.

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
        timeouts: Timeouts = Timeouts(),  # noqa: B008 (a NamedTuple never changes)
    ) -> None:
        hub = urlsplit(url)
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store", **authorization(token)}
        if last_event_id is not None:
            headers["Last-Event-ID"] = header_of(last_event_id)
        self._lock = threading.Lock()
        self._is_read = self._is_closed = False
        if through is None:
            self._connection = pool.connect(hub.scheme, hub.netloc, timeouts.connect)
            _notice_silence(self._connection.sock)
        else:
            self._connection = pool.through(through)
        self._sock = self._connection.sock
        self._response: http.client.HTTPResponse | None = None
        deadline = limit(self._connection, timeouts.read)
        try:
            self._connection.request("GET", f"{hub.path}?{hub.query}", headers=headers)
            self._response = self._connection.getresponse()
            _check_head(self._response, token)
        except TimeoutError:
            self.close()
            raise timed_out(hub, timeouts) from None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise broken(hub, error) from error
        except BaseException:
            # Also for a time-out of gevent.
            self.close()
            raise
        deadline.at = None
        self._sock.settimeout(None)

    @property
    def position(self) -> str | None:
        """Where the stream begins: the id of the update before its first event. None: the hub has not said."""
        return None if self._response is None else position(self._response)

    def read(self) -> bytes:
        """Wait for the next bytes and return at least one. No bytes: the stream has ended, in whatever way."""
        with self._lock:
            if self._is_closed or self._response is None:
                return b""
            self._is_read = True
        try:
            return self._response.read1(PART_BYTES)
        except (OSError, http.client.HTTPException):
            return b""
        finally:
            with self._lock:
                self._is_read, is_closed = False, self._is_closed
            if is_closed:
                self._release()

    def close(self) -> None:
        """End the stream. Idempotent.

        May be called while another thread or greenlet waits in :meth:`read`. The reader returns then and releases the
        connection: a buffered reader must not be closed by another thread.
        """
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


def _check_head(response: http.client.HTTPResponse, token: str | None) -> None:
    content_type = response.getheader("Content-Type", "")
    if response.status == 200 and content_type.startswith("text/event-stream"):
        return
    if response.status == 200:
        request_id = as_request_id(response.getheader("X-Request-Id", ""))
        problem = "the answer is no event stream: is MERCURE_HUB_URL right?"
        raise HubError(problem, status=200, request_id=request_id)
    answer = read_answer(response, token)
    answer.raise_for_status()
    raise answer.error(f"the hub answered {response.status}, no event stream")


def _notice_silence(sock: socket.socket) -> None:
    """Have the system end the connection about a minute after the hub's machine has vanished."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
