"""What HTTP/2 costs a hub: memory of a connection and of each stream on it, processor time of deliveries and publishes.

    python bench/http2.py target/release/petasos --connections 500 --streams 210

HTTP/1.1 and HTTP/2, with one stream a connection and with thirty, take turns, each on a new hub. Only its own
processor time and memory count. The program ``openssl`` makes a certificate.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
import time
from pathlib import Path
from statistics import median

from drain import HUB_PATH, token
from tls import TOGETHER, Hub, certificate, parser, publish

# Streams of a page that has many.
MANY = 30

DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
ROOM = 2**31 - 1


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def head(method: str, target: str, **more: str) -> bytes:
    """A head without compression (RFC 7541, section 6.2.2)."""
    fields = {":method": method, ":scheme": "http", ":path": target, ":authority": "localhost", **more}
    block = b""
    for name, value in fields.items():
        block += b"\0"
        for text in (name.replace("_", "-").encode(), value.encode()):
            length, rest = len(text), len(text) - 127
            block += bytes(
                [length] if rest < 0 else [127, *([rest % 128 + 128, rest // 128] if rest > 127 else [rest])]
            )
            block += text
    return block


class Connection:
    """A connection, and the updates that it has received."""

    def __init__(self) -> None:
        self.deliveries = 0
        self.speaks = ""
        self.rests: dict[int, bytes] = {}
        self.task: asyncio.Task[None] | None = None

    async def open(self, hub: Hub, speaks: str, streams: int) -> None:
        self.speaks = speaks
        if hub.context is not None:
            hub.context.set_alpn_protocols([speaks])
        self.reader, self.writer = await hub.connect()
        target = f"{HUB_PATH}?topic=a"
        if speaks == "http/1.1":
            self.writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert b" 200 " in await self.reader.readuntil(b"\r\n\r\n")
        else:
            begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b"\0\4" + ROOM.to_bytes(4))
            begin += frame(WINDOW_UPDATE, 0, 0, (ROOM - 65_535).to_bytes(4))
            self.writer.write(begin)
            for number in range(streams):
                self.writer.write(frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, head("GET", target)))
            await self.begun(streams)
        self.task = asyncio.create_task(self.read())

    async def begun(self, streams: int) -> None:
        """Waits until all streams have begun."""
        begun: set[int] = set()
        while len(begun) < streams:
            kind, stream, payload = await self.next()
            assert kind not in (RST_STREAM, GOAWAY), payload
            if kind == DATA and payload:
                begun.add(stream)
            if kind == SETTINGS and payload:
                self.writer.write(frame(SETTINGS, ACK, 0))

    async def next(self) -> tuple[int, int, bytes]:
        """The kind of a frame, its stream and its payload."""
        begin = await self.reader.readexactly(9)
        payload = await self.reader.readexactly(int.from_bytes(begin[:3]))
        return begin[3], int.from_bytes(begin[5:]), payload

    async def read(self) -> None:
        with contextlib.suppress(ConnectionResetError, asyncio.IncompleteReadError):
            if self.speaks == "http/1.1":
                while part := await self.reader.read(65_536):
                    self.count(0, part)
            while True:
                kind, stream, payload = await self.next()
                if kind == DATA:
                    self.count(stream, payload)

    def count(self, stream: int, part: bytes) -> None:
        text = self.rests.get(stream, b"") + part
        self.deliveries += text.count(b"data: ")
        # As much as may be the beginning of a further one: a proxy may have cut an event in two.
        self.rests[stream] = text[-5:]


async def subscribe(hub: Hub, speaks: str, connections: int, streams: int) -> list[Connection]:
    opened = [Connection() for _ in range(connections)]
    for begin in range(0, connections, TOGETHER):
        await asyncio.gather(*(each.open(hub, speaks, streams) for each in opened[begin : begin + TOGETHER]))
    return opened


async def idle(hub: Hub, speaks: str, connections: int, streams: int) -> float:
    """KiB of a connection."""
    # What the first ones need is not theirs alone.
    first = await subscribe(hub, speaks, TOGETHER, streams)
    memory = hub.kib
    opened = await subscribe(hub, speaks, connections, streams)
    used = (hub.kib - memory) / connections
    close(first + opened)
    return used


def close(connections: list[Connection]) -> None:
    for each in connections:
        each.writer.close()
        assert each.task is not None
        each.task.cancel()


async def busy(hub: Hub, speaks: str, streams: int, arguments: argparse.Namespace) -> float:
    """Microseconds of a delivery."""
    opened = await subscribe(hub, speaks, arguments.streams // streams, streams)
    seconds = hub.seconds
    if hub.context is not None:
        hub.context.set_alpn_protocols(["http/1.1"])
    updates = await publish(hub, arguments.rate, arguments.seconds)
    total = updates * len(opened) * streams
    while sum(each.deliveries for each in opened) < total:
        await asyncio.sleep(0.01)
    used = hub.seconds - seconds
    close(opened)
    return used / total * 1e6


async def requests(hub: Hub, speaks: str, count: int) -> tuple[float, float]:
    """Publishes on one connection: requests a second, and microseconds of the hub's for each."""
    if hub.context is not None:
        hub.context.set_alpn_protocols([speaks])
    body = ("topic=b&data=" + "x" * 200).encode()
    fields = {"authorization": f"Bearer {token()}", "content_type": "application/x-www-form-urlencoded"}
    seconds, began = hub.seconds, time.monotonic()
    if speaks == "http/1.1":
        reader, writer = await hub.connect()
        text = f"POST {HUB_PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {fields['authorization']}\r\n"
        text += f"Content-Type: {fields['content_type']}\r\nContent-Length: {len(body)}\r\n\r\n"
        for _ in range(count):
            writer.write(text.encode() + body)
            await reader.readuntil(b"urn:uuid:")
    else:
        connection = Connection()
        await connection.open(hub, speaks, 0)
        assert connection.task is not None
        connection.task.cancel()
        block, sent, answered = head("POST", HUB_PATH, **fields), 0, 0
        while answered < count:
            while sent < min(count, answered + TOGETHER):
                stream = 2 * sent + 1
                connection.writer.write(
                    frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, END_STREAM, stream, body)
                )
                sent += 1
            kind, _, payload = await connection.next()
            answered += kind == DATA and b"urn:uuid:" in payload
    return count / (time.monotonic() - began), (hub.seconds - seconds) / count * 1e6


