"""The log that all processes of an application on one host share without being told."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import textwrap
from itertools import count
from pathlib import Path

import pytest
from flask import Flask

from clients import HUB_PATH, PATIENCE, Request
from flask_mercure_sse import MercureSSE
from flask_mercure_sse.host_log import DIRECTORY_VARIABLE, url
from servers import ServerProcess
from waiting import wait_until

APPLICATION = """
import os

from flask import Flask, request
from flask_mercure_sse import MercureSSE

app = Flask(__name__)
app.config.update(SECRET_KEY="k" * 32, MERCURE_HUB=True)
mercure = MercureSSE(app)


@app.get("/publish")
def publish():
    return f"{os.getpid()} {mercure.publish('topic', request.args.get('data', 'data'))}"


@app.get("/connected")
def connected():
    return str(mercure.is_connected("topic"))
"""

SCRIPT = """
from shared import app, mercure

with app.app_context():
    print(mercure.publish("topic", "from a script"))
"""

WORKERS = ["--workers", "4", "--worker-class", "gthread", "--threads", "20"]


class Server:
    """gunicorn with the application."""

    def __init__(self, directory: Path, *options: str) -> None:
        (directory / "shared.py").write_text(APPLICATION)
        command = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", *options, "shared:app"]
        self.process = ServerProcess(command, "Listening at", directory)
        found = re.search(r"Listening at: (http://[^ ]+)", "".join(self.process.lines))
        assert found
        self.url = found[1]

    def publish(self, data: str = "data") -> tuple[int, str]:
        """The worker that has published, and the id."""
        worker, id = Request("GET", f"{self.url}/publish?data={data}").body.decode().split()
        return int(worker), id


@pytest.fixture
def start(stack, tmp_path):
    def start(*options: str) -> Server:
        server = Server(tmp_path, *options)
        stack.callback(server.process.kill)
        return server

    return start


def run(directory: Path, script: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=directory,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "options",
    [WORKERS, ["--workers", "4"], ["--workers", "4", "--worker-class", "gevent"], ["--workers", "4", "--preload"]],
    ids=["gthread", "sync", "gevent", "preload"],
)
def test_all_workers_are_one_hub(start, open_stream, options):
    server = start(*options)
    streams = [open_stream(f"{server.url}{HUB_PATH}?topic=topic") for _ in range(8)]
    for stream in streams:
        stream.first_bytes()
    workers, numbers = set(), count()

    def publish() -> bool:
        """Whether several workers have published."""
        number = str(next(numbers))
        worker, id = server.publish(number)
        workers.add(worker)
        for stream in streams:
            event = stream.event()
            assert (event["id"], event["data"]) == (id, number)
        return len(workers) > 1 and int(number) >= 20

    wait_until(publish, "several workers publish")
    wait_until(lambda: all(Request("GET", server.url + "/connected").body == b"True" for _ in range(8)))
    assert not any("each has an embedded Mercure hub of its own" in line for line in server.process.lines)


def test_a_script_is_heard_by_the_pages_of_the_server(start, open_stream, tmp_path):
    server = start(*WORKERS)
    stream = open_stream(f"{server.url}{HUB_PATH}?topic=topic")
    stream.first_bytes()
    id = run(tmp_path, SCRIPT)
    event = stream.event()
    assert (event["id"], event["data"]) == (id, "from a script")


DEBUGGED = """
from flask import Flask
from flask_mercure_sse import MercureSSE

