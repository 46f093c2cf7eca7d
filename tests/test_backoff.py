"""Pauses grow against a hub that takes connections and ends them, until it shows that it works."""

import pytest
from flask import Flask

from clients import PATIENCE
from flask_mercure_sse import Event, MercureSSE, background
from flask_mercure_sse.backoff import Backoff
from flask_mercure_sse.subscription import PAUSE_MAX, PAUSE_MIN, Subscription

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def assert_doubling(pauses, first, most):
    """Each pause is twice the one before, at most ``most``, and up to half longer."""
    for number, pause in enumerate(pauses):
        least = min(first * 2 ** min(number, 20), most)
        assert least <= pause <= 1.5 * least, (number, pauses)


def test_pauses_double_up_to_a_cap_and_differ():
    backoff = Backoff()
    pauses = [backoff.next(0.5, 30) for _ in range(2000)]
    assert_doubling(pauses, 0.5, 30)
    assert len(set(pauses)) > 1990, "clients of one hub do not come back together"
    backoff.succeed()
    assert_doubling([backoff.next(0.5, 30)], 0.5, 30)


@pytest.mark.parametrize(
    "answer",
    [b"", HEAD, HEAD + b":\n", HEAD + b":\n\nretry: 500\n\n"],
    ids=["no answer", "no byte of a stream", "a comment", "a comment and a pause"],
)
def test_a_subscription_comes_back_later_and_later_to_a_hub_that_ends_every_stream(answer, fake_hub):
    event = HEAD + b":\nid: 1\ndata: x\n\n"
    hub = fake_hub(*[answer] * 9, event, *[answer] * 4, event)
    with MercureSSE(Flask("ended"), hub_url=hub).subscribe("a") as subscription:
        pauses = []
        subscription._sleep = pauses.append
        assert next(subscription).data == "x"
        assert_doubling(pauses, PAUSE_MIN, PAUSE_MAX)
        # A hub that is unavailable at first is asked again at once, when the loop begins.
        assert len(pauses) == 9 - (answer == b"")
        pauses.clear()
        assert next(subscription).data == "x"
        assert_doubling(pauses, PAUSE_MIN, PAUSE_MAX)
        assert len(pauses) == 5


class Streams:
    """Streams that last some seconds each, on a clock of their own."""

    position = None

    def __init__(self, *lasting):
        self.now, self.lasting = 0.0, list(lasting)

    def connect(self, cursor):
        return self

    def read(self):
        if not self.lasting:
            return b"data: x\n\n"
        self.now += self.lasting.pop(0)
        return b""

    def close(self):
        pass


def test_a_quiet_stream_that_has_lasted_is_followed_by_a_short_pause():
    streams, pauses = Streams(0, 0, 0, PAUSE_MAX, 0), []
    subscription = Subscription(
        streams.connect, None, Flask("quiet").logger, clock=lambda: streams.now, wait=pauses.append
    )
    assert next(subscription) == Event("", "message", "x")
    assert_doubling(pauses[:3], PAUSE_MIN, PAUSE_MAX)
    assert_doubling(pauses[3:], PAUSE_MIN, PAUSE_MAX)


def answer(status):
    return f"HTTP/1.1 {status} X\r\nContent-Length: 1\r\nConnection: close\r\n\r\n1".encode()


def test_the_background_queue_tries_later_and_later_whichever_update_is_first(fake_hub, monkeypatch):
    pauses, most = [], background.ATTEMPTS_MAX
    monkeypatch.setattr(background._Queue, "_wait", lambda _, seconds: pauses.append(seconds))
    hub = fake_hub(*[b""] * (2 * most + 3), answer(200), b"", answer(401), b"", answer(200))
    app = Flask("background")
    app.config["SECRET_KEY"] = "k" * 32
    mercure = MercureSSE(app, hub_url=hub, publish_background=True)
    for name in ("dropped", "dropped", "published", "refused", "published"):
        mercure.publish(name, "")
    assert mercure.flush(PATIENCE)
    stats = mercure.background
    assert (stats.published, stats.refused, stats.dropped) == (2, 1, 2)
    # The last attempt of an update that is dropped is followed by the first of the next.
    assert_doubling(pauses[: most - 1], background.PAUSE_MIN, background.PAUSE_MAX)
    assert all(pause >= background.PAUSE_MAX for pause in pauses[most - 1 : -2])
    assert len(pauses) == 2 * (most - 1) + 3 + 2
    assert_doubling([pauses[-2]], background.PAUSE_MIN, background.PAUSE_MAX)
    assert_doubling([pauses[-1]], background.PAUSE_MIN, background.PAUSE_MAX)
