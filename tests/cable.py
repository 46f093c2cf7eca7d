"""A way to a server that can be cut and mended, or held and released."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading

from clients import HUB_PATH


class Cable:
    """Listens on a free port. Each connection goes on to ``target``; while the cable is cut, it ends at once. While the
    cable is held, connections stay and no byte passes; bytes that were sent meanwhile arrive when it is released.

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
        self.released = threading.Event()
        self.released.set()
        self.ends = False
        self.thread = threading.Thread(target=self.accept, daemon=True)
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
            self.released.wait()
            target = self.target
            if self.application is not None and HUB_PATH.encode() not in client.recv(65536, socket.MSG_PEEK):
                target = self.application
            elif not self.mended.is_set():
                return
            with socket.create_connection(target) as server:
                pair = (client, server)
                if target != self.target:
                    self.copy(pair)
                    return
                self.pairs.append(pair)
                try:
                    # If it was cut since, nobody else would end this pair.
                    if self.mended.is_set():
                        self.copy(pair)
                finally:
                    # A cut has removed it already.
                    with contextlib.suppress(ValueError):
                        self.pairs.remove(pair)

    def copy(self, pair: tuple[socket.socket, socket.socket]) -> None:
        other = {pair[0]: pair[1], pair[1]: pair[0]}
        with selectors.DefaultSelector() as selector:
            for end in pair:
                selector.register(end, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    self.released.wait()
                    assert isinstance(key.fileobj, socket.socket)
                    part = key.fileobj.recv(65536)
                    if not part:
                        return
                    other[key.fileobj].sendall(part)

    def cut(self) -> None:
        self.mended.clear()
        for pair in list(self.pairs):
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self.pairs.clear()

    def mend(self) -> None:
        self.mended.set()

    def hold(self) -> None:
        self.released.clear()

    def release(self) -> None:
        self.released.set()

    def close(self) -> None:
        self.cut()
        self.release()
        self.ends = True
        socket.create_connection(self.listener.getsockname()).close()
        self.thread.join()
        self.listener.close()


def _address(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)
