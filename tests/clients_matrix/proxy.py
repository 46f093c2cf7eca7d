"""A TCP proxy that records the bytes it passes on, and cuts its connections on request."""

from __future__ import annotations

import contextlib
import socket
import threading


class Proxy:
    """Listens on a free port and passes every connection on to one server."""

    def __init__(self, host: str, port: int) -> None:
        self._server = host, port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._changed = threading.Condition()
        self._open: list[socket.socket] = []
        self._comments = 0
        self.requests: list[str] = []
        """The head of each request."""
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def comments(self) -> int:
        """How many comments of event streams have been passed on."""
        with self._changed:
            return self._comments

    def wait_for_comment(self, since: int, timeout: float) -> bool:
        """Wait until more comments than ``since`` have been passed on."""
        with self._changed:
            return self._changed.wait_for(lambda: self._comments > since, timeout)

    def cut(self) -> None:
        """Close all connections that are open, on both sides."""
        with self._changed:
            connections, self._open = self._open, []
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        # Wakes the thread that accepts.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._server)
            with self._changed:
                self._open += client, server
            threading.Thread(target=self._pass_requests, args=(client, server), daemon=True).start()
            threading.Thread(target=self._pass_stream, args=(server, client), daemon=True).start()

    def _pass_requests(self, client: socket.socket, server: socket.socket) -> None:
        head = b""
        with contextlib.suppress(OSError):
            while part := client.recv(65536):
                head += part
                if b"\r\n\r\n" in head:
                    with self._changed:
                        self.requests.append(head.decode("latin-1"))
                    head = b""
                server.sendall(part)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)

    def _pass_stream(self, server: socket.socket, client: socket.socket) -> None:
        rest = b""
        with server, client, contextlib.suppress(OSError):
            while part := server.recv(65536):
                client.sendall(part)
                *lines, rest = (rest + part).split(b"\n")
                with self._changed:
                    self._comments += lines.count(b":")
                    self._changed.notify_all()
            client.shutdown(socket.SHUT_RDWR)
