"""A node with many streams stops, and its subscribers go on at a second one: how evenly, how soon, with which losses.

    python bench/drain.py target/release/petasos --streams 9900 --drain 20

Both nodes and the subscribers run on this machine. Subscribers wait as long as the last ``retry`` says, as an
EventSource does.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import resource
import signal
import subprocess
import tempfile
import time
from base64 import urlsafe_b64encode
from collections import Counter
from hashlib import sha256
from hmac import digest
from statistics import quantiles
from urllib.parse import urlencode

HUB_PATH = "/.well-known/mercure"
# Those of the reference hub, which bench/tls_others.py measures, too.
KEY, OTHER = "publisher key of at least 32 bytes", "subscriber key of at least 32 bytes"


class Node:
    """A process of the hub, on a log that it shares with the other one."""

    def __init__(self, binary: str, directory: str, drain: float) -> None:
        command = [binary, "--listen", "127.0.0.1:0", "--admin-listen", "off", "--compat", "--anonymous"]
        command += ["--publisher-key", KEY, "--subscriber-key", OTHER, "--transport", f"host://{directory}"]
        command += ["--subscriptions=false", "--drain-delay", "0", "--drain", f"{int(drain * 1000)}ms"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().rpartition(HUB_PATH)[0].rpartition(":")[2])


class Subscriber(asyncio.Protocol):
    """One subscriber, who comes back to the second node."""

    def __init__(self, run: Run) -> None:
        self.run, self.rest, self.last, self.retry = run, b"", -1, 3.0
        self.ended: float | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.rest = transport, b""
        cursor = "" if self.last < 0 else f"Last-Event-ID: {self.last}\r\n"
        request = f"GET {HUB_PATH}?topic=news HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n{cursor}\r\n"
        transport.write(request.encode())
        if self.ended is not None:
            self.run.connects.append(time.monotonic())

    def data_received(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"HTTP/1.1 "):
                self.run.open += 1
                if self.ended is not None:
                    self.run.gaps.append(time.monotonic() - self.ended)
            elif line.startswith(b"retry: "):
                self.retry = int(line[7:]) / 1000
            elif line.startswith(b"id: "):
                number = int(line[4:])
                # Who has no cursor begins anywhere.
                if self.last >= 0 and number <= self.last:
                    self.run.doubled += 1
                elif self.last >= 0:
                    self.run.lost += number - self.last - 1
                self.last = max(self.last, number)

    def connection_lost(self, _: Exception | None) -> None:
        if self.run.is_over:
            return
        self.run.open -= 1
        self.ended = time.monotonic()
        self.run.closes.append(self.ended)
        self.run.loop.call_later(self.retry, self.connect, self.run.second)

    def connect(self, node: Node) -> None:
        task = self.run.loop.create_task(self.run.loop.create_connection(lambda: self, "127.0.0.1", node.port))
        self.run.tasks.add(task)
        task.add_done_callback(self.run.tasks.discard)


class Run:
    def __init__(self, first: Node, second: Node) -> None:
        self.first, self.second = first, second
        self.loop = asyncio.get_running_loop()
        self.tasks = set[asyncio.Task[object]]()
        self.open = self.lost = self.doubled = self.published = 0
        self.closes, self.connects, self.gaps = list[float](), list[float](), list[float]()
        self.is_over = False
        self.took = list[float]()

    def publish(self) -> None:
        """At the second node, whose connections stay."""
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.second.port, timeout=10)
        form = urlencode({"topic": "news", "id": str(self.published), "data": "x" * 64})
        headers = {"Authorization": f"Bearer {token()}", "Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", HUB_PATH, form, headers)
        assert connection.getresponse().read() == str(self.published).encode()
        connection.close()
        self.published += 1
        self.took.append(time.monotonic() - began)

    async def publish_for_ever(self) -> None:
        while True:
            await asyncio.to_thread(self.publish)
            await asyncio.sleep(1)


def token() -> str:
    def part(data: bytes) -> str:
        return urlsafe_b64encode(data).rstrip(b"=").decode()

    signed = part(b'{"alg":"HS256"}') + "." + part(b'{"mercure":{"publish":["*"]}}')
    return signed + "." + part(digest(KEY.encode(), signed.encode(), sha256))


async def until(condition: object) -> None:
    assert callable(condition)
    while not condition():
        await asyncio.sleep(0.05)


def most(times: list[float], even: float) -> str:
    """The most of one second, beside the even share, without the last second, which is not whole."""
    seconds = Counter(int(at - min(times)) for at in times)
    return f"{max(seconds.values())} in a second at most, {max(seconds.values()) / even:.2f} of even ({even:.0f})"


async def measure(binary: str, streams: int, drain: float) -> None:
    with tempfile.TemporaryDirectory() as directory:
        run = Run(*(Node(binary, directory, drain) for _ in range(2)))
        for number in range(0, streams, 500):
            for _ in range(number, min(number + 500, streams)):
                Subscriber(run).connect(run.first)
            await until(lambda: not run.tasks)
        await until(lambda: run.open == streams)
        publishing = asyncio.create_task(run.publish_for_ever())
        # Each has a cursor.
        await until(lambda: run.published >= 3)
        run.first.process.send_signal(signal.SIGTERM)
        await until(lambda: len(run.gaps) == streams)
        code = await asyncio.to_thread(run.first.process.wait)
        published = run.published
        await until(lambda: run.published >= published + 2)
        run.is_over = True
        publishing.cancel()
        gaps = quantiles(run.gaps, n=100)
        print(f"{streams} streams, drain {drain:g} s; the first node ended with {code}")
        print(f"closes: {most(run.closes, streams / drain)}, over {max(run.closes) - min(run.closes):.1f} s")
        print(f"connects at the second node: {most(run.connects, streams / drain)}")
        print(f"without a stream: {gaps[49]:.2f} s (median), {gaps[98]:.2f} s (p99), {max(run.gaps):.2f} s at most")
        print(f"lost: {run.lost}, doubled: {run.doubled}; slowest publish: {max(run.took) * 1000:.0f} ms")
        run.second.process.kill()
        run.second.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--streams", type=int, default=9_900)
    parser.add_argument("--drain", type=float, default=20, metavar="SECONDS")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(measure(options.binary, options.streams, options.drain))


if __name__ == "__main__":
    main()
