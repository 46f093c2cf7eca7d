"""The signals that tell who subscribes to the embedded hub."""

import gc
import threading
import weakref

import pytest
from flask import Flask, current_app

from clients import PATIENCE
from flask_mercure_sse import MercureSSE, subscriber_connected, subscriber_disconnected


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
    assert not mercure.state.watch._has_begun


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
        patch.setattr(type(mercure.state), "embedded_hub", lambda _: Full())
        with pytest.raises(OSError, match="no room"):
            mercure.state.watch.ensure(mercure.state)
    with mercure.subscribe("a"):
        seen.first(1)


def test_an_application_that_nobody_uses_any_more_ends_with_its_hub_and_thread():
    app = Flask("short-lived")
    app.testing = True
    seen = Seen(app)
    with MercureSSE(app).subscribe("a"):
        seen.first(1)
    thread = next(each for each in threading.enumerate() if each.name == "mercure-presence" and each._args[0]() is app)
    seen.first(2)
    gone = weakref.ref(app)
    del app, seen
    gc.collect()
    thread.join(PATIENCE)
    gc.collect()
    assert not thread.is_alive()
    assert gone() is None
