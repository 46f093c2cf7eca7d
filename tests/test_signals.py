"""Signals as event sources."""

import pytest
from blinker import Namespace, Signal, signal

from flask_mercure_sse import MercureSSE, publish_signal


@pytest.fixture
def published(mercure, monkeypatch):
    """What the extension publishes, instead of publishing it."""
    publications = []
    monkeypatch.setattr(MercureSSE, "publish", lambda self, **kwargs: publications.append(kwargs))
    return publications


@pytest.fixture
def event():
    return signal(f"my-event-{Signal()!r}")


@pytest.mark.parametrize("topic", [None, ""])
def test_the_topic_is_the_signals_name(topic, mercure, hub_url, open_stream, subscribe_url):
    my_event = Namespace().signal("my-event")
    mercure.publish_signal(my_event, topic)
    stream = open_stream(subscribe_url(hub_url, "my-event"))
    my_event.send()
    assert stream.event()["data"] == ""


def test_arguments_shape_the_publication(mercure, published, event):
    mercure.publish_signal(
        event,
        "topic",
        {"a": 1},
        signal_name_as_type=True,
        signal_kwargs_as_data=True,
        marshaler=lambda data: sorted(data.items()),
        private=True,
    )
    event.send(None, b=2)
    assert published == [{"topic": "topic", "data": [("a", 1), ("b", 2)], "type": event.name, "private": True}]


def test_a_callback_changes_or_cancels(mercure, published, event):
    def callback(publication):
        if publication["data"] == "cancel":
            return False
        return publication.update(topic="changed")

    mercure.publish_signal(event, signal_kwargs_as_data=False, data="go", callback=callback)
    event.send()
    mercure.publish_signal(other := signal("other"), data="cancel", callback=callback)
    other.send()
    assert [each["topic"] for each in published] == ["changed"]


def test_what_one_sender_asks_for_ends_with_it(mercure, published, event):
    class Sender:
        def __init__(self):
            self.__mercure_publish__ = {"id": "7", "private": True}

    mercure.publish_signal(event)
    event.send(Sender())
    event.send(object())
    assert published[0] == {"topic": event.name, "data": None, "id": "7", "private": True}
    assert published[1] == {"topic": event.name, "data": None}


def test_the_function_needs_an_application_or_the_extension(app, mercure, published, event):
    with pytest.raises(RuntimeError):
        publish_signal(event)
    with app.app_context():
        publish_signal(event)
    event.send()
    assert len(published) == 1