app = Flask(__name__)
app.config["SECRET_KEY"] = "k" * 32
mercure = MercureSSE(app)
"""


def test_in_debug_mode_a_terminal_is_heard_beside_the_reloader(stack, open_stream, tmp_path):
    (tmp_path / "app.py").write_text(DEBUGGED)
    flask = [sys.executable, "-m", "flask", "--debug"]
    server = ServerProcess([*flask, "run", "--port", "0"], "Debugger PIN", tmp_path)
    stack.callback(server.kill)
    found = re.search(r"Running on (http://[^ \n]+)", "".join(server.lines))
    assert found
    stream = open_stream(f"{found[1]}{HUB_PATH}?topic=topic")
    stream.first_bytes()
    for command in (["mercure", "publish", "topic", "data"], ["shell"]):
        # The shell reads its commands from there.
        code = "from app import mercure; print(mercure.publish('topic', 'data'))"
        done = subprocess.run(
            [*flask, *command], cwd=tmp_path, input=code, capture_output=True, text=True, timeout=PATIENCE, check=True
        )
        event = stream.event()
        assert event["data"] == "data"
        assert event["id"] in done.stdout


def test_a_restart_keeps_the_history(start, open_stream, tmp_path):
    first = start(*WORKERS)
    _, before = first.publish("before")
    missed = [first.publish(str(number))[1] for number in range(3)]
    first.process.stop()
    missed.append(run(tmp_path, SCRIPT))
    second = start(*WORKERS)
    stream = open_stream(f"{second.url}{HUB_PATH}?topic=topic&lastEventID={before}")
    assert [stream.event()["id"] for _ in missed] == missed


def test_a_killed_worker_takes_no_update_with_it(start, open_stream):
    server = start(*WORKERS)
    stream = open_stream(f"{server.url}{HUB_PATH}?topic=other")
    stream.first_bytes()
    _, before = server.publish("before")
    ids = []
    for _ in range(6):
        worker, id = server.publish()
        ids.append(id)
        os.kill(worker, signal.SIGKILL)
        ids.append(server.publish()[1])
    stream = open_stream(f"{server.url}{HUB_PATH}?topic=topic&lastEventID={before}")
    assert [stream.event()["id"] for _ in ids] == ids


def test_a_forked_process_goes_on_when_its_parent_has_died(tmp_path):
    """The child has copies of all descriptors of its parent, which led: the lock and the socket stay as they are."""
    (tmp_path / "shared.py").write_text(APPLICATION)
    told = run(
        tmp_path,
        """
        import os
        from shared import app, mercure

        app.app_context().push()
        before = mercure.publish("topic", "in the parent")
        parent = os.getpid()
        if os.fork():
            os._exit(0)
        while os.getppid() == parent:
            os.sched_yield()
        id = mercure.publish("topic", "in the child")
        # What this process has delivered: a moment after it was published.
        while mercure.last_event_id() != id:
            os.sched_yield()
        print(before != id)
        """,
    )
    assert told == "True"


def test_a_process_forks_while_its_threads_publish(tmp_path):
    """A child opens a log though none of the threads is in it that held the locks of SQLite a moment before."""
    (tmp_path / "shared.py").write_text(APPLICATION)
    told = run(
        tmp_path,
        """
        import os, threading
        from flask import Flask
        from flask_mercure_sse import MercureSSE
        from shared import app, mercure

        def publish():
            with app.app_context():
                while True:
                    mercure.publish("topic", "of a thread")

        for _ in range(4):
            threading.Thread(target=publish, daemon=True).start()
        for number in range(100):
            if not (child := os.fork()):
                own = Flask("child")
                own.config.update(SECRET_KEY="k" * 32, MERCURE_HUB=True, MERCURE_HUB_TRANSPORT=f"durable://{os.getcwd()}/{number}")
                with own.app_context():
                    MercureSSE(own).publish("topic", "in the child")
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        print("published", flush=True)
        os._exit(0)
        """,
    )
    assert told == "published"


def test_an_application_finds_the_same_place_from_everywhere(tmp_path, host_logs):
    def place(name: str, root: str) -> str:
        return url(Flask(name, root_path=root))

    assert place("shop", "/srv/shop") == place("shop", "/srv/shop") == place("company.shop", "/srv/shop")
    assert len({place("shop", "/srv/shop"), place("shop", "/srv/other"), place("other", "/srv/shop")}) == 3
    assert url(Flask("shop", root_path="/srv"), "host:?name=mine&lease=5s") == f"host://{host_logs}?name=mine&lease=5s"
    assert stat.S_IMODE(host_logs.stat().st_mode) == 0o700


def test_a_directory_of_others_is_not_used(tmp_path, monkeypatch, caplog):
    directory = tmp_path / "logs"
    directory.mkdir()
    directory.chmod(0o777)
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(directory))
    app = Flask("shop", root_path="/srv")
    with pytest.raises(OSError, match="not a directory of this user alone"):
        url(app)
    app.config["SECRET_KEY"] = "k" * 32
    mercure = MercureSSE(app, hub=True)
    with app.app_context():
        assert mercure.publish("topic", "data")
    assert [record.getMessage() for record in caplog.records if "in the memory of this process" in record.getMessage()]


def test_a_log_that_was_asked_for_is_not_replaced_by_memory(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(DIRECTORY_VARIABLE, str(tmp_path / "file"))
    app = Flask("shop")
    app.config["SECRET_KEY"] = "k" * 32
    mercure = MercureSSE(app, hub=True, hub_transport="host:")
    with app.app_context(), pytest.raises(ValueError, match=r"MERCURE_HUB_TRANSPORT: .*host:///run/app"):
        mercure.publish("topic", "data")


def test_in_testing_mode_the_log_is_in_memory(host_logs):
    app = Flask("shop")
    app.testing = True
    app.config["SECRET_KEY"] = "k" * 32
    mercure = MercureSSE(app, hub=True)
    with app.app_context():
        mercure.publish("topic", "data")
    assert not host_logs.exists()
