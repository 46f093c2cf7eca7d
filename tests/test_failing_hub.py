"""A hub that loses a shard, as the real binary and embedded in an application: the system fails its thread."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import hubs
from clients import HUB_PATH, PATIENCE, Request, Stream, Token
from servers import needs
from waiting import wait_until

PUBLISH = Token.bearer(publish=["*"], key=hubs.PUBLISHER)


class Broken:
    """A process whose shards fail while a file exists."""

    def __init__(self, command: list[str], directory: Path) -> None:
        library, self.file = directory / "failing_shards.so", directory / "fail"
        source = Path(__file__).parent / "failing_shards.c"
        build = [needs("cc"), "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
        subprocess.run(build, check=True)
        environment = {**os.environ, "LD_PRELOAD": str(library), "FAIL_SHARDS": str(self.file)}
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.log: list[str] = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().removeprefix("Serving on ").strip().removesuffix(HUB_PATH) + HUB_PATH

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr:
            self.log.extend(self.process.stderr)

    def ask(self, line: str) -> str:
        """Writes a line to the process and reads its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def ends(self) -> tuple[int, str]:
        """Waits for its end; the exit code and the log."""
        code = self.process.wait(PATIENCE)
        self.reader.join(PATIENCE)
        return code, "".join(self.log)

    def close(self) -> None:
        self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        self.ends()


def rest_of(stream: Stream) -> list[dict[str, str]]:
    """What still comes until the stream ends. A shard that was still at work when the file came finds one more update
    before it waits again."""
    events: list[dict[str, str]] = []
    try:
        while len(events) < 2:
            events.append(stream.event())
    except EOFError:
        return events
    raise AssertionError(f"the stream goes on: {events}")


def test_the_binary_ends_with_an_error_and_its_next_run_goes_on(tmp_path: Path, stack: ExitStack) -> None:
    log = ["--transport", f"durable://{tmp_path / 'log'}"]
    hub = Broken([*hubs.petasos(), *log, "--compat"], tmp_path)
    stack.callback(hub.close)
    publish = [("topic", "a"), ("id", "before")]
    stream = Stream(hub.url + "?topic=a")
    stack.callback(stream.close)
    assert Request("POST", hub.url, PUBLISH, publish).status == 200
    assert stream.event()["id"] == "before"
    hub.file.touch()
    # It wakes the shard, unless that has woken by itself. The shard and the answer to the publisher are in a race.
    acknowledged = False
    with suppress(OSError, http.client.HTTPException):
        acknowledged = Request("POST", hub.url, PUBLISH, [("topic", "a"), ("id", "after")]).status == 200
    heard = [event["id"] for event in rest_of(stream)]
    assert heard in ([], ["after"])
    code, text = hub.ends()
    assert code == 1
    assert "the hub has failed: it refuses updates and subscribers" in text
    assert text.splitlines()[-1] == "petasos: the hub has failed, see the error in its log: start it again"
    again = hubs.HubProcess([*hubs.petasos(), *log, "--compat"])
    stack.callback(again.close)
    rest = Stream(again.url + "?topic=a&lastEventID=before")
    stack.callback(rest.close)
    assert Request("POST", again.url, PUBLISH, [("topic", "a"), ("id", "last")]).status == 200
    ids = list(iter(lambda: rest.event()["id"], "last"))
    assert ids == ["after"] or (ids == [] and not acknowledged and not heard)


APPLICATION = """
import sys, threading
from flask import Flask
from flask_mercure_sse import MercureError, MercureSSE
from werkzeug.serving import make_server

app = Flask("broken")
app.config.update(SECRET_KEY="a secret of more than thirty-two bytes", DEBUG=True)
mercure = MercureSSE(app)
server = make_server("127.0.0.1", 0, app, threaded=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"Serving on http://127.0.0.1:{server.server_port}", flush=True)
for line in sys.stdin:
    try:
        with app.app_context():
            mercure.publish("a", line.strip())
        print("published", flush=True)
    except MercureError as error:
        print(type(error).__name__, flush=True)
"""


def test_the_embedded_hub_starts_again_with_its_next_use(tmp_path: Path, stack: ExitStack) -> None:
    hub = Broken([sys.executable, "-c", APPLICATION], tmp_path)
    stack.callback(hub.close)
    stream = Stream(hub.url + "?topic=a")
    stack.callback(stream.close)
    assert hub.ask("before") == "published"
    assert stream.event()["data"] == "before"
    hub.file.touch()
    hub.ask("lost")
    assert [event["data"] for event in rest_of(stream)] in ([], ["lost"])
    wait_until(lambda: any("the hub has failed" in line for line in hub.log), "the log says so")
    hub.file.unlink()
    again = Stream(hub.url + "?topic=a")
    stack.callback(again.close)
    assert again.status == 200
    assert hub.ask("after") == "published"
    assert again.event()["data"] == "after"
    assert hub.process.poll() is None
