"""What open streams cost an application, in the ways that Flask applications push updates.

Each way is one gunicorn worker with the same number of open connections:

- the embedded hub, whose streams leave the worker (``sync``)
- the embedded hub, as a thread of the worker for each stream (``gthread``)
- Flask-SSE with Redis, a greenlet for each stream (``gevent``)
- Flask-SocketIO with WebSockets, a greenlet for each connection (``gevent``)

Prints for each: the memory of the worker for each connection, the latency of a trivial view meanwhile, how long one
update takes to the last connection, and what a delivery takes of a processor, in the worker (and in Redis).

    python bench/flask_others.py --streams 1000 --packages DIRECTORY

DIRECTORY is a place where pip installs what the others need (``--target``); without it, they must be installed.
Redis must be in the PATH. Client and servers share the machine.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import os
import resource
import selectors
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from flask_streams import PATIENCE, STREAM, Address, get, gunicorn, latencies, memory_kib, processor_seconds

PATHS = """
import os
import sys

# Behind everything else, so that all ways have the same Flask.
sys.path.append(os.path.abspath(os.environ["PACKAGES"]))
"""

VIEWS = """
@app.get("/")
def index():
    return "an ordinary answer"


@app.get("/process")
def process():
    return str(os.getpid())


@app.get("/publish")
def publish():
    send()
    return ""
"""

EMBEDDED = """

from flask import Flask
from flask_mercure_sse import MercureSSE

app = Flask(__name__)
app.config.update(SECRET_KEY="k" * 32, MERCURE_HUB=True)
mercure = MercureSSE(app)


def send():
    mercure.publish("topic", "message")

"""

IN_THREADS = (
    EMBEDDED
    + """
@app.after_request
def stays(response):
    # A stream that the application has changed stays with its thread.
    response.headers["Content-Encoding"] = "identity"
    return response

"""
)

FLASK_SSE = """

from flask import Flask
from flask_sse import sse

app = Flask(__name__)
app.config["REDIS_URL"] = os.environ["REDIS_URL"]
app.register_blueprint(sse, url_prefix="/stream")


def send():
    sse.publish("message", type="message")

"""

SOCKETIO = """

from flask import Flask
from flask_socketio import SocketIO

app = Flask(__name__)
socketio = SocketIO(app, async_mode="gevent")


def send():
    socketio.emit("message", "message")

"""

PACKAGES = ["flask-sse", "redis", "flask-socketio", "gevent", "gevent-websocket", "gunicorn", "flask"]
UPDATES = 20
GEVENT = ["--worker-class", "gevent", "--worker-connections", "20000"]
WEB_SOCKETS = [
    "--worker-class",
    "geventwebsocket.gunicorn.workers.GeventWebSocketWorker",
    "--worker-connections",
    "20000",
]


@dataclass(frozen=True)
class Way:
    name: str
    application: str
    options: Callable[[int], list[str]]
    """gunicorn's, for so many streams."""
    open: Callable[[Address], socket.socket]
    """A connection that hears of every update from now on."""


def embedded_stream(address: Address) -> socket.socket:
    return opened(address, STREAM, b"retry: ")


def redis_stream(address: Address) -> socket.socket:
    # It sends nothing before the first update, not even the head at times: the subscription follows the request.
    connection = socket.create_connection(address, PATIENCE)
    connection.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return connection


def web_socket(address: Address) -> socket.socket:
    key = base64.b64encode(os.urandom(16)).decode()
    connection = opened(
        address,
        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode(),
        b'"pingTimeout"',
    )
    # The message "40" (connect), masked with zeros.
    connection.sendall(b"\x81\x82\0\0\0\x0040")
    read_to(connection, b"40{")
    return connection


def opened(address: Address, request: bytes, beginning: bytes) -> socket.socket:
    connection = socket.create_connection(address, PATIENCE)
    connection.sendall(request)
    read_to(connection, beginning)
    return connection


def read_to(connection: socket.socket, wanted: bytes) -> None:
    read = b""
    while wanted not in read:
        part = connection.recv(4096)
        assert part, f"no stream: {read!r}"
        read += part


WAYS = [
    Way("embedded hub, sync", EMBEDDED, lambda _: ["--worker-class", "sync"], embedded_stream),
    Way(
        "embedded hub, a thread each",
        IN_THREADS,
        lambda streams: ["--worker-class", "gthread", "--threads", str(streams + 50), "--worker-connections", "20000"],
        embedded_stream,
    ),
    Way("Flask-SSE with Redis, gevent", FLASK_SSE, lambda _: GEVENT, redis_stream),
    Way("Flask-SocketIO, gevent", SOCKETIO, lambda _: WEB_SOCKETS, web_socket),
]


