"""A proxy in front of a hub that a test tells what to do with each request."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections import deque
from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from clients import HUB_PATH
from waiting import wait_until


@dataclass(frozen=True)
class Arrival:
    """A request for the hub."""

    method: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    """With names in lower case."""
    at: float
    """When it came, in seconds of the monotonic clock."""

    @property
    def cursor(self) -> str | None:
        """The cursor in the URL, in either dialect."""
        values = [*self.query.get("lastEventID", []), *self.query.get("last_event_id", [])]
        return values[0] if values else None

    @property
    def topics(self) -> list[str]:
        """The topics in the URL, in either dialect."""
        return [topic for name in ("topic", "match", "match_urlpattern") for topic in self.query.get(name, [])]

    @property
    def bearer(self) -> str | None:
        return self.headers.get("authorization", "").removeprefix("Bearer ") or None


@dataclass(frozen=True)
class Refuse:
    """Answers itself, as a hub or as a proxy that reaches no hub."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    with_cors: bool = True
    """Whether a page of another origin may read the answer."""


@dataclass(frozen=True)
class Silence:
    """Takes the request and never answers."""


@dataclass(frozen=True)
class Pass:
    """Goes to the hub."""

    bytes_max: int | None = None
    """The connection is cut after so many bytes of the answer's body."""


@dataclass(frozen=True)
class Replace:
    """Answers with a stream of the test's own, which stays open, or ends when ``ends`` is set."""

    body: bytes
    ends: bool = False


Turn = Refuse | Silence | Pass | Replace


class Gate:
    """Listens on a free port. Requests for the hub take the next turn of their topic, or pass; all others go to the
    application.

    ``strips`` are query parameters that the hub does not get to see."""

    def __init__(self, hub: str, application: str, strips: tuple[str, ...] = ()) -> None:
        """hub and application: ``host:port``."""
        self.hub, self.application, self.strips = _address(hub), _address(application), strips
        self.turns: dict[str, deque[Turn]] = {}
        self.arrivals: list[Arrival] = []
        self.open: set[socket.socket] = set()
        """The connections of streams that have begun and not ended."""
        self.lock = threading.Lock()
        self.is_cut = False
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self.listener.getsockname()[1])
        self.origin = f"http://127.0.0.1:{self.port}"
        self.url = self.origin + HUB_PATH
        self.silent: set[socket.socket] = set()
        """Connections of streams that stay open, and on which nothing arrives any more."""
        self.ends = False
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def plan(self, topic: str, *turns: Turn) -> None:
        """What happens to the next requests that name this topic. Those after them pass."""
        self.turns[topic] = deque(turns)

    def arrived(self, topic: str) -> list[Arrival]:
        """The requests that name this topic."""
        return [arrival for arrival in list(self.arrivals) if topic in arrival.topics]

    def wait_for(self, topic: str, count: int) -> list[Arrival]:
        """The requests that name this topic, once there are so many."""
        wait_until(lambda: len(self.arrived(topic)) >= count, f"{count} requests for {topic}")
        return self.arrived(topic)

    def cut(self) -> None:
        """Ends all streams; requests for the hub end without an answer until ``mend``."""
        self.is_cut = True
        self.drop()

    def mend(self) -> None:
        self.is_cut = False

    def drop(self) -> None:
        """Ends all streams that are open."""
        with self.lock:
            for connection in self.open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        self.ends = True
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port)).close()
        self.thread.join()
        self.listener.close()

    def _accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            if self.ends:
                client.close()
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                part = client.recv(65536)
                if not part:
                    return
                head += part
            text = head.partition(b"\r\n\r\n")[0].decode("latin-1")
            method, target, _ = text.partition("\r\n")[0].split(" ")
            if urlsplit(target).path != HUB_PATH:
                self._pass(client, head, self.application)
                return
            lines = [line.partition(":") for line in text.split("\r\n")[1:]]
            headers = {name.lower(): value.strip() for name, _, value in lines}
            if method == "OPTIONS":
                self._pass(client, _alone(head), self.hub)
                return
            query = parse_qs(urlsplit(target).query, keep_blank_values=True)
            arrival = Arrival(method, query, headers, time.monotonic())
            with self.lock:
                self.arrivals.append(arrival)
                turns = next((self.turns[topic] for topic in arrival.topics if self.turns.get(topic)), None)
                turn = turns.popleft() if turns else Pass()
            if not self.is_cut:
                self._take(turn, client, head, headers)

    def _take(self, turn: Turn, client: socket.socket, head: bytes, headers: dict[str, str]) -> None:
        origin = headers.get("origin")
        shared = {"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true"} if origin else {}
        match turn:
            case Silence():
                client.recv(1)
            case Refuse():
                own = {"Content-Length": str(len(turn.body.encode())), "Connection": "close"}
                fields = {**own, **(shared if turn.with_cors else {}), **turn.headers}
                lines = [f"HTTP/1.1 {turn.status} As told", *(f"{name}: {value}" for name, value in fields.items())]
                client.sendall(("\r\n".join(lines) + "\r\n\r\n" + turn.body).encode())
            case Replace():
                fields = {"Content-Type": "text/event-stream", "Connection": "close", **shared}
                lines = ["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in fields.items())]
                client.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
                with self._counted(client):
                    # In parts, so that a border of parts is inside of events and characters.
                    for start in range(0, len(turn.body), 65_537):
                        client.sendall(turn.body[start : start + 65_537])
                    if not turn.ends:
                        client.recv(1)
            case Pass():
                for name in self.strips:
                    head = re.sub(rb"(?<=[?&])%s(=[^&\s]*)?&?" % name.encode(), b"", head, count=1)
                with self._counted(client):
                    self._pass(client, _alone(head), self.hub, turn.bytes_max)

    def silence(self) -> None:
        """As for a machine that has slept: the streams that are open now stay open, and nothing arrives any more."""
        with self.lock:
            self.silent |= self.open

    @contextlib.contextmanager
    def _counted(self, client: socket.socket) -> Iterator[None]:
        with self.lock:
            self.open.add(client)
        try:
            yield
        finally:
            with self.lock:
                self.open.discard(client)

    def _pass(self, client: socket.socket, head: bytes, to: tuple[str, int], bytes_max: int | None = None) -> None:
        with socket.create_connection(to) as server:
            server.sendall(head)
            threading.Thread(target=_copy, args=(client, server), daemon=True).start()
            _copy(server, client, bytes_max, self.silent)


def _copy(
    source: socket.socket,
    target: socket.socket,
    bytes_max: int | None = None,
    silent: Container[socket.socket] = (),
) -> None:
    """Until either ends; both are shut down then. With a bound, so much of what follows the head of an answer."""
    left = bytes_max
    head: bytes | None = b""
    with contextlib.suppress(OSError):
        while part := source.recv(65536):
            if target in silent:
                continue
            if left is not None:
                if head is not None:
                    head += part
                    before, border, part = head.partition(b"\r\n\r\n")
                    if not border:
                        continue
                    target.sendall(before + border)
                    head = None
                part = part[:left]
                left -= len(part)
            target.sendall(part)
            if left == 0:
                break
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def _alone(head: bytes) -> bytes:
    """The request as the last of its connection, so that each request comes on one of its own."""
    return re.sub(rb"\r\nConnection:[^\r]*", b"", head, flags=re.IGNORECASE).replace(
        b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1
    )


def _address(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)
