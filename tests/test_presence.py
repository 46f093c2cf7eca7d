"""The signals that tell who subscribes to the embedded hub."""

import asyncio
import gc
import os
import socket
import subprocess
import sys
import threading
import weakref

import pytest
from flask import Flask, current_app
from gevent import GreenletExit

from clients import PATIENCE
from engines import ENGINES
from flask_mercure_sse import (
    HubUnreachableError,
    MercureSSE,
    presence,
    subscriber_connected,
    subscriber_disconnected,
)
from waiting import wait_until


class Seen:
    """What the signals of an application said."""

    def __init__(self, app):
        self.changed, self.all = threading.Condition(), []
        subscriber_connected.connect(self.connected, app)
        subscriber_disconnected.connect(self.disconnected, app)

    def connected(self, app, **said):
        self.add(app, "connected", said)

    def disconnected(self, app, **said):
        self.add(app, "disconnected", said)

    def add(self, app, what, said):
        assert current_app._get_current_object() is app
        with self.changed:
            self.all.append((what, said["topic"], said["payload"], said["subscriber"]))
            self.changed.notify_all()

    def first(self, n):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.all) >= n, PATIENCE), self.all
            return self.all[:n]


@pytest.mark.parametrize("protocol", ["0.x", "1.0"])
def test_who_comes_and_goes_is_told_with_payload_and_id(protocol, app, serve, open_stream, subscribe_url):
    mercure = MercureSSE(app, protocol=protocol)
    seen = Seen(app)
    url = serve(app) + "/.well-known/mercure"
    jwt = mercure.create_subscription_jwt(["a", "b"], payload={"user": 7})
    parameter = "topic" if protocol == "0.x" else "match"
    stream = open_stream(f"{url}?{parameter}=a&{parameter}=b", {"Authorization": f"Bearer {jwt}"})
    assert stream.status == 200
    came = seen.first(2)
    assert [each[:3] for each in came] == [("connected", "a", {"user": 7}), ("connected", "b", {"user": 7})]
    assert came[0][3] == came[1][3]
    assert came[0][3].startswith("urn:uuid:")
    stream.close()
    assert [each[:3] for each in seen.first(4)[2:]] == [
        ("disconnected", "a", {"user": 7}),
        ("disconnected", "b", {"user": 7}),
    ]


def test_nobody_who_watches_is_listed(app, mercure, serve, open_stream):
    seen = Seen(app)
    stream = open_stream(serve(app) + "/.well-known/mercure?topic=a")
    seen.first(1)
    assert [each["topic"] for each in mercure.get_subscriptions()["subscriptions"]] == ["a"]
    stream.close()


def test_a_receiver_that_fails_disturbs_nobody(app, mercure, serve, open_stream, caplog):
    failed = threading.Event()

    def fail(app, **said):
        failed.set()
        raise ZeroDivisionError

    subscriber_connected.connect(fail, app)
    url = serve(app) + "/.well-known/mercure?topic=a"
    open_stream(url).close()
    assert failed.wait(PATIENCE)
    subscriber_connected.disconnect(fail, app)
    seen = Seen(app)
    open_stream(url).close()
    assert ("connected", "a") in [each[:2] for each in seen.first(2)]
    assert "a receiver of mercure-subscriber-connected failed" in caplog.text


def test_without_receivers_nothing_is_started(app, mercure, serve, open_stream):
    open_stream(serve(app) + "/.well-known/mercure?topic=a").close()
    assert not mercure.state.embedded.watch._has_begun


def test_other_applications_hear_nothing(app, mercure, serve, open_stream):
    other = Flask("other")
    hub = MercureSSE(other, hub=True)
    elsewhere, here = Seen(other), Seen(app)
    open_stream(serve(app) + "/.well-known/mercure?topic=a").close()
    here.first(2)
    with hub.subscribe("elsewhere"):
        assert elsewhere.first(1)[0][:2] == ("connected", "elsewhere")


def test_who_subscribes_in_python_is_told_of_too(app, mercure):
    seen = Seen(app)
    with mercure.subscribe("a"):
        assert seen.first(1)[0][:2] == ("connected", "a")
    assert seen.first(2)[1][:2] == ("disconnected", "a")


def test_a_watch_that_could_not_begin_is_begun_later(app, mercure, monkeypatch):
    seen = Seen(app)

    class Full:
        def watch_subscriptions(self):
            raise OSError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(type(mercure.state.embedded), "hub", lambda _: Full())
        with pytest.raises(OSError, match="no room"):
            mercure.state.embedded.watch.ensure(mercure.state.embedded)
    with mercure.subscribe("a"):
        seen.first(1)


def thread_of(app):
    """The thread that sends an application's signals."""
    watching = (each for each in threading.enumerate() if each.name == "mercure-presence")
    return next(each for each in watching if each._args[0]().app is app)


def test_an_application_that_nobody_uses_any_more_ends_with_its_hub_and_thread():
    app = Flask("short-lived")
    app.testing = True
    seen = Seen(app)
    with MercureSSE(app).subscribe("a"):
        seen.first(1)
    thread = thread_of(app)
    seen.first(2)
    gone = weakref.ref(app)
    del app, seen
    gc.collect()
    thread.join(PATIENCE)
    gc.collect()
    assert not thread.is_alive()
    assert gone() is None


