"""Client libraries, as their users install them, each in a process that reports what its library delivers.

A client is one small file in the folder of its language, named after its library. It is started with a URL, and writes
a line of JSON for each message that its library delivers, until one says that it is the last. The environment variable
``SPEAKS`` says which protocol it uses: ``http/1.1``, ``h2`` or ``h2c``, which is HTTP/2 without TLS."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from clients import PATIENCE, Request, Token
from clients_matrix.proxy import Proxy
from hubs import PUBLISHER, ROOT, alone
from npm import Missing, install

HERE = Path(__file__).parent
BUILD = ROOT / ".build" / "clients"

NODE = (
    "eventsource",
    "eventsource-2",
    "event-source-polyfill",
    "fetch-event-source",
    "eventsource-client",
    "launchdarkly-eventsource",
)
PYTHON = ("httpx_sse", "sseclient_py", "aiohttp_sse_client2")
GO = ("r3labs-sse", "launchdarkly-eventsource", "tmaxmax-go-sse")
NAMES = [
    *(f"npm {name}" for name in NODE),
    *(f"PyPI {name}" for name in PYTHON),
    *(f"Go {name}" for name in GO),
]


def node_clients() -> dict[str, list[str]]:
    """How to start each, from its lock file's versions. Raises Missing without Node."""
    folder = BUILD / "node"
    node = install(HERE / "node", folder)
    return {f"npm {name}": [node, str(folder / f"{name}.js")] for name in NODE}


def python_clients() -> dict[str, list[str]]:
    """How to start each; they are installed with what the tests need."""
    return {f"PyPI {name}": [sys.executable, str(HERE / "python" / f"with_{name}.py")] for name in PYTHON}


def go_clients() -> dict[str, list[str]]:
    """How to start each, built with the versions of go.sum. Raises Missing without Go."""
    go = shutil.which("go")
    version = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True).stdout if go else ""
    if go is None or [int(part) for part in re.findall(r"\d+", version)[:2]] < [1, 26]:
        raise Missing("Go 1.26 is not installed")
    folder = BUILD / "go"
    folder.mkdir(parents=True, exist_ok=True)
    with alone("clients in Go"):
        build = [go, "build", "-o", f"{folder}/", *(f"./{name}" for name in GO)]
        subprocess.run(build, cwd=HERE / "go", check=True)
    return {f"Go {name}": [str(folder / name)] for name in GO}


def commands() -> tuple[dict[str, list[str]], dict[str, str]]:
    """How to start each client that can be started here, and what is missing for each other one."""
    found: dict[str, list[str]] = {}
    missing: dict[str, str] = {}
    kinds: tuple[tuple[str, Callable[[], dict[str, list[str]]]], ...]
    kinds = (("npm", node_clients), ("PyPI", python_clients), ("Go", go_clients))
    for prefix, clients_of in kinds:
        try:
            found.update(clients_of())
        except Missing as absent:
            missing.update({name: str(absent) for name in NAMES if name.startswith(prefix)})
    return found, missing


class Client:
    """A process that subscribes through a proxy of its own."""

    def __init__(self, command: list[str], hub: str, errors: Path, speaks: str, trusted: Path | None = None) -> None:
        parts = urlsplit(hub)
        assert parts.port is not None
        self.proxy = Proxy("127.0.0.1", parts.port)
        # The page that it belongs to has seen event 0. A certificate is for a name.
        port = self.proxy.address.rpartition(":")[2]
        host = self.proxy.address if trusted is None else f"localhost:{port}"
        url = f"{parts.scheme}://{host}{parts.path}?topic=events&lastEventID=urn:x:0"
        environment = {**os.environ, "SPEAKS": speaks}
        if trusted is not None:
            # Of Python's ssl and of Go, of requests, of Node.
            names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")
            environment.update(dict.fromkeys(names, str(trusted)))
        self._errors = errors
        with errors.open("w") as stderr:
            self.process = subprocess.Popen(
                [*command, url],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=environment,
            )
        self.is_following = True
        self._told = threading.Condition()
        self._lines: list[Any] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._told:
                self._lines.append(json.loads(line))
                self._told.notify_all()

    def wait_for_comment(self, since: int) -> None:
        """One that gets none is not waited for again."""
        self._follow(lambda: self.proxy.wait_for_comment(since, 0.5))

    def wait_for_lines(self, count: int) -> None:
        """One that does not tell of so many messages is not waited for again."""

        def told() -> bool:
            with self._told:
                return self._told.wait_for(lambda: len(self._lines) >= count, 0.5)

        self._follow(told)

    def _follow(self, has_come: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.is_following and not has_come():
            self.is_following = self.process.poll() is None and time.monotonic() < deadline

    def outcome(self) -> Outcome:
        # Before its input is closed, which ends it.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE if self.is_following else 0)
        self._end()
        return Outcome(self._lines, self.proxy.requests, self.proxy.comments, self._errors.read_text())

    def close(self) -> None:
        self._end()
        self.proxy.close()

    def _end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()


@dataclass
class Outcome:
    lines: list[Any] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    comments: int = 0
    errors: str = ""
    missing: str | None = None

    @property
    def numbers(self) -> list[Any]:
        """The numbers of the messages; what is no message as it is."""
        return [line.get("message", line).get("number", line) for line in self.lines]

    @property
    def ids(self) -> list[str]:
        return [line.get("id") for line in self.lines]


def publish(hub: str, number: int, tls: ssl.SSLContext | None = None, **more: Any) -> None:
    data = json.dumps({"number": number, "text": "a\nb", **more})
    form = [("topic", "events"), ("id", f"urn:x:{number}"), ("data", data)]
    assert Request("POST", hub, Token.bearer(publish=["*"], key=PUBLISHER), form, tls=tls).status == 200
