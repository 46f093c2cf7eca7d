"""One application against every hub: petasos on its own, and the reference hub of either dialect."""

from __future__ import annotations

import pytest
from flask import Flask

import hubs
from flask_mercure_sse import ForbiddenTopicError, MercureSSE, TokenRefusedError, URLPattern
from flask_mercure_sse.testing import subscriber
from flask_mercure_sse.urls import selected_topics


@pytest.fixture(params=["petasos 0.x", "petasos 1.0", "reference 0.x", "reference 1.0"])
def hub(request, stack, tmp_path):
    """The dialect of a hub, and its URL."""
    name, dialect = request.param.split()
    if name == "petasos":
        command = [*hubs.petasos(), *(["--compat"] if dialect == "0.x" else [])]
    else:
        command = [*hubs.reference(dialect), str(tmp_path / "updates")]
    process = hubs.HubProcess(command)
    stack.callback(process.close)
    return dialect, process.url


@pytest.fixture
def make(hub):
    def make(**changed):
        settings = {
            "protocol": hub[0],
            "hub_url": hub[1],
            "publisher_secret_key": hubs.PUBLISHER,
            "subscriber_secret_key": hubs.SUBSCRIBER,
            "jwt_audience": hubs.RESOURCE,
            "jwt_issuer": hubs.ISSUER,
            **changed,
        }
        return MercureSSE(Flask("elsewhere"), **settings)

    return make


def test_public_and_private_updates_reach_whom_they_should(make, stack, send):
    mercure = make()
    allowed = stack.enter_context(subscriber(mercure, ["https://example.com/a", "b"]))
    other = mercure.create_subscription_jwt("https://example.com/other")
    stranger = stack.enter_context(subscriber(mercure, "https://example.com/a", jwt=other))
    ids = mercure.publish_many(
        [
            {"topic": "https://example.com/a", "data": {"é": "\u2028"}, "private": True, "type": "changed"},
            {"topic": ["https://example.com/a", "c"], "data": "two\nlines", "id": "urn:example:1"},
            ("b", "", True),
        ]
    )
    events = allowed.received(3, within=20)
    assert [event.id for event in events] == ids
    assert [event.data for event in events[1:]] == ["two\nlines", ""]
    assert (events[0].type, events[0].json()) == ("changed", {"é": "\u2028"})
    assert [event.id for event in stranger.received(1, within=20)] == ["urn:example:1"]


def test_a_subscription_goes_on_where_it_was(make):
    mercure = make()
    ids = [mercure.publish("https://example.com/a", str(number)) for number in range(5)]
    with subscriber(mercure, "https://example.com/a", last_event_id=ids[1]) as late:
        assert [event.id for event in late.received(3, within=20)] == ids[2:]


def test_a_page_goes_on_after_the_newest_id_of_its_moment(make, open_stream):
    mercure = make()
    topic = "https://example.com/a"
    mercure.publish(topic, "before")
    with mercure.state.app.test_request_context():
        assert mercure.last_event_id()
        ids = [mercure.publish(topic, str(number)) for number in range(3)]
        url = mercure.hub_url(topic, last_event_id="now")
    token = {"Authorization": f"Bearer {mercure.create_subscription_jwt(topic)}"}
    stream = open_stream(url, token)
    assert [stream.event()["data"] for _ in range(3)] == ["0", "1", "2"]
    # A browser that comes back with the same URL has a newer cursor in its header: nothing is doubled.
    again = open_stream(url, {**token, "Last-Event-ID": ids[1]})
    assert again.event()["data"] == "2"


def test_the_subscriptions_api_tells_who_is_there(make, stack, wait_until):
    mercure = make()
    topic = "https://example.com/books/1?a=b c"
    assert not mercure.is_connected(topic)
    assert mercure.get_subscriptions()["subscriptions"] == []
    jwt = mercure.create_subscription_jwt(topic, payload={"user_id": 7})
    someone = stack.enter_context(subscriber(mercure, topic, jwt=jwt))
    wait_until(lambda: mercure.is_connected(topic))
    assert mercure.is_connected(topic, user_id=7)
    assert not mercure.is_connected(topic, user_id=8)
    assert not mercure.is_connected("https://example.com/books/2")
    (listed,) = mercure.get_subscriptions(topic)["subscriptions"]
    assert listed == mercure.get_subscriptions()["subscriptions"][0]
    one = mercure.get_subscriptions(topic, listed["subscriber"])
    assert (one["subscriber"], one["payload"]) == (listed["subscriber"], {"user_id": 7})
    someone.close()
    wait_until(lambda: not mercure.is_connected(topic))


def test_subscription_events_are_received(make, stack):
    mercure = make()
    *_, events = selected_topics(mercure.state, "https://example.com/a", with_subscriptions=True)
    watcher = stack.enter_context(subscriber(mercure, events))
    stack.enter_context(subscriber(mercure, "https://example.com/a"))
    (event,) = watcher.received(1, within=20)
    assert event.json()["active"] is True


def test_patterns_select_in_each_dialect(make, stack):
    mercure = make()
    pattern = "https://example.com/books/{id}" if mercure.state.protocol == "0.x" else None
    selected = pattern or URLPattern("https://example.com/books/:id")
    reader = stack.enter_context(subscriber(mercure, selected))
    mercure.publish("https://example.com/books/1/pages", "no", private=True)
    mercure.publish("https://example.com/books/1", "yes", private=True)
    assert [event.data for event in reader.received(1, within=20)] == ["yes"]


def test_refusals_have_their_names(make):
    with pytest.raises(TokenRefusedError):
        make(publisher_secret_key="another key of at least 32 bytes").publish("https://example.com/a", "b")
    mercure = make()
    jwt = mercure.create_jwt("publisher_secret_key", publish=["https://example.com/other"])
    refused = ForbiddenTopicError
    with pytest.raises((refused, TokenRefusedError) if mercure.state.protocol == "0.x" else refused):
        mercure.publish("https://example.com/a", "b", jwt=jwt)


def test_the_doctor_finds_nothing_at_a_hub_that_fits(make):
    report = make().app.test_cli_runner().invoke(args=["mercure", "doctor"])
    assert report.exit_code == 0, report.output
    assert "problem: 0" in report.output
    assert "round trip: a private update was published and has arrived" in report.output