@contextlib.contextmanager
def redis() -> Iterator[tuple[str, int]]:
    """A Redis without a disk: its URL and its process."""
    program = shutil.which("redis-server") or sys.exit("redis-server is missing")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "socket")
        command = [program, "--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=directory)
        try:
            while not path.exists():
                assert process.poll() is None
                time.sleep(0.01)
            yield f"unix://{path}", process.pid
        finally:
            process.terminate()
            process.wait(PATIENCE)


def server(way: Way, streams: int, packages: str | None, redis_url: str) -> AbstractContextManager[Address]:
    place = str(Path(packages or ".").resolve())
    environment = {"REDIS_URL": redis_url, "PACKAGES": place}
    if way.application is SOCKETIO:
        # gunicorn itself has to find the class of the worker.
        environment["PYTHONPATH"] = place
    # Streams that take threads or greenlets would keep the worker at its end.
    options = ["--backlog", "4096", "--graceful-timeout", "1", *way.options(streams)]
    return gunicorn(options, PATHS + way.application + VIEWS, environment)


def deliver(address: Address, streams: list[socket.socket]) -> float:
    """Publish one update, and wait until every connection has it; how long that took, in milliseconds."""
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ)
        missing, began = len(streams), time.perf_counter()
        get(address, "/publish")
        while missing:
            ready = selector.select(PATIENCE)
            assert ready, f"{missing} connections hear nothing"
            for key, _ in ready:
                assert isinstance(key.fileobj, socket.socket)
                # Pings and comments have no such text.
                if b"message" in key.fileobj.recv(65536):
                    selector.unregister(key.fileobj)
                    missing -= 1
        return (time.perf_counter() - began) * 1000


def wait_for_subscribers(redis_url: str, count: int) -> None:
    """Wait until so many streams of Flask-SSE have subscribed. Their answers do not say it, so Redis is asked."""
    until = time.monotonic() + PATIENCE
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(redis_url.removeprefix("unix://"))
        with connection.makefile("rb") as replies:
            while True:
                connection.sendall(b"PUBSUB NUMSUB sse\r\n")
                # An array of two: the channel, which is a line for its length and one for its name, and the number.
                number = [replies.readline() for _ in range(4)][-1]
                if number == b":%d\r\n" % count:
                    return
                assert time.monotonic() < until, f"{number!r} of {count} have subscribed"
                time.sleep(0.01)


def measure(way: Way, count: int, packages: str | None, store: tuple[str, int]) -> str:
    url, redis_process = store
    with server(way, count, packages, url) as address:
        worker = int(get(address, "/process"))
        first = way.open(address)
        if way.application is FLASK_SSE:
            wait_for_subscribers(url, 1)
        deliver(address, [first])
        before = memory_kib(worker)
        streams = [way.open(address) for _ in range(count)]
        if way.application is FLASK_SSE:
            wait_for_subscribers(url, count + 1)
        each = (memory_kib(worker) - before) * 1024 / count
        view = sorted(latencies(address, 1_000))
        cpu = processor_seconds(worker) + processor_seconds(redis_process)
        times = [deliver(address, streams) for _ in range(UPDATES)]
        cpu = processor_seconds(worker) + processor_seconds(redis_process) - cpu
        for stream in [first, *streams]:
            stream.close()
    p50, p99 = statistics.median(view), view[int(len(view) * 0.99)]
    delivery = cpu * 1e6 / (UPDATES * count)
    return (
        f"| {way.name} | {each / 1024:.1f} | {p50:.2f}, {p99:.2f} | {statistics.median(times):.0f} | {delivery:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--packages", help="a directory for what the others need")
    arguments = parser.parse_args()
    if arguments.packages and not Path(arguments.packages).exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", arguments.packages, *PACKAGES]
        subprocess.run(command, check=True)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(f"{arguments.streams} connections to one worker, {UPDATES} updates")
    print("| | KiB a connection | view, p50 and p99, ms | to the last connection, ms | CPU us a delivery |")
    print("| --- | --- | --- | --- | --- |")
    with redis() as store:
        for way in WAYS:
            print(measure(way, arguments.streams, arguments.packages, store), flush=True)


if __name__ == "__main__":
    main()
