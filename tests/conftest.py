"""Real servers on free ports, and clients that know nothing of the hub. Whatever a fixture starts, it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask

import hubs
from clients import HUB_PATH, PATIENCE, SECRET, Request, Stream, Token
from engines import ENGINES, Engine
from flask_mercure_sse import MercureSSE
from flask_mercure_sse.host_log import DIRECTORY_VARIABLE
from serving import serve_threaded
from waiting import wait_until

Serve = Callable[[Flask], str]
Open = Callable[..., Stream]


@pytest.fixture(scope="session")
def _host_logs() -> Iterator[str]:
    # Not pytest's directory: the path of a Unix socket must be short.
    with TemporaryDirectory(prefix="hub-", ignore_cleanup_errors=True) as directory:
        yield directory


_numbers = count()


@pytest.fixture(autouse=True)
def host_logs(_host_logs: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory in which the applications of this test, and of its processes, share their logs."""
    directory = Path(_host_logs, str(next(_numbers)))
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(directory))
    return directory


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def serve(stack: ExitStack) -> Serve:
    """Starts Werkzeug's threaded server for an application and returns its URL."""

    return lambda app: serve_threaded(app, stack)


@pytest.fixture
def open_stream(stack: ExitStack) -> Open:
    """Opens an event stream that is closed at the end of the test."""

    def start(url: str, headers: dict[str, str] | None = None) -> Stream:
        stream = Stream(url, headers)
        stack.callback(stream.close)
        return stream

    return start


@pytest.fixture
def app() -> Flask:
    """An application in debug mode, with a secret key."""
    app = Flask("chat")
    app.debug = True
    app.config["SECRET_KEY"] = SECRET
    return app


@pytest.fixture
def mercure(app: Flask) -> MercureSSE:
    return MercureSSE(app)


@pytest.fixture
def hub_url(app: Flask, mercure: MercureSSE, serve: Serve) -> str:
    """The URL of the embedded hub, served."""
    return serve(app) + HUB_PATH


def subscribe_url(hub: str, *topics: str, **parameters: str) -> str:
    fields = [f"topic={quote(topic, safe='')}" for topic in topics]
    fields += [f"{name}={quote(value, safe='')}" for name, value in parameters.items()]
    return f"{hub}?{'&'.join(fields)}"


@pytest.fixture(name="subscribe_url")
def _subscribe_url() -> Callable[..., str]:
    return subscribe_url


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, stack: ExitStack, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """A store that several hubs can have their log in."""
    engine = ENGINES[request.param](tmp_path_factory.mktemp(request.param))
    stack.callback(engine.close)
    return engine


@pytest.fixture
def token() -> type[Token]:
    return Token


@pytest.fixture
def send() -> type[Request]:
    return Request


@pytest.fixture(name="wait_until")
def _wait_until() -> Callable[..., None]:
    return wait_until


class Standalone:
    """``python -m flask_mercure_sse.server`` as a process of its own."""

    def __init__(self, *options: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> None:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flask_mercure_sse.server", "--host", "127.0.0.1", "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**inherited, **(env or {})},
            cwd=cwd,
        )
        self.lines: dict[str, str] = {}
        assert self.process.stdout is not None
        for line in self.process.stdout:
            name, _, value = line.rstrip("\n").partition(": ")
            self.lines[name] = value
            if line.startswith("Serving on "):
                self.url = line.split()[-1]
                self.hub = self.url + HUB_PATH
                break

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends it with a signal; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def standalone(stack: ExitStack) -> Callable[..., Standalone]:
    """Starts the standalone hub; ended with the test."""

    def start(*options: str, **kwargs: Any) -> Standalone:
        hub = Standalone(*options, **kwargs)
        stack.callback(hub.close)
        return hub

    return start


@pytest.fixture
def fake_hub(stack: ExitStack) -> Callable[..., str]:
    """A hub that answers whatever it is told, one connection after the other; returns its URL and what it received."""

    def start(*answers: bytes, received: list[bytes] | None = None) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        stack.callback(listener.close)

        def run() -> None:
            for answer in answers:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(PATIENCE)
                    request = b""
                    while b"\r\n\r\n" not in request:
                        request += connection.recv(65536)
                    head, _, body = request.partition(b"\r\n\r\n")
                    length = next(
                        (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")),
                        0,
                    )
                    while len(body) < length:
                        body += connection.recv(65536)
                    if received is not None:
                        received.append(head + b"\r\n\r\n" + body)
                    if answer:
                        connection.sendall(answer)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}{HUB_PATH}"

    return start


@pytest.fixture(scope="session")
def hub_commands() -> dict[str, tuple[list[str], list[str]]]:
    """For each dialect: how to start petasos, and the reference hub. Skips where that cannot be built."""
    references = {dialect: hubs.reference(dialect) for dialect in ("0.x", "1.0")}
    own = hubs.petasos()
    return {"0.x": ([*own, "--compat"], references["0.x"]), "1.0": (own, references["1.0"])}
