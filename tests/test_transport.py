"""Embedded hubs with a log of several processes: what MERCURE_HUB_TRANSPORT makes of them."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from flask import Flask

from clients import HUB_PATH, PATIENCE, SECRET, Request
from engines import Redis
from flask_mercure_sse import HubError, MercureSSE
from flask_mercure_sse._native import Hub, NoRoom

APPLICATION = """
import os

from flask import Flask
from flask_mercure_sse import MercureSSE

app = Flask(__name__)
app.config["SECRET_KEY"] = "k" * 32
mercure = MercureSSE(app)


@app.get("/publish")
def publish():
    mercure.publish("topic", f"from {os.getpid()}")
    return str(os.getpid())


@app.get("/connected")
def connected():
    return str(mercure.is_connected("topic"))
"""


@pytest.fixture
def redis(stack, tmp_path_factory):
    engine = Redis(tmp_path_factory.mktemp("redis"))
    stack.callback(engine.close)
    return engine


@pytest.fixture
def gunicorn(stack, tmp_path):
    """Starts the application with several workers, and returns its URL."""

    def start(transport: str, *options: str) -> str:
        (tmp_path / "shared.py").write_text(APPLICATION)
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", *options, "shared:app"],
            cwd=tmp_path,
            env={**os.environ, "MERCURE_HUB_TRANSPORT": transport},
            stderr=subprocess.PIPE,
            text=True,
        )

        def end() -> None:
            process.send_signal(signal.SIGKILL if process.poll() is None else 0)
            process.communicate()

        stack.callback(end)
        # Its workers end with it.
        stack.callback(process.terminate)
        assert process.stderr is not None
        for line in process.stderr:
            found = re.search(r"Listening at: (http://[^ ]+)", line)
            if found:
                threading.Thread(target=process.stderr.read, daemon=True).start()
                return found[1]
        raise AssertionError("gunicorn does not listen")

    return start


GTHREAD = ["--workers", "3", "--worker-class", "gthread", "--threads", "20"]
GEVENT = ["--workers", "3", "--worker-class", "gevent"]


@pytest.mark.parametrize("options", [GTHREAD, GEVENT, [*GTHREAD, "--preload"]], ids=["gthread", "gevent", "preload"])
def test_the_workers_of_two_hosts_are_one_hub(gunicorn, redis, open_stream, options):
    hosts = [gunicorn(redis.url, *options) for _ in range(2)]
    streams = [open_stream(f"{host}{HUB_PATH}?topic=topic") for host in hosts for _ in range(4)]
    for stream in streams:
        stream.first_bytes()
    workers = set()
    deadline = time.monotonic() + PATIENCE
    while len(workers) < 4:
        assert time.monotonic() < deadline, "two workers of each host answer"
        for host in hosts:
            worker = Request("GET", host + "/publish").body.decode()
            workers.add(worker)
            for stream in streams:
                assert stream.event()["data"] == f"from {worker}"
    assert all(Request("GET", host + "/connected").body == b"True" for host in hosts)


def test_applications_on_any_log_hear_each_other(engine, stack):
    first, second = (application(engine.url) for _ in range(2))
    with second.subscribe("topic") as events:
        id = first.publish("topic", "é")
        event = next(events)
    assert (event.id, event.data) == (id, "é")


def application(transport: str | None, **settings) -> MercureSSE:
    app = Flask("shared")
    app.config.update(SECRET_KEY=SECRET, **settings)
    return MercureSSE(app, hub_transport=transport)


def test_while_the_log_is_away_publishing_raises_or_waits_in_the_background(redis):
    mercure = application(redis.url)
    patient = application(redis.url, MERCURE_PUBLISH_BACKGROUND=True)
    mercure.publish("topic", "before")
    redis.stop()
    with pytest.raises(HubError, match="the embedded hub") as raised:
        mercure.publish("topic", "now")
    assert raised.value.status == 503
    id = patient.publish("topic", "later")
    redis.start()
    assert patient.flush(PATIENCE)
    with mercure.subscribe("topic", last_event_id="earliest") as events:
        while (event := next(events)).data != "later":
            assert event.data in ("before", "now")
    assert event.id == id


def test_a_log_that_cannot_be_reached_at_the_start_is_tried_again(redis):
    redis.stop()
    mercure = application(redis.url)
    with pytest.raises(HubError) as raised:
        mercure.publish("topic", "data")
    assert raised.value.status == 503
    redis.start()
    assert mercure.publish("topic", "data")


def test_bytes_that_wait_for_the_log_are_bounded(redis):
    hub = Hub(transport=f"{redis.url}?timeout={PATIENCE:.0f}s")
    hub.publish("topic", "the engine runs")
    redis.pause()
    large = "x" * 1024 * 1000
    waiting = [socket.socket(fileno=hub.submit("topic", large)) for _ in range(65)]
    for publish in (hub.submit, hub.publish):
        with pytest.raises(NoRoom, match=r"64 MiB of updates wait for the store of its log already.* not published"):
            publish("topic", large)
    redis.resume()
    for each in waiting:
        with each, each.makefile("rb") as answer:
            each.settimeout(PATIENCE)
            assert answer.read().startswith(b"ok urn:uuid:")
    assert hub.publish("topic", large), "there is room again"


@pytest.mark.parametrize("is_running", [True, False], ids=["publishing", "starting"])
def test_waiting_for_the_log_leaves_other_greenlets_alone(redis, is_running):
    program = f"""
        from gevent import monkey
        monkey.patch_all()
        import socket, sys, threading
        from flask import Flask
        from flask_mercure_sse import MercureSSE

        app = Flask(__name__)
        app.config["SECRET_KEY"] = "k" * 32
        mercure = MercureSSE(app, hub_transport="{redis.url}?timeout={PATIENCE:.0f}s")
        if {is_running}:
            mercure.publish("topic", "the engine runs")
        other = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
        assert other.recv(2) == b"go"

        def echo():
            while received := other.recv(100):
                other.sendall(received)

        threading.Thread(target=echo, daemon=True).start()
        mercure.publish("topic", "into nothing")
        other.sendall(b"published")
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command = [sys.executable, "-c", textwrap.dedent(program), str(listener.getsockname()[1])]
        if not is_running:
            redis.pause()
        process = subprocess.Popen(command)
        try:
            listener.settimeout(PATIENCE)
            other, _ = listener.accept()
            with other:
                other.settimeout(PATIENCE)
                redis.pause()
                other.sendall(b"go")
                for number in range(20):
                    other.sendall(b"%d" % number)
                    assert other.recv(100) == b"%d" % number
                redis.resume()
                assert other.recv(100) == b"published"
        finally:
            redis.resume()
            process.kill()
            process.communicate()


