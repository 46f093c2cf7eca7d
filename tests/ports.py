"""Ports that belong to a test."""

from __future__ import annotations

import socket


class Port:
    """A port of an address of this machine that nobody else gets until it is closed.

    Its socket is bound and does not listen. So the kernel gives the port to no server that asks for a free one, and to
    no client as its own. A server that is told the number can listen on it, and can do so again after it has ended: it
    sets SO_REUSEADDR, as the socket here does. While no server listens, connections are refused."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((host, 0))
        self.host, self.number = host, int(self.socket.getsockname()[1])

    def __str__(self) -> str:
        return f"{self.host}:{self.number}"

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Port:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
