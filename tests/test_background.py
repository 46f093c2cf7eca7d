"""Updates that wait in a queue while the hub is away."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
import threading

import pytest
from flask import Flask
from gevent import GreenletExit

from clients import PATIENCE
from flask_mercure_sse import (
    BackgroundStats,
    HubUnreachableError,
    InvalidUpdateError,
    MercureSSE,
    background,
    publishing,
)
from flask_mercure_sse.http import pool
from flask_mercure_sse.http.answer import Answer


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(background, "PAUSE_MIN", 0.01)
    monkeypatch.setattr(background, "PAUSE_MAX", 0.02)


def clear(mercure):
    for queue in mercure.state.queues.queues:
        queue._queue.clear()


@pytest.fixture
def make(stack):
    """An application that publishes in the background; what is left in its queue ends with the test."""

    def make(hub_url, **settings):
        app = Flask("background")
        app.config["SECRET_KEY"] = "k" * 32
        mercure = MercureSSE(app, hub_url=hub_url, publish_background=True, **settings)
        stack.callback(clear, mercure)
        return mercure

    return make


@pytest.fixture
def nowhere(stack):
    """The URL of a hub that is away."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/.well-known/mercure"


def test_updates_wait_for_the_hub_and_arrive_in_their_order(make, nowhere, mercure_hub, monkeypatch):
    mercure = make(nowhere)
    subscriber = mercure_hub.subscriber("a")
    ids = [mercure.publish("a", str(number)) for number in range(10)]
    assert len(set(ids)) == 10
    assert mercure.background.waiting == 10
    # The hub comes back: what the address leads to changes.
    connect, hub = pool.connect, mercure_hub.url.split("/")[2]
    monkeypatch.setattr(pool, "connect", lambda scheme, _, timeout: connect(scheme, hub, timeout))
    monkeypatch.setattr(type(mercure.state.authorization), "publisher_jwt", mercure_hub._mercure.state.publisher_jwt)
    assert mercure.flush(PATIENCE)
    assert [event.id for event in subscriber.received(10)] == ids
    assert [event.data for event in subscriber.events] == [str(number) for number in range(10)]
    stats = mercure.background
    assert (stats.waiting, stats.published, stats.dropped, stats.refused) == (0, 10, 0, 0)
    subscriber.close()


def test_a_full_queue_drops_what_is_new_and_says_so_once(make, nowhere, caplog):
    mercure = make(nowhere, publish_queue_length=3)
    with caplog.at_level(logging.ERROR):
        for number in range(10):
            assert mercure.publish("a", str(number)).startswith("urn:uuid:")
    stats = mercure.background
    assert (stats.waiting, stats.dropped) == (3, 7)
    assert len([record for record in caplog.records if "are dropped" in record.message]) == 1


def test_what_the_hub_refuses_is_dropped_logged_and_holds_up_nothing(make, fake_hub, caplog):
    mercure = make(fake_hub(answer(401), answer(503), answer(200)))
    mercure.publish("secret/1", "the data")
    mercure.publish("b", "2")
    assert mercure.flush(PATIENCE)
    stats = mercure.background
    assert (stats.published, stats.refused, stats.retried) == (1, 1, 1)
    assert "was not published" in caplog.text
    assert "the data" not in caplog.text


def test_an_update_sent_twice_has_one_id(make, fake_hub):
    received = []
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n1"
    mercure = make(fake_hub(b"", good, received=received))
    given = mercure.publish("a", "b")
    assert mercure.flush(PATIENCE)
    assert [given.replace(":", "%3A").encode() in each for each in received] == [True, True]


def test_an_update_that_breaks_a_rule_is_refused_at_once(make, nowhere):
    mercure = make(nowhere)
    with pytest.raises(InvalidUpdateError):
        mercure.publish("a", "b", id="#bad")
    assert mercure.background == BackgroundStats()


def test_an_embedded_hub_in_memory_needs_no_queue(app, mercure_subscriber):
    mercure = MercureSSE(app, publish_background=True, hub_transport="memory:")
    subscriber = mercure_subscriber("a", mercure=mercure)
    mercure.publish("a", "b")
    subscriber.received(1)
    assert mercure.background == BackgroundStats()


def answer(status, body=b"urn:x:1"):
    head = f"HTTP/1.1 {status} X\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


@pytest.mark.parametrize("body", [b"", b"<html>welcome</html>"])
def test_an_answer_of_success_is_the_last_whatever_it_says(body, make, fake_hub, caplog):
    mercure = make(fake_hub(answer(200, body), answer(200)))
    mercure.publish("a", "1")
    mercure.publish("a", "2")
    assert mercure.flush(PATIENCE)
    assert (mercure.background.published, mercure.background.retried) == (2, 0)
    assert "may not have been published: the answer holds no id" in caplog.text


