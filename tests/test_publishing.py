"""Batches, asynchronous views, and what a test captures."""

import asyncio
import socket
import threading

import pytest
from flask import Flask

from flask_mercure_sse import HubError, InvalidUpdateError, MercureError, MercureSSE, Update, mercure_publish


def test_a_batch_uses_one_connection(stack):
    listener = socket.create_server(("127.0.0.1", 0))
    stack.callback(listener.close)
    connections, bodies = [], []

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            stack.callback(connection.close)
            with connection.makefile("rb") as stream:
                while line := stream.readline():
                    length = 0
                    while line.strip():
                        name, _, value = line.partition(b":")
                        length = int(value) if name.lower() == b"content-length" else length
                        line = stream.readline()
                    bodies.append(stream.read(length))
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nid")

    threading.Thread(target=serve, daemon=True).start()
    app = Flask("batch")
    app.config["SECRET_KEY"] = "k" * 32
    mercure = MercureSSE(app, hub_url=f"http://127.0.0.1:{listener.getsockname()[1]}/.well-known/mercure")
    assert mercure.publish_many([("a", str(number)) for number in range(50)]) == ["id"] * 50
    assert len(connections) == 1
    assert [body for body in bodies if b"data=49" in body] == [b"topic=a&data=49"]


def test_a_batch_takes_every_form_of_an_update(mercure, mercure_subscriber):
    subscriber = mercure_subscriber(["a", "b", "c", "d"], mercure=mercure)
    ids = mercure.publish_many(
        [{"topic": "a", "data": [1], "id": "urn:x:1"}, ("b", "2"), Update(("c",), "3"), Topical()]
    )
    assert [event.data for event in subscriber.received(4)] == ["[1]", "2", "3", '"me"']
    assert [event.id for event in subscriber.events] == ids


class Topical:
    __mercure_sse_topic__ = "d"

    def __mercure_sse_data__(self):
        return '"me"'


def test_a_batch_with_a_bad_update_publishes_nothing(mercure, mercure_subscriber):
    subscriber = mercure_subscriber("*", mercure=mercure)
    with pytest.raises(InvalidUpdateError, match=r"^update 1: "):
        mercure.publish_many([("a", "1"), {"topic": "a", "id": "#bad"}])
    mercure.publish("a", "after")
    assert [event.data for event in subscriber.received(1)] == ["after"]


def test_a_batch_that_breaks_off_says_what_was_published(fake_hub):
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n"
    mercure = MercureSSE(Flask("batch"), hub_url=fake_hub(good + b"1", good + b"2", b""), publisher_jwt="j.w.t")
    with pytest.raises(HubError) as raised:
        mercure.publish_many([("a", "1"), ("a", "2"), ("a", "3")])
    assert raised.value.published == ["1", "2"]


def test_an_asynchronous_view_publishes_while_the_loop_goes_on(fake_hub):
    released = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        connection, _ = listener.accept()
        with connection, listener:
            connection.recv(65536)
            released.wait()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nid")

    thread = threading.Thread(target=serve)
    thread.start()
    app = Flask("async")
    mercure = MercureSSE(app, publisher_jwt="j.w.t", hub_url=f"http://127.0.0.1:{listener.getsockname()[1]}/x")

    @app.get("/")
    async def view():
        publishing = asyncio.ensure_future(mercure.apublish("a", "b"))
        await asyncio.sleep(0)
        released.set()  # the loop runs while the hub has not answered
        return await publishing

    assert app.test_client().get("/").text == "id"
    thread.join()


def test_captured_updates_go_nowhere_else(mercure, mercure_subscriber):
    subscriber = mercure_subscriber("*", mercure=mercure)
    with mercure.capture() as updates:
        given = mercure.publish(["a", "b"], {"x": 1}, private=True, type="t", retry=5)
        with mercure.capture() as inner:
            mercure.publish("inner")
    assert updates == [Update(("a", "b"), '{"x": 1}', True, given, "t", 5)]
    assert [update.topic for update in inner] == ["inner"]
    mercure.publish("a", "delivered")
    assert [event.data for event in subscriber.received(1)] == ["delivered"]


def test_what_is_captured_is_checked_like_anything_else():
    mercure = MercureSSE(Flask("capture"))
    with mercure.capture() as updates, pytest.raises(InvalidUpdateError):
        mercure.publish("a", "b", id="#bad")
    assert updates == []


@pytest.mark.parametrize(
    ("given", "explanation"),
    [
        ({"topic": "a", "jwt": "j.w.t"}, "not 'jwt'"),
        ({"data": "a"}, "with a topic"),
        (("a", "b", False, None, None, None, "j.w.t"), "write a tuple of topic, data"),
        ((), "write a tuple of topic, data"),
    ],
)
def test_a_batch_names_what_is_no_update(given, explanation, mercure):
    with pytest.raises(InvalidUpdateError, match=f"^update 1: .*{explanation}"):
        mercure.publish_many([("a", "1"), given])


def test_an_update_of_a_batch_may_be_a_list(mercure):
    with mercure.capture() as updates:
        mercure.publish_many([["a", "1"]])
    assert [(update.topics, update.data) for update in updates] == [(("a",), "1")]


@pytest.mark.parametrize(
    "wrong", [{"id": "#bad"}, {"data": "\ud800"}, {"topics": "a"}, {"topics": ("",)}, {"topics": ()}]
)
def test_an_update_cannot_be_wrong(wrong):
    with pytest.raises(InvalidUpdateError):
        Update(**{"topics": ("a",), **wrong})


def test_an_empty_topic_is_called_that(mercure):
    with pytest.raises(InvalidUpdateError, match="texts that are not empty"):
        mercure.publish("", "x")


def test_empty_fields_are_none_and_whole_floats_are_numbers(mercure):
    with mercure.capture() as updates:
        mercure.publish("a", "b", id="", type="", retry="")
        mercure.publish(b"/\xc3\xa9", "b", retry=1000.0)
    assert updates[0].id.startswith("urn:uuid:")
    assert (updates[0].type, updates[0].retry) == (None, None)
    assert (updates[1].topic, updates[1].retry) == ("/é", 1000)


def test_after_the_embedded_hub_has_been_stopped_each_call_says_so(mercure):
    mercure.hub.stop()
    for call in (mercure.publish, mercure.subscribe, mercure.get_subscriptions):
        with pytest.raises(MercureError, match="the embedded hub: the hub has been stopped"):
            call("a")


def test_an_application_without_the_extension_is_named():
    with Flask("bare").app_context(), pytest.raises(RuntimeError, match="'bare' has no MercureSSE"):
        mercure_publish("a", "b")
