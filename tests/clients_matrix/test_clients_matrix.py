"""Client libraries, as their users install them, on one hub: each receives events with keep-alives between, is cut off,
and comes back.

A client is one small file in the folder of its language, named after its library. It is started with a URL, and writes
a line of JSON for each message that its library delivers, until one says that it is the last.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from clients import PATIENCE, Request, Stream, Token
from clients_matrix.proxy import Proxy
from hubs import PUBLISHER, ROOT, HubProcess, petasos
from npm import Missing, install

HERE = Path(__file__).parent
BUILD = ROOT / ".build" / "clients"
EVENTS = 20
CUT_BEFORE = 11

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
    build = [go, "build", "-o", f"{folder}/", *(f"./{name}" for name in GO)]
    subprocess.run(build, cwd=HERE / "go", check=True)
    return {f"Go {name}": [str(folder / name)] for name in GO}


class Client:
    """A process that subscribes through a proxy of its own."""

    def __init__(self, command: list[str], hub: str, errors: Path) -> None:
        parts = urlsplit(hub)
        assert parts.hostname is not None
        assert parts.port is not None
        self.proxy = Proxy(parts.hostname, parts.port)
        # The page that it belongs to has seen event 0.
        url = f"http://{self.proxy.address}{parts.path}?topic=events&lastEventID=urn:x:0"
        self._errors = errors
        with errors.open("w") as stderr:
            self.process = subprocess.Popen(
                [*command, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
            )
        self.is_following = True

    def wait_for_comment(self, since: int) -> None:
        """One that gets none is not waited for again."""
        deadline = time.monotonic() + PATIENCE
        while self.is_following and not self.proxy.wait_for_comment(since, 0.5):
            self.is_following = self.process.poll() is None and time.monotonic() < deadline

    def outcome(self) -> Outcome:
        # Before its input is closed, which ends it; what it writes fits into the pipe.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE if self.is_following else 0)
        self.process.kill()
        output, _ = self.process.communicate()
        lines = [json.loads(line) for line in output.splitlines()]
        return Outcome(lines, self.proxy.requests, self.proxy.comments, self._errors.read_text())

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.proxy.close()


@dataclass
class Outcome:
    lines: list[Any] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    comments: int = 0
    errors: str = ""
    missing: str | None = None


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """The result of each client. They run at the same time, since each event waits for a keep-alive."""
    commands: dict[str, list[str]] = {}
    outcomes: dict[str, Outcome] = {}
    kinds: tuple[tuple[str, Callable[[], dict[str, list[str]]]], ...]
    kinds = (("npm", node_clients), ("PyPI", python_clients), ("Go", go_clients))
    for prefix, clients_of in kinds:
        try:
            commands.update(clients_of())
        except Missing as missing:
            outcomes.update({name: Outcome(missing=str(missing)) for name in NAMES if name.startswith(prefix)})
    with ExitStack() as stack:
        hub = HubProcess([*petasos(), "--compat", "--keep-alive", "1s"])
        stack.callback(hub.close)
        publish(hub.url, 0)
        folder = tmp_path_factory.mktemp("clients")
        running = {}
        for name, command in commands.items():
            running[name] = Client(command, hub.url, folder / name)
            stack.callback(running[name].close)
        raw = Stream(f"{hub.url}?topic=events")
        stack.callback(raw.close)
        for client in running.values():
            client.wait_for_comment(0)
        for number in range(1, EVENTS + 1):
            before = {name: client.proxy.comments for name, client in running.items()}
            if number == CUT_BEFORE:
                for client in running.values():
                    client.proxy.cut()
            publish(hub.url, number)
            raw.event()
            assert raw.response.readline() == b":\n", "a keep-alive follows the event"
            for name, client in running.items():
                client.wait_for_comment(before[name])
        publish(hub.url, EVENTS + 1, last=True)
        outcomes.update({name: client.outcome() for name, client in running.items()})
    return outcomes


def publish(hub: str, number: int, **more: Any) -> None:
    data = json.dumps({"number": number, "text": "a\nb", **more})
    form = [("topic", "events"), ("id", f"urn:x:{number}"), ("data", data)]
    assert Request("POST", hub, Token.bearer(publish=["*"], key=PUBLISHER), form).status == 200


@pytest.mark.parametrize("name", NAMES)
def test_every_event_comes_once_and_in_order_and_nothing_else(name: str, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[name]
    if outcome.missing is not None:
        pytest.skip(outcome.missing)
    numbers = [line.get("message", line).get("number", line) for line in outcome.lines]
    assert numbers == [*range(1, EVENTS + 2)], outcome.errors
    assert [line["id"] for line in outcome.lines] == [f"urn:x:{number}" for number in numbers]
    assert outcome.comments >= EVENTS, "keep-alives came between the events"
    first, again = outcome.requests
    assert "urn:x:10" not in first
    cursor = r"(?im)^last-event-id: urn:x:10\r$|lasteventid=urn(:|%3A)x(:|%3A)10 "
    assert re.search(cursor, again), again