@pytest.mark.parametrize("failure", [answer(500), b""], ids=["500", "the connection breaks"])
def test_an_update_that_the_hub_never_takes_holds_up_the_others_for_some_attempts(failure, make, fake_hub, caplog):
    mercure = make(fake_hub(*[failure] * background.ATTEMPTS_MAX, answer(200)))
    mercure.publish("never", "1")
    mercure.publish("a", "2")
    assert mercure.flush(PATIENCE)
    stats = mercure.background
    assert (stats.published, stats.dropped, stats.retried) == (1, 1, background.ATTEMPTS_MAX - 1)
    assert "the update on topic 'never' was not published" in caplog.text


def test_a_hub_that_is_away_behind_a_proxy_is_waited_for(make, fake_hub):
    mercure = make(fake_hub(*[answer(503)] * (background.ATTEMPTS_MAX + 5), answer(200)))
    mercure.publish("a", "1")
    assert mercure.flush(PATIENCE)
    assert (mercure.background.published, mercure.background.dropped) == (1, 0)


def test_a_hub_that_is_away_holds_up_no_other(make, nowhere, mercure_hub):
    mercure = make(mercure_hub.url, publisher_secret_key=mercure_hub.config["MERCURE_PUBLISHER_SECRET_KEY"])
    subscriber = mercure_hub.subscriber("a")
    for number in range(2 * background.HUBS_MAX):
        mercure.publish("a", "elsewhere", hub_url=f"{nowhere}/{number}")
    assert len(mercure.state.queues.queues) == background.HUBS_MAX + 1
    clear(mercure)
    mercure = make(mercure_hub.url, publisher_secret_key=mercure_hub.config["MERCURE_PUBLISHER_SECRET_KEY"])
    mercure.publish("a", "elsewhere", hub_url=nowhere)
    mercure.publish("a", "here")
    assert subscriber.received(1)[0].data == "here"
    subscriber.close()


def test_errors_of_others_are_not_quoted_in_the_log(make, nowhere, monkeypatch, caplog):
    def fail(*_args, **_kwargs):
        raise ValueError("the token")

    monkeypatch.setattr(publishing, "request", fail)
    mercure = make(nowhere)
    mercure.publish("a", "b")
    assert mercure.flush(PATIENCE)
    assert "was not published: ValueError" in caplog.text
    assert "the token" not in caplog.text


def test_a_thread_without_work_ends_and_another_begins(make, mercure_hub, monkeypatch):
    monkeypatch.setattr(background, "IDLE_SECONDS", 0.01)
    mercure = make(mercure_hub.url, publisher_secret_key=mercure_hub.config["MERCURE_PUBLISHER_SECRET_KEY"])
    for number in range(3):
        mercure.publish("a", str(number))
        (queue,) = mercure.state.queues.queues
        thread = queue._thread
        assert mercure.flush(PATIENCE)
        if thread is not None:
            thread.join(PATIENCE)
            assert not thread.is_alive()
    assert mercure.background.published == 3


