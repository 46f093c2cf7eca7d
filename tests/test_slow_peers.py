"""A slow network ends no answer: ``write_timeout`` ends peers that acknowledge nothing."""

from __future__ import annotations

import json
import re
import socket
import ssl
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

import hubs
from clients import HUB_PATH, PATIENCE, Request, Token
from proxies import HOST, certificate

SO_MAX_PACING_RATE = 47
"""Linux sends no faster by a socket. Sockets that a listener accepts inherit it, so each peer has a slow network, whose
packets it acknowledges at once."""

RATE = 100_000
"""Bytes a second. Linux says that a socket takes more when a third of its buffer, 85 KiB, is free: after 0.9 s."""

WRITE_TIMEOUT = "300ms"

UPDATES = 100
DATA = "x" * 4_000
"""All updates together are more than the buffer of a socket holds, and the peer is behind for more than a second."""

TOKEN = Token.bearer(publish=["*"], subscribe=["*"], key=hubs.PUBLISHER)
READER = Token.bearer(subscribe=["*"], key=hubs.SUBSCRIBER)

DATA_FRAME, HEADERS, RST_STREAM, SETTINGS, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 7, 8
END_STREAM, END_HEADERS = 1, 4

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux paces a socket")


class Connection:
    """A connection to a hub, and what comes by it."""

    def __init__(self, hub: Hub, protocol: str) -> None:
        # Segments as in a real network: those of loopback are as large as what comes in half a second.
        self.socket = socket.socket()
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1_448)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(hub.address)
        if hub.trust is not None:
            trust = ssl.create_default_context(cafile=str(hub.trust))
            trust.set_alpn_protocols([protocol])
            self.socket = trust.wrap_socket(self.socket, server_hostname=HOST)
        self.file = self.socket.makefile("rb")

    def close(self) -> None:
        self.file.close()
        self.socket.close()


class Http1(Connection):
    def __init__(self, hub: Hub) -> None:
        super().__init__(hub, "http/1.1")

    def get(self, target: str) -> Iterator[bytes]:
        head = f"GET {target} HTTP/1.1\r\nHost: a\r\nAuthorization: {READER['Authorization']}\r\n\r\n"
        self.socket.sendall(head.encode())
        assert self.file.readline().startswith(b"HTTP/1.1 200 ")
        while self.file.readline() != b"\r\n":
            pass
        while size := int(self.file.readline(), 16):
            yield self.file.read(size + 2)[:-2]


class Http2(Connection):
    """One that gives all streams room for everything: only the socket is a bound."""

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub, "h2")
        self.stream = -1
        settings = (4).to_bytes(2) + (2**31 - 1).to_bytes(4)
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.send(SETTINGS, 0, 0, settings)
        self.send(WINDOW_UPDATE, 0, 0, (2**30).to_bytes(4))

    def send(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        self.socket.sendall(len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload)

    def ask(self, target: str) -> int:
        """Sends a request, each field as its name and its value (RFC 7541, section 6.2.2)."""
        block = b""
        fields = [(":method", "GET"), (":scheme", "http"), (":path", target), (":authority", "a")]
        for field in [*fields, ("authorization", READER["Authorization"])]:
            block += b"\x00"
            for text in field:
                block += length(len(text)) + text.encode()
        self.stream += 2
        self.send(HEADERS, END_STREAM | END_HEADERS, self.stream, block)
        return self.stream

    def get(self, target: str) -> Iterator[bytes]:
        asked = self.ask(target)
        while True:
            head = self.file.read(9)
            assert len(head) == 9, "the connection has ended"
            payload = self.file.read(int.from_bytes(head[:3]))
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:])
            assert kind not in (RST_STREAM, GOAWAY), payload
            if kind == DATA_FRAME and stream == asked:
                yield payload
                if flags & END_STREAM:
                    return


class Http2Shared(Http2):
    """One with another stream."""

    def get(self, target: str) -> Iterator[bytes]:
        self.ask(f"{HUB_PATH}?topic=other")
        return super().get(target)


def length(number: int) -> bytes:
    """A number in seven bits and as many bytes as it takes (RFC 7541, section 5.1)."""
    if number < 127:
        return bytes([number])
    number -= 127
    rest = [127]
    while number >= 128:
        rest.append(number % 128 + 128)
        number //= 128
    return bytes([*rest, number])


class Hub:
    """A hub whose network is slow."""

    def __init__(self, options: list[str], trust: Path | None) -> None:
        self.trust = trust
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, RATE)
            script = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$0" "$@" 3<&0 </dev/null'
            command = ["sh", "-c", script, *hubs.petasos(), "--compat", "--write-timeout", WRITE_TIMEOUT, *options]
            self.process = hubs.HubProcess(command, stdin=listener.fileno())
        parts = urlsplit(self.process.url)
        self.address = ("127.0.0.1", parts.port)
        self.url = f"{parts.scheme}://{HOST}:{parts.port}{HUB_PATH}"

    def publish(self, data: str) -> None:
        tls = None if self.trust is None else ssl.create_default_context(cafile=str(self.trust))
        assert Request("POST", self.url, TOKEN, [("topic", "a"), ("data", data)], tls=tls).status == 200

    def publish_all(self) -> None:
        for number in range(UPDATES):
            self.publish(f"{number}-{DATA}")
        self.publish("last")


@pytest.fixture(params=["http", "https"])
def hub(request, stack, tmp_path):
    options, trust = [], None
    if request.param == "https":
        trust, key = certificate(tmp_path)
        options = ["--tls-cert", str(trust), "--tls-key", str(key)]
    hub = Hub(options, trust)
    stack.callback(hub.process.close)
    return hub


CARRIERS: list[type[Any]] = [Http1, Http2, Http2Shared]


def updates(pieces: Iterator[bytes]) -> list[int]:
    """The numbers of the updates up to the last one."""
    text = ""
    for piece in pieces:
        text += piece.decode()
        if text.endswith("data: last\n\n"):
            return [int(number) for number in re.findall(r"^data: (\d+)-x+$", text, re.MULTILINE)]
    raise AssertionError("the stream has ended")


def test_a_slow_network_ends_no_stream_of_the_history(hub):
    hub.publish_all()

    def read(carrier):
        with closing(carrier(hub)) as connection:
            return updates(connection.get(f"{HUB_PATH}?topic=a&lastEventID=earliest"))

    with ThreadPoolExecutor() as pool:
        assert [*pool.map(read, CARRIERS)] == [[*range(UPDATES)]] * len(CARRIERS)


def test_a_slow_network_ends_no_live_stream(hub, stack):
    streams = []
    for carrier in CARRIERS:
        stream = stack.enter_context(closing(carrier(hub))).get(f"{HUB_PATH}?topic=a")
        # What stands before all events.
        next(stream)
        streams.append(stream)
    with ThreadPoolExecutor() as pool:
        read = pool.map(updates, streams)
        hub.publish_all()
        assert [*read] == [[*range(UPDATES)]] * len(CARRIERS)


def test_a_slow_network_ends_no_long_answer(hub, stack):
    subscriber = stack.enter_context(closing(Http2(hub)))
    for number in range(40):
        long = "%2F" * 1_500
        next(subscriber.get(f"{HUB_PATH}?topic={number}-{long}&topic=other-{number}-{long}"))

    def read(carrier):
        with closing(carrier(hub)) as connection:
            return len(json.loads(b"".join(connection.get(f"{HUB_PATH}/subscriptions")))["subscriptions"])

    with ThreadPoolExecutor() as pool:
        assert all(count >= 80 for count in pool.map(read, CARRIERS))