class Breaking:
    """The hub of an application, whose first streams of subscription events end as a broken log ends them."""

    def __init__(self, hub, *answers):
        self.hub, self.answers = hub, list(answers)

    def watch_subscriptions(self):
        if not self.answers:
            return self.hub.watch_subscriptions()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        here, there = socket.socketpair()
        with there:
            there.sendall(answer)
        return here.detach()

    def __getattr__(self, name):
        return getattr(self.hub, name)


@pytest.fixture
def pauses(monkeypatch):
    pauses = []
    monkeypatch.setattr(presence, "_sleep", pauses.append)
    return pauses


def test_a_watch_that_ends_is_begun_again_later_and_later(app, mercure, monkeypatch, pauses, caplog):
    seen = Seen(app)
    answers = (b":\n", b":\n", b"", OSError("no room"), RuntimeError("the log cannot be used"), b":\n", b":\n", b":\n")
    hub = Breaking(mercure.hub, *answers)
    monkeypatch.setattr(type(mercure.state.embedded), "running", lambda _: hub)
    with mercure.subscribe("a"):
        wait_for_thread(app, hub)
        with mercure.subscribe("b"):
            wait_until(lambda: ("connected", "b") in [each[:2] for each in seen.all])
    assert len(pauses) == len(answers)
    for number, pause in enumerate(pauses):
        least = min(presence.PAUSE_MIN * 2**number, presence.PAUSE_MAX)
        assert least <= pause <= 1.5 * least
    assert len([each for each in caplog.records if "signals are sent again" in each.message]) == 1


def wait_for_thread(app, hub):
    """Waits until the last broken stream is replaced by a stream that lasts."""
    while hub.answers:
        os.sched_yield()
    marker = threading.Event()

    def mark(app, topic, **_):
        marker.set()

    subscriber_connected.connect(mark, app)
    extension = app.extensions["mercure_sse"].instance
    while not marker.wait(0.01):
        extension.subscribe("marker").close()
    subscriber_connected.disconnect(mark, app)


def test_a_watch_without_a_thread_is_begun_when_there_is_room(app, mercure, monkeypatch):
    seen = Seen(app)

    def refuse(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        with pytest.raises(HubUnreachableError, match="raise the limit of threads"):
            mercure.state.embedded.connect()
    with mercure.subscribe("b"):
        assert seen.first(1)[0][:2] == ("connected", "b")


def test_a_hub_that_was_stopped_ends_the_thread(app, mercure, pauses):
    seen = Seen(app)
    with mercure.subscribe("a"):
        seen.first(1)
        thread = thread_of(app)
        mercure.hub.stop()
        thread.join(PATIENCE)
    assert not thread.is_alive()
    assert not mercure.state.embedded.watch._has_begun


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, GreenletExit])
def test_whatever_a_receiver_raises_the_next_subscription_is_told_of(error, app, mercure, caplog):
    raised = []

    def fail(app, **_):
        if not raised:
            raised.append(error)
            raise error

    subscriber_connected.connect(fail, app)
    seen = Seen(app)
    with mercure.subscribe("a"):
        wait_until(lambda: "a receiver of mercure-subscriber-connected failed" in caplog.text)
    if error is GreenletExit:
        wait_until(lambda: not mercure.state.embedded.watch._has_begun)
    with mercure.subscribe("b"):
        wait_until(lambda: ("connected", "b") in [each[:2] for each in seen.all])


GREENLETS = """
from gevent import monkey
monkey.patch_all()
import socket
import sys
from gevent import spawn
from flask import Flask
from flask_mercure_sse import MercureSSE, subscriber_connected

app = Flask("greenlets")
mercure = MercureSSE(app, hub=True, hub_transport=sys.argv[1])
subscriber_connected.connect(lambda app, **_: None, app, weak=False)
mercure.publish("a", "the hub has begun")
other = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
other.recv(1)
ended = []


def watch():
    mercure.state.embedded.watch.ensure(mercure.state.embedded)
    ended.append(True)


watching = spawn(watch)
# Each answer says whether the wait is over.
while other.recv(1):
    other.sendall(b"%d" % len(ended))
watching.join()
print(mercure.state.embedded.watch._has_begun)
"""


def test_other_greenlets_go_on_while_the_store_does_not_say_where_the_log_ends(tmp_path, stack):
    engine = ENGINES["redis"](tmp_path)
    stack.callback(engine.close)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        command = [sys.executable, "-c", GREENLETS, engine.url, str(listener.getsockname()[1])]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        stack.callback(process.communicate)
        stack.callback(process.kill)
        other, _ = listener.accept()
    with other:
        other.settimeout(PATIENCE)
        engine.pause()
        for number in range(5):
            other.sendall(b"?")
            # The first one begins the wait.
            if number > 0:
                assert other.recv(1) == b"0", "the greenlet that watches still waits"
    assert process.stdout.readline() == "True\n"