def test_a_process_that_forks_in_the_middle_of_publishing_has_locks_of_its_own(make, mercure_hub):
    mercure = make(mercure_hub.url, publisher_secret_key=mercure_hub.config["MERCURE_PUBLISHER_SECRET_KEY"])
    mercure.publish("a", "parent")
    assert mercure.flush(PATIENCE)
    queues = mercure.state.queues
    (queue,) = queues.queues
    with mercure.state._lock, queues._lock, queue._changed:
        process = os.fork()
        if process == 0:
            mercure.publish("a", "child")
            os._exit(0 if mercure.flush(PATIENCE) and mercure.background.published == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


def test_while_the_process_ends_the_reason_is_said(make, nowhere, caplog):
    mercure = make(nowhere)
    mercure.publish("a", "b")
    (queue,) = mercure.state.queues.queues
    queue.end()
    mercure.publish("a", "c")
    assert "was not published: the process ends" in caplog.text
    assert "are waiting" not in caplog.text


class Timeout(BaseException):
    """As that of gevent is, which needs a loop to be made."""


INTERRUPTIONS = [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, Timeout, GreenletExit]
"""Errors that are no Exception, and can be raised in any thread or greenlet."""


@pytest.fixture
def before_each_answer(monkeypatch):
    """Has a function called with each body before a hub accepts it, and may raise."""

    def accept_after(look):
        def request(*_args, body, **_kwargs):
            look(body)
            return Answer(200, "text/plain", b"urn:x:1")

        monkeypatch.setattr(publishing, "request", request)

    return accept_after


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
@pytest.mark.parametrize("times", [1, 3])
def test_what_is_no_exception_does_not_end_the_queue_and_loses_nothing(
    interruption, times, make, nowhere, before_each_answer, caplog
):
    sent = []

    def interrupt(body):
        sent.append(body)
        if len(sent) <= times:
            raise interruption("secret")

    before_each_answer(interrupt)
    mercure = make(nowhere)
    mercure.publish("a", "1")
    mercure.publish("a", "2")
    assert mercure.flush(PATIENCE)
    stats = mercure.background
    assert (stats.published, stats.retried, stats.dropped, stats.refused) == (2, times, 0, 0)
    assert len(set(sent)) == 2, "sent again with the same id"
    assert interruption.__name__ in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("interruption", INTERRUPTIONS)
def test_an_update_that_always_interrupts_is_dropped_and_counted(
    interruption, make, nowhere, before_each_answer, caplog
):
    def interrupt(body):
        if b"never" in body:
            raise interruption

    before_each_answer(interrupt)
    mercure = make(nowhere)
    mercure.publish("never", "1")
    mercure.publish("a", "2")
    assert mercure.flush(PATIENCE)
    stats = mercure.background
    assert (stats.published, stats.dropped, stats.retried) == (1, 1, background.ATTEMPTS_MAX - 1)
    assert f"the update on topic 'never' was not published: {interruption.__name__}" in caplog.text


def test_a_queue_whose_thread_is_interrupted_between_attempts_goes_on(make, nowhere, monkeypatch, caplog):
    waits = []

    def interrupted(self, seconds):
        waits.append(seconds)
        if len(waits) == 1:
            raise GreenletExit

    attempts = []

    def request(*_args, **_kwargs):
        attempts.append(1)
        if len(attempts) < 3:
            raise HubUnreachableError("away")
        return Answer(200, "text/plain", b"urn:x:1")

    monkeypatch.setattr(background._Queue, "_wait", interrupted)
    monkeypatch.setattr(publishing, "request", request)
    mercure = make(nowhere)
    mercure.publish("a", "1")
    assert mercure.flush(PATIENCE)
    assert (mercure.background.published, mercure.background.retried) == (1, 2)
    assert "the thread that publishes in the background was ended: GreenletExit" in caplog.text


def test_a_queue_without_a_thread_gets_one_when_there_is_room(make, mercure_hub, monkeypatch, caplog):
    mercure = make(mercure_hub.url, publisher_secret_key=mercure_hub.config["MERCURE_PUBLISHER_SECRET_KEY"])

    def refuse(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        mercure.publish("a", "1")
        mercure.publish("a", "2")
    assert "wait for a thread" in caplog.text
    assert mercure.background.waiting == 2
    assert mercure.flush(PATIENCE)
    assert mercure.background.published == 2


KILLED = """
import sys
from gevent import monkey
monkey.patch_all()
import gc
import gevent
from flask import Flask
from flask_mercure_sse import MercureSSE, background

background.PAUSE_MIN, background.PAUSE_MAX = 0.01, 0.02
mercure = MercureSSE(Flask("killed"), hub_url=sys.argv[1], publisher_secret_key=sys.argv[2], publish_background=True)
mercure.publish("a", "1", hub_url="http://127.0.0.1:1/x")
while not mercure.background.retried:
    gevent.sleep(0)
running = [each for each in gc.get_objects() if isinstance(each, gevent.Greenlet) and each is not gevent.getcurrent()]
gevent.killall(running, timeout=60)
print(len(running) > 0, all(each.dead for each in running))
retried = mercure.background.retried
while mercure.background.retried < retried + 3:
    gevent.sleep(0)
mercure.publish("a", "2")
print(mercure.background.waiting >= 1, [queue.flush(60) for queue in mercure.state.queues.queues[1:]])
mercure.state.queues.queues[0]._queue.clear()
"""


def test_greenlets_that_are_killed_end_and_the_queue_goes_on(mercure_hub):
    ran = subprocess.run(
        [sys.executable, "-c", KILLED, mercure_hub.url, mercure_hub.config["MERCURE_PUBLISHER_SECRET_KEY"]],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert ran.stdout == "True True\nTrue [True]\n", ran.stderr


SCRIPT = """
import sys
from flask import Flask
from flask_mercure_sse import MercureSSE

mercure = MercureSSE(Flask("script"), hub_url=sys.argv[1], publisher_secret_key=sys.argv[2],
                     publish_background=True, publish_drain_seconds=float(sys.argv[3]))
for number in range(5):
    mercure.publish("a", str(number))
"""


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, *arguments],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )


def test_at_the_end_of_the_process_the_queue_is_emptied(mercure_hub):
    subscriber = mercure_hub.subscriber("a")
    ended = run(mercure_hub.url, mercure_hub.config["MERCURE_PUBLISHER_SECRET_KEY"], "20")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [event.data for event in subscriber.received(5)] == ["0", "1", "2", "3", "4"]
    subscriber.close()


def test_what_is_left_at_the_end_is_counted_in_the_log(nowhere):
    ended = run(nowhere, "k" * 32, "0.1")
    assert ended.returncode == 0
    assert "5 updates were not published: the process ended" in ended.stderr


def test_a_forked_process_has_a_queue_of_its_own(make, mercure_hub):
    mercure = make(mercure_hub.url, publisher_secret_key=mercure_hub.config["MERCURE_PUBLISHER_SECRET_KEY"])
    subscriber = mercure_hub.subscriber("a")
    mercure.publish("a", "parent")
    assert mercure.flush(PATIENCE)
    process = os.fork()
    if process == 0:
        mercure.publish("a", "child")
        os._exit(0 if mercure.flush(PATIENCE) and mercure.background.published == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    assert [event.data for event in subscriber.received(2)] == ["parent", "child"]
    subscriber.close()


def test_no_thread_is_started_before_the_first_update(make, nowhere):
    before = threading.active_count()
    make(nowhere)
    assert threading.active_count() == before
