"""The test kit, as its users use it."""

import subprocess
import sys

import pytest
from flask import Flask

from clients import PATIENCE
from flask_mercure_sse import HubUnreachableError, MercureSSE, TokenRefusedError, URLPattern, testing
from flask_mercure_sse.testing import HubForTests
from ports import Port


def test_an_application_publishes_to_the_hub_of_the_test(mercure_hub, mercure_subscriber):
    app = Flask("tested")
    app.config.update(mercure_hub.config)
    mercure = MercureSSE(app)
    public, private = mercure_subscriber("a"), mercure_subscriber("a")
    mercure.publish("a", {"x": 1})
    mercure.publish("a", "2", private=True)
    for subscriber in (public, private):
        assert [event.data for event in subscriber.received(2, within=10)] == ['{"x": 1}', "2"]
    assert mercure.is_connected("a")


def test_it_speaks_1_0_too(mercure_hub, mercure_subscriber):
    app = Flask("tested")
    app.config.update(mercure_hub.config, MERCURE_PROTOCOL="1.0")
    mercure = MercureSSE(app)
    subscriber = mercure_subscriber(URLPattern("/books/:id"), mercure=mercure)
    mercure.publish("/books/1", "b", private=True)
    assert subscriber.received(1)[0].data == "b"
    listed = mercure.get_subscriptions(URLPattern("/books/:id"))["subscriptions"]
    assert [each["match"] for each in listed] == ["/books/:id"]


def test_everything_is_everything_that_is_published(mercure_hub, mercure_subscriber):
    subscriber = mercure_subscriber("*")
    mercure_hub.publish("a", "b")
    assert [event.data for event in subscriber.received(1)] == ["b"]


def test_subscription_events_come_where_they_are_asked_for(mercure_hub, mercure_subscriber):
    watcher = mercure_subscriber("/.well-known/mercure/subscriptions/{topic}/{subscriber}")
    mercure_subscriber("a")
    assert [event.json()["topic"] for event in watcher.received(2)][-1] == "a"


def test_too_few_events_are_said_with_those_that_came(mercure_hub, mercure_subscriber):
    subscriber = mercure_subscriber("a")
    mercure_hub.publish("a", "the only one")
    subscriber.received(1)
    with pytest.raises(AssertionError, match=r"1 of 2 events within 0 s: .*the only one"):
        subscriber.received(2, within=0)


def test_a_refused_subscriber_says_why(mercure_subscriber):
    with pytest.raises(TokenRefusedError):
        mercure_subscriber("a", jwt="j.w.t")


def test_a_subscriber_of_an_application_is_open_when_it_is_returned(mercure):
    with testing.subscriber(mercure, "/books/{id}", last_event_id="earliest") as reader:
        mercure.publish("/books/1", "1", private=True)
        assert [event.data for event in reader.received(1)] == ["1"]
    with testing.subscriber(mercure, "/books/1", jwt=mercure.create_subscription_jwt("/books/2")) as reader:
        mercure.publish("/books/1", "private", private=True)
        mercure.publish("/books/1", "public")
        assert [event.data for event in reader.received(1)] == ["public"]


def test_a_subscriber_does_not_wait_for_a_hub_that_is_not_there():
    with Port() as port:
        mercure = MercureSSE(Flask("tested"), hub_url=f"http://{port}/.well-known/mercure")
        with pytest.raises(HubUnreachableError):
            testing.subscriber(mercure, "a")


def test_a_hub_ends_with_its_streams():
    with HubForTests() as hub:
        subscriber = hub.subscriber("a")
    subscriber.close()
    hub.stop()


def test_the_fixtures_are_there_by_themselves(tmp_path):
    (tmp_path / "test_it.py").write_text(
        "def test_it(mercure_hub, mercure_subscriber):\n"
        "    subscriber = mercure_subscriber('a')\n"
        "    mercure_hub.publish('a', 'b')\n"
        "    assert subscriber.received(1)[0].data == 'b'\n"
    )
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=2 * PATIENCE, check=False)
    assert ran.returncode == 0, ran.stdout
