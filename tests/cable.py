"""A way to a server that can be cut and mended."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading


class Cable:
    """Listens on a free port. Each connection goes on to ``target``; while the cable is cut, it ends at once."""

    def __init__(self, target: str) -> None:
        host, port = target.removeprefix("http://").split(":")
        self.target = (host, int(port))
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
            if not self.mended.is_set():
                client.close()
                continue
            try:
                pair = (client, socket.create_connection(self.target))
            except OSError:
                # The server is not there.
                client.close()
                continue
            self.pairs.append(pair)
            threading.Thread(target=self.pump, args=pair, daemon=True).start()

    def pump(self, client: socket.socket, server: socket.socket) -> None:
        other = {client: server, server: client}
        try:
            with client, server, selectors.DefaultSelector() as selector:
                for end in other:
                    selector.register(end, selectors.EVENT_READ)
                while True:
                    for key, _ in selector.select():
                        assert isinstance(key.fileobj, socket.socket)
                        part = key.fileobj.recv(65536)
                        if not part:
                            return
                        other[key.fileobj].sendall(part)
        except OSError:
            return

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
