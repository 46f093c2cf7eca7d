"""A way to a server that can be cut and mended."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading

from clients import HUB_PATH


class Cable:
    """Listens on a free port. Each connection goes on to ``target``; while the cable is cut, it ends at once.

    With ``application``, connections whose first request is not for a hub go there, also while the cable is cut."""

    def __init__(self, target: str, application: str | None = None) -> None:
        self.target = _address(target)
        self.application = None if application is None else _address(application)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.url = f"http://{self.address}"
        self.pairs: list[tuple[socket.socket, socket.socket]] = []
        self.mended = threading.Event()
        self.mended.set()
        self.ends = False
        self.thread = threading.Thread(target=self.accept)
        self.thread.start()

    def accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            if self.ends:
                client.close()
                return
            threading.Thread(target=self.pump, args=(client,), daemon=True).start()

    def pump(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            target = self.target
            if self.application is not None and HUB_PATH.encode() not in client.recv(65536, socket.MSG_PEEK):
                target = self.application
            elif not self.mended.is_set():
                return
            with socket.create_connection(target) as server:
                pair = (client, server)
                if target == self.target:
                    self.pairs.append(pair)
                    # If it was cut since, nobody else would end this pair.
                    if not self.mended.is_set():
                        return
                other = {client: server, server: client}
                with selectors.DefaultSelector() as selector:
                    for end in pair:
                        selector.register(end, selectors.EVENT_READ)
                    while True:
                        for key, _ in selector.select():
                            assert isinstance(key.fileobj, socket.socket)
                            part = key.fileobj.recv(65536)
                            if not part:
                                return
                            other[key.fileobj].sendall(part)

    def cut(self) -> None:
        self.mended.clear()
        for pair in self.pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self.pairs.clear()

    def mend(self) -> None:
        self.mended.set()

    def close(self) -> None:
        self.cut()
        self.ends = True
        socket.create_connection(self.listener.getsockname()).close()
        self.thread.join()
        self.listener.close()


def _address(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)
