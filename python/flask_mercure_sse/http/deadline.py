"""A deadline for a whole answer: a time-out of the socket alone would begin again with every byte."""

from __future__ import annotations

import http.client
import io
import socket
import time
from functools import partial
from typing import Any


class Deadline:
    """When an answer has to be complete, on the clock ``time.monotonic()``; None: no limit."""

    def __init__(self, at: float | None) -> None:
        self.at = at


def limit(connection: http.client.HTTPConnection, seconds: float) -> Deadline:
    """Let the next answer of a connection take ``seconds`` from now to its last byte. Reading raises TimeoutError then.

    Set ``at`` of the returned deadline to None to lift the limit.
    """
    deadline = Deadline(time.monotonic() + seconds)
    connection.sock.settimeout(seconds)
    connection.response_class = partial(_Response, deadline=deadline)  # type: ignore[assignment]
    return deadline


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, deadline: Deadline, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Timed(self.fp.detach(), sock, deadline))


class _Timed(io.RawIOBase):
    """The bytes that a socket receives until the deadline."""

    def __init__(self, raw: io.RawIOBase, sock: socket.socket, deadline: Deadline) -> None:
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