async def main() -> None:
    options = parser(__doc__, streams=210, seconds=6, rounds=3)
    options.add_argument("--connections", type=int, default=500, help="on which nothing happens")
    options.add_argument("--publishes", type=int, default=5_000, help="on one connection")
    arguments = options.parse_args()
    kinds = [("http/1.1", 1), ("h2", 1), ("h2", MANY)]
    with tempfile.TemporaryDirectory() as name:
        certificate(Path(name))
        for label, given in (("plain", None), ("TLS", Path(name))):
            memory = {}
            for speaks, streams in kinds:
                hub = Hub(arguments.binary, given)
                memory[speaks, streams] = await idle(hub, speaks, arguments.connections, streams)
                hub.close()
            one, many = memory["h2", 1], memory["h2", MANY]
            print(
                f"{label:5} {memory['http/1.1', 1]:.1f} KiB a stream of HTTP/1.1; HTTP/2: {one:.1f} KiB "
                f"a connection with one, {(many - one) / (MANY - 1):.2f} KiB each further stream",
                flush=True,
            )
            times: dict[tuple[str, int], list[float]] = {kind: [] for kind in kinds}
            for _ in range(arguments.rounds):
                for kind in kinds:
                    hub = Hub(arguments.binary, given)
                    times[kind].append(await busy(hub, *kind, arguments))
                    hub.close()
            for (speaks, streams), found in times.items():
                times_of_one = median(found) / median(times["http/1.1", 1])
                print(
                    f"{label:5} {speaks}, {streams} a connection: {median(found):.1f} us a delivery "
                    f"({min(found):.1f} to {max(found):.1f}), {times_of_one:.2f} times",
                    flush=True,
                )
            for speaks in ("http/1.1", "h2"):
                hub = Hub(arguments.binary, given)
                rate, cost = await requests(hub, speaks, arguments.publishes)
                hub.close()
                print(f"{label:5} {speaks}: {rate:.0f} publishes a second, {cost:.0f} us each", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
