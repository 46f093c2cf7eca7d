"""mercure.subscribe(): events in Python, over breaks of any kind."""

import socket
import subprocess
import sys
import threading

import pytest
from flask import Flask

from clients import PATIENCE
from flask_mercure_sse import Event, HubError, MercureSSE, TokenRefusedError
from flask_mercure_sse.http import pool
from flask_mercure_sse.sse import Parser
from greenlets import PATCHED


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr("flask_mercure_sse.subscription.PAUSE_MIN", 0.01)
    monkeypatch.setattr("flask_mercure_sse.subscription.PAUSE_MAX", 0.02)
    monkeypatch.setattr("flask_mercure_sse.sse.RETRY_SECONDS_MAX", 0.02)


STREAM = (
    b"\xef\xbb\xbf:comment\n\nid: 1\nevent: t\ndata: a\ndata:b\n\ndata\r\n\r\nid:2\rdata:  x\r\r"
    b"id: 3\nretry: 40\n\nid: a\0b\ndata: \xe2\x80\xa8\n\nretry: -1\ndata: \xff\n\nevent: unfinished\ndata: y\n"
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_the_format_is_read_however_it_is_cut(size):
    parser = Parser()
    parts = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    assert [event for part in parts for event in parser.feed(part)] == [
        Event("1", "t", "a\nb"),
        Event("1", "message", ""),
        Event("2", "message", " x"),
        Event("3", "message", "\u2028"),
        Event("3", "message", "\ufffd"),
    ]
    assert parser.retry == 0.02, "40 ms, and no more than the longest pause"


def test_an_endless_event_is_refused():
    parser = Parser()
    parts = (b"data: " + b"x" * 1024 * 1024 for _ in range(18))
    with pytest.raises(HubError, match="an event of more than"):
        [list(parser.feed(part)) for part in parts]


def test_comments_do_not_add_up():
    parser = Parser()
    for _ in range(40):
        assert list(parser.feed(b":" + b"x" * 1024 * 1024 + b"\n")) == []


def test_events_of_the_embedded_hub_come_also_private_ones(mercure):
    with mercure.subscribe(["/books/{id}", "b"]) as subscription:
        first = mercure.publish("/books/1", "é\n\u2028", type="changed", private=True)
        second = mercure.publish(["c", "b"], "")
        assert next(subscription) == Event(first, "changed", "é\n\u2028")
        assert subscription.last_event_id == first
        assert next(subscription) == Event(second, "message", "")


def test_a_later_subscription_goes_on_from_the_cursor(mercure):
    ids = [mercure.publish("a", str(number)) for number in range(4)]
    with mercure.subscribe("a", last_event_id=ids[1]) as subscription:
        assert [next(subscription).id for _ in range(2)] == ids[2:]
    with mercure.subscribe("a", last_event_id="earliest") as subscription:
        assert [next(subscription).data for _ in range(4)] == ["0", "1", "2", "3"]


def test_a_broken_stream_is_taken_up_without_loss_or_repetition(stack, mercure_hub):
    """Through a proxy that cuts every connection after some events."""
    target = mercure_hub.url.split("/")[2].split(":")
    listener = socket.create_server(("127.0.0.1", 0))
    stack.callback(listener.close)

    def proxy():
        budget = 400
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client, socket.create_connection((target[0], int(target[1]))) as hub:
                hub.sendall(client.recv(65536))
                left = budget
                while left > 0 and (part := hub.recv(left)):
                    client.sendall(part)
                    left -= len(part)
                budget += 97

    threading.Thread(target=proxy, daemon=True).start()
    app = Flask("proxied")
    app.config.update(
        mercure_hub.config, MERCURE_HUB_URL=f"http://127.0.0.1:{listener.getsockname()[1]}/.well-known/mercure"
    )
    first = mercure_hub.publish("a", "0")
    with MercureSSE(app).subscribe("a", last_event_id="earliest") as subscription:
        for number in range(1, 60):
            mercure_hub.publish("a", str(number))
        assert [next(subscription).data for _ in range(60)] == [str(number) for number in range(60)]
        assert first != subscription.last_event_id


def test_a_hub_that_is_away_is_waited_for(mercure_hub, monkeypatch):
    app = Flask("early")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app.config.update(
            mercure_hub.config, MERCURE_HUB_URL=f"http://127.0.0.1:{listener.getsockname()[1]}/.well-known/mercure"
        )
    subscription = MercureSSE(app).subscribe("a", last_event_id="earliest")
    mercure_hub.publish("a", "b")
    connect, hub = pool.connect, mercure_hub.url.split("/")[2]
    monkeypatch.setattr(pool, "connect", lambda scheme, _, timeout: connect(scheme, hub, timeout))
    with subscription:
        assert next(subscription).data == "b"


def test_a_refused_token_ends_it_with_the_hubs_words(mercure_hub):
    app = Flask("refused")
    app.config.update(mercure_hub.config, MERCURE_SUBSCRIBER_SECRET_KEY="another key of thirty-two bytes or more")
    with pytest.raises(TokenRefusedError):
        MercureSSE(app).subscribe("a")


def test_an_answer_that_is_no_stream_is_an_error(fake_hub):
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello"
    with pytest.raises(HubError, match="no event stream"):
        MercureSSE(Flask("page"), hub_url=fake_hub(page)).subscribe("a")


def test_closing_from_another_thread_ends_the_loop(mercure):
    subscription = mercure.subscribe("a")
    seen = []
    thread = threading.Thread(target=lambda: seen.extend(subscription))
    thread.start()
    subscription.close()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert seen == []
    assert list(subscription) == []


def test_ids_of_any_language_are_a_cursor(mercure):
    mercure.publish("a", "0", id="ключ-é")
    mercure.publish("a", "1")
    with mercure.subscribe("a", last_event_id="ключ-é") as subscription:
        assert next(subscription).data == "1"


@pytest.mark.parametrize("cursor", ["a\nb", "a\rb", "a\0b", "\x7f", "\ud800"])
def test_a_cursor_that_no_id_can_be_is_refused(cursor, mercure):
    with pytest.raises(ValueError, match="last_event_id: write the id of an event"):
        mercure.subscribe("a", last_event_id=cursor)


@pytest.mark.parametrize("name", [b"Last-Event-ID", b"Mercure-Last-Event-ID"])
def test_a_stream_that_breaks_before_its_first_event_is_taken_up_where_the_hub_says_it_began(name, fake_hub):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n" + name + b": urn:x:1\r\n\r\n"
    received = []
    hub = fake_hub(head + b":\n", head + b"id: urn:x:2\ndata: b\n\n", received=received)
    with MercureSSE(Flask("positions"), hub_url=hub).subscribe("a") as subscription:
        assert next(subscription).id == "urn:x:2"
    assert b"Last-Event-ID" not in received[0]
    assert b"Last-Event-ID: urn:x:1\r\n" in received[1]


CLOSING = (
    PATCHED
    + """
import threading
from flask import Flask
from flask_mercure_sse import MercureSSE

subscription = MercureSSE(Flask("closing"), hub_url=sys.argv[2]).subscribe("a", last_event_id="earliest")
heard, first = [], threading.Event()


def read():
    for event in subscription:
        heard.append(event.data)
        first.set()
    heard.append("the end")


reading = threading.Thread(target=read)
reading.start()
first.wait()
# Others run only while the reader waits: it waits for what never comes.
subscription.close()
reading.join()
print(*heard)
"""
)


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_closing_from_another_greenlet_ends_the_loop(library, mercure_hub):
    mercure_hub.publish("a", "event")
    ran = subprocess.run(
        [sys.executable, "-c", CLOSING, library, mercure_hub.url],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ran.stdout == "event the end\n", ran.stderr