def test_a_log_that_was_given_is_one_for_an_embedded_hub(app):
    app.debug = False
    assert not MercureSSE(app).state.is_embedded
    shared = application("redis://localhost:1")
    assert shared.state.is_embedded
    assert not application(
        "redis://localhost:1", MERCURE_HUB_URL="http://hub.example/.well-known/mercure"
    ).state.is_embedded
    assert not application("redis://localhost:1", MERCURE_HUB=False).state.is_embedded


def test_no_test_writes_into_the_log_of_production():
    mercure = application("redis://localhost:1", TESTING=True)
    assert mercure.publish("topic", "into memory")
    explicit = application("redis://localhost:1", TESTING=True, MERCURE_HUB=True)
    with pytest.raises(HubError):
        explicit.publish("topic", "there is no such log")


def test_a_wrong_log_is_explained_and_its_password_is_not_shown(monkeypatch):
    for wrong in ("redis:localhost", "gopher://user:hidden@localhost", "redis://user:hidden@localhost#x"):
        with pytest.raises(ValueError, match="MERCURE_HUB_TRANSPORT: ") as raised:
            application(wrong)
        assert "hidden" not in str(raised.value)
    with pytest.raises(ValueError, match="MERCURE_HUB_TRANSPORT: write a text"):
        application(b"redis://localhost")  # type: ignore[arg-type]
    monkeypatch.setenv("MERCURE_HUB_TRANSPORT", "redis://user:hidden@localhost:1")
    mercure = application(None)
    assert "hidden" not in repr(mercure.state)
    with pytest.raises(HubError) as raised:
        mercure.publish("topic", "data")
    assert "hidden" not in str(raised.value)


def test_a_durable_log_outlives_the_process_and_has_one_at_a_time(tmp_path):
    program = """
        import sys
        from flask import Flask
        from flask_mercure_sse import MercureSSE

        app = Flask(__name__)
        app.config["SECRET_KEY"] = "k" * 32
        mercure = MercureSSE(app, hub_transport="durable://" + sys.argv[1])
        print(mercure.publish("topic", sys.argv[2]))
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "log")]
    ids = [subprocess.check_output([*command, data], text=True).strip() for data in ("one", "two")]
    mercure = application(f"durable://{tmp_path / 'log'}")
    with mercure.subscribe("topic", last_event_id="earliest") as events:
        found = [next(events) for _ in range(2)]
    assert [(event.id, event.data) for event in found] == [(ids[0], "one"), (ids[1], "two")]
    refused = subprocess.run([*command, "three"], capture_output=True, text=True)
    assert refused.returncode != 0
    assert str(tmp_path / "log") in refused.stderr
    assert "another process" in refused.stderr
    mercure.hub.stop()
