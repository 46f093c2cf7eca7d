"""Who is subscribed: the API, its events, payloads, and the two calls of the extension, on both kinds of hub."""

import json

import pytest
from flask import Flask

from flask_mercure_sse import HubError, MercureSSE


@pytest.fixture(params=["embedded", "standalone"])
def anywhere(request, app, serve, standalone):
    """The extension and its hub's URL: embedded, and against the standalone server."""
    if request.param == "embedded":
        mercure = MercureSSE(app)
        return mercure, serve(app) + "/.well-known/mercure"
    secrets = ["--publisher-secret", "p" * 32, "--subscriber-secret", "s" * 32]
    hub = standalone(*secrets).hub
    app.debug = False
    return (
        MercureSSE(app, hub_url=hub, publisher_secret_key="p" * 32, subscriber_secret_key="s" * 32),
        hub,
    )


def test_nobody_is_a_document_without_subscriptions(anywhere):
    mercure, _ = anywhere
    for topic in (None, "topic", "https://example.com/{id}"):
        assert mercure.get_subscriptions(topic)["subscriptions"] == []
    assert not mercure.is_connected("topic")
    assert mercure.get_subscriptions("topic", "urn:uuid:nobody")["subscriptions"] == []


def test_subscribers_are_listed_by_topic_with_their_payload(anywhere, open_stream, subscribe_url):
    mercure, hub = anywhere
    jwt = mercure.create_subscription_jwt("private", payload={"user_id": 7, "name": "Ada"})
    open_stream(subscribe_url(hub, "https://example.com/books/{id}", "other", authorization=jwt))
    open_stream(subscribe_url(hub, "other"))
    assert len(mercure.get_subscriptions()["subscriptions"]) == 3
    listed = mercure.get_subscriptions("https://example.com/books/{id}")["subscriptions"]
    assert [(each["topic"], each["payload"], each["active"]) for each in listed] == [
        ("https://example.com/books/{id}", {"user_id": 7, "name": "Ada"}, True)
    ]
    one = mercure.get_subscriptions("https://example.com/books/{id}", listed[0]["subscriber"])
    assert (one["type"], one["subscriber"]) == ("Subscription", listed[0]["subscriber"])
    assert mercure.is_connected("other")
    assert mercure.is_connected("other", user_id=7, name="Ada")
    assert not mercure.is_connected("other", user_id=8)
    assert not mercure.is_connected("other", unknown=None)
    with pytest.raises(ValueError, match="give the topic"):
        mercure.get_subscriptions(None, "urn:uuid:x")


def test_events_tell_who_comes_and_goes(anywhere, open_stream, subscribe_url):
    mercure, hub = anywhere
    topic = mercure.app.jinja_env.globals["mercure_subscription_topic"]("room/1")
    assert topic == "/.well-known/mercure/subscriptions/room%2F1"
    watcher = open_stream(subscribe_url(hub, topic, authorization=mercure.create_subscription_jwt([topic])))
    visitor = open_stream(subscribe_url(hub, "room/1"))
    came = watcher.event()
    assert (came["event"], json.loads(came["data"])["active"]) == ("Subscription", True)
    visitor.close()
    left = json.loads(watcher.event()["data"])
    assert (left["active"], left["topic"], left["@context"]) == (False, "room/1", "https://mercure.rocks/")


def test_the_payload_getter_may_be_registered_before_the_application(token):
    mercure = MercureSSE()

    @mercure.payload_getter
    def payload(topics):
        return {"topics": topics, "role": "reader"}

    app = Flask("factory")
    app.config["SECRET_KEY"] = "k" * 32
    mercure.init_app(app)
    claims = token.claims(mercure.create_subscription_jwt(("a", "b"), payload={"role": "writer"}), "k" * 32)
    expected = {"subscribe": ["a", "b"], "payload": {"topics": ["a", "b"], "role": "writer"}}
    assert claims["mercure"] == expected


def test_a_payload_getter_without_an_answer_adds_nothing(app, mercure, token):
    mercure.payload_getter(lambda topics: None)
    assert token.claims(mercure.create_subscription_jwt("a"))["mercure"] == {"subscribe": ["a"]}
    with_argument = token.claims(mercure.create_subscription_jwt("a", payload={"x": 1}))["mercure"]
    assert with_argument["payload"] == {"x": 1}


def test_a_hub_that_tracks_nobody_is_not_taken_for_an_empty_one(app):
    mercure = MercureSSE(app, hub_subscriptions=False)
    with pytest.raises(HubError, match="switched off"):
        mercure.is_connected("topic")


def test_the_embedded_hub_needs_no_key_for_its_own_application():
    mercure = MercureSSE(Flask("keyless"), hub=True)
    assert not mercure.is_connected("a")
    with mercure.subscribe("a"):
        assert mercure.is_connected("a")
    with pytest.raises(ValueError, match="MERCURE_SUBSCRIBER_SECRET_KEY is not set"):
        mercure.create_subscription_jwt("a")


def test_the_payload_getter_receives_what_was_passed():
    app = Flask("getter")
    app.config["SECRET_KEY"] = "k" * 32
    mercure, given = MercureSSE(app), []

    class Book:
        __mercure_sse_topic__ = "/books/1"

    book = Book()

    @mercure.payload_getter
    def payload(topics):
        given.append(topics)
        return {"user": 7}

    for topics in (book, (book, "b"), ["c"]):
        mercure.create_subscription_jwt(topics)
    assert given == [(book,), (book, "b"), ["c"]]


def test_a_payload_that_is_no_dict_is_named():
    app = Flask("getter")
    app.config["SECRET_KEY"] = "k" * 32
    mercure = MercureSSE(app)
    mercure.payload_getter(lambda topics: ["user", 7])
    with pytest.raises(TypeError, match="the payload getter: return a dict or None, not a list"):
        mercure.create_subscription_jwt("a")


def test_who_has_opened_a_topic_is_connected_with_or_without_a_grant(mercure, hub_url, open_stream, subscribe_url):
    assert open_stream(subscribe_url(hub_url, "/users/{id}")).status == 200
    assert not mercure.is_connected("/users/7"), "a template that selects the topic is another subscription"
    assert open_stream(subscribe_url(hub_url, "/users/7")).status == 200
    assert mercure.is_connected("/users/7"), "without a token"
    assert not mercure.is_connected("/users/7", user_id=7)
    jwt = mercure.create_subscription_jwt("/users/7", payload={"user_id": 7})
    assert open_stream(subscribe_url(hub_url, "/users/7", authorization=jwt)).status == 200
    assert mercure.is_connected("/users/7", user_id=7)
