"""What open streams cost a WSGI server whose application has the embedded hub.

Starts gunicorn with one worker, asks a trivial view for its answer again and again, opens streams, and does the same
again; then publishes one update and waits until every stream has it. Prints the latency of the view with and without
the streams, the memory of the worker for each stream, what the idle worker takes of a processor, and when the update
arrived.

    python bench/flask_streams.py --streams 5000 --worker-class sync

Further options are gunicorn's; settings come from the environment (FLASK_MERCURE_HUB_SUBSCRIPTIONS=false). Client and
server share the machine. Each stream takes a file in either process: the hard limit of open files must be above the
number of streams.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import resource
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

APPLICATION = """
import os

from flask import Flask
from flask_mercure_sse import MercureSSE

app = Flask(__name__)
app.config.from_prefixed_env()
app.config.update(SECRET_KEY="k" * 32, MERCURE_HUB=True)
mercure = MercureSSE(app)


@app.get("/")
def index():
    return "an ordinary answer"


@app.get("/process")
def process():
    return str(os.getpid())


@app.get("/publish")
def publish():
    return mercure.publish("topic", "message")
"""

STREAM = b"GET /.well-known/mercure?topic=topic HTTP/1.1\r\nHost: localhost\r\n\r\n"
PATIENCE = 60.0
"""Seconds that no single step takes."""

IDLE_SECONDS = 20.0
"""How long the idle worker is watched: longer than its keep-alive, so that each stream gets a comment meanwhile."""

Address = tuple[str, int]


@contextlib.contextmanager
def gunicorn(
    options: list[str], application: str = APPLICATION, environment: dict[str, str] | None = None
) -> Iterator[Address]:
    """One worker of gunicorn with the application; where it listens."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "served.py").write_text(application)
        command = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "--workers", "1", *options, "served:app"]
        process = subprocess.Popen(
            command, cwd=directory, env=os.environ | (environment or {}), stderr=subprocess.PIPE, text=True
        )
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if match := re.search(r"Listening at: http://([0-9.]+):(\d+)", line):
                    yield match[1], int(match[2])
                    break
            else:
                sys.exit("gunicorn does not start")
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE)


def get(address: Address, path: str) -> bytes:
    """The body of an answer, on a connection of its own, as gunicorn's sync worker closes each."""
    with socket.create_connection(address, PATIENCE) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 200 "), answer
    return answer.partition(b"\r\n\r\n")[2]


def latencies(address: Address, requests: int) -> list[float]:
    """How long each request to the trivial view took, one after the other, in milliseconds."""
    times = []
    for _ in range(requests):
        began = time.perf_counter()
        get(address, "/")
        times.append((time.perf_counter() - began) * 1000)
    return times


def subscribe(address: Address) -> socket.socket:
    """An open stream, of which the beginning has been read."""
    connection = socket.create_connection(address, PATIENCE)
    connection.sendall(STREAM)
    beginning = b""
    while b"retry: " not in beginning:
        part = connection.recv(4096)
        assert part, f"no stream: {beginning!r}"
        beginning += part
    return connection


def wait_for_update(streams: list[socket.socket]) -> int:
    """Wait until each stream has had the update; how many have."""
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ)
        missing, deadline = len(streams), time.monotonic() + PATIENCE
        while missing and time.monotonic() < deadline:
            for key, _ in selector.select(1.0):
                ready = key.fileobj
                assert isinstance(ready, socket.socket)
                if b"data: message" in ready.recv(65536):
                    selector.unregister(ready)
                    missing -= 1
    return len(streams) - missing


def memory_kib(process: int) -> int:
    """The memory of a process, what it shares with others in parts."""
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
    match = re.search(r"Pss: +(\d+) kB", rollup)
    assert match is not None
    return int(match[1])


def processor_seconds(process: int) -> float:
    """What a process has had of the processor, to 10 nanoseconds."""
    threads = Path(f"/proc/{process}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def idle_share(process: int) -> float:
    """The part of a processor that the process takes while nothing is asked of it."""
    before, began = processor_seconds(process), time.monotonic()
    time.sleep(IDLE_SECONDS)
    return (processor_seconds(process) - before) / (time.monotonic() - began)


def say(name: str, times: list[float]) -> None:
    ordered = sorted(times)
    p50, p99 = statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
    print(f"{name:<24}p50 {p50:.3f} ms   p99 {p99:.3f} ms   ({len(ordered)} requests)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=5_000)
    parser.add_argument("--requests", type=int, default=3_000, help="for each measurement")
    parser.add_argument("--worker-class", default="sync")
    arguments, more = parser.parse_known_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with gunicorn(["--worker-class", arguments.worker_class, *more]) as address:
        # Not before: gunicorn has the usual limit, and its worker raises it by itself.
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        worker = int(get(address, "/process"))
        latencies(address, arguments.requests // 4)
        with contextlib.closing(subscribe(address)):
            get(address, "/publish")
        without, idle = latencies(address, arguments.requests), idle_share(worker)
        before = memory_kib(worker)
        began = time.monotonic()
        streams = [subscribe(address) for _ in range(arguments.streams)]
        opening = time.monotonic() - began
        with_streams, idle_with_streams = latencies(address, arguments.requests), idle_share(worker)
        after = memory_kib(worker)
        began = time.monotonic()
        get(address, "/publish")
        arrived, delivery = wait_for_update(streams), time.monotonic() - began
        files = len(os.listdir(f"/proc/{worker}/fd"))
        for stream in streams:
            stream.close()
        again = latencies(address, arguments.requests)
    print(f"gunicorn {arguments.worker_class}, 1 worker, {arguments.streams} streams")
    say("view without streams", without)
    say("view with streams", with_streams)
    say("view, streams closed", again)
    print(f"opening                 {arguments.streams / opening:.0f} streams a second")
    each = (after - before) * 1024 / arguments.streams
    print(f"memory                  {each:.0f} bytes a stream ({before} -> {after} KiB)")
    print(f"idle worker             {idle:.3%} of a core without streams, {idle_with_streams:.3%} with them")
    print(f"one update              {arrived} of {arguments.streams} streams have it after {delivery * 1000:.0f} ms")
    print(f"files of the worker     {files}")


if __name__ == "__main__":
    main()
