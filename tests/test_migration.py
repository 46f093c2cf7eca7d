"""What an application that was written for flask-mercure-sse 0.4.1 relies on, and defects that must not come back.

docs/how-to/from-0.4.1.md has the list, and where the other tests are."""

import inspect
import os
import re
import resource
import socket
import subprocess
import sys
import threading
from collections import namedtuple
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from flask import Flask, Response

import flask_mercure_sse
from clients import PATIENCE
from flask_mercure_sse import MercureSSE

ROOT = Path(__file__).parent.parent


def test_every_name_can_be_imported_from_where_it_was():
    from flask_mercure_sse.ext import MercureSSE as of_ext
    from flask_mercure_sse.ext import MercureSSEState, as_topic, mercure_publish, publish_signal
    from flask_mercure_sse.hub import Hub, format_subscriptions_response, get_subscription_id, hub_blueprint
    from flask_mercure_sse.server.app import create_app

    for each in (as_topic, get_subscription_id, mercure_publish, publish_signal, format_subscriptions_response):
        assert getattr(flask_mercure_sse, each.__name__) is each
    assert (of_ext, MercureSSEState, Hub) == (MercureSSE, flask_mercure_sse.MercureSSEState, flask_mercure_sse.Hub)
    assert hub_blueprint.name == "mercure_hub"
    assert flask_mercure_sse.HUB_URL_FROM_REQUEST is True
    assert callable(create_app)


# Name, parameters, and the defaults that 0.4.1 had; None where a default now depends on other settings.
SIGNATURES = {
    "init_app": "app hub_url public_hub_url publisher_jwt subscriber_secret_key publisher_secret_key hub_allow_publish "
    "hub_allow_anonymous hub_subscriptions hub_keepalive_interval hub_reconciliation_length authz_cookie_name "
    "type_is_topic hub",
    "create_jwt": "key data",
    "create_subscription_jwt": "topics payload",
    "set_authz_cookie": "response topics jwt payload secure",
    "delete_authz_cookie": "response",
    "hub_base_url": "public",
    "hub_url": "topics subscriber_jwt with_subscriptions public",
    "authentified_hub_url": "topics payload with_subscriptions",
    "publish": "topic data private id type retry jwt hub_url",
    "get_subscriptions": "topic subscriber",
    "is_connected": "topic payload_filter",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_parameters_stand_where_they_stood(name):
    parameters = [each for each in inspect.signature(getattr(MercureSSE, name)).parameters if each != "self"]
    former = SIGNATURES[name].split()
    assert parameters[: len(former)] == former


def test_the_settings_of_an_application_are_where_they_were(app, mercure):
    state = app.extensions["mercure_sse"]
    assert state.instance is mercure
    assert mercure.state is state
    state.publisher_jwt, state.subscriber_secret_key, state.publisher_secret_key = "j.w.t", "s" * 32, b"p" * 32
    assert (state.publisher_jwt, state.subscriber_secret_key, state.publisher_secret_key) == (
        "j.w.t",
        "s" * 32,
        b"p" * 32,
    )


def test_the_embedded_hub_publishes_by_itself(mercure, hub_url, open_stream, subscribe_url):
    stream = open_stream(subscribe_url(hub_url, "topic"))
    assert mercure.hub.publish("topic", "message", False, "urn:x:1", "type") == "urn:x:1"
    assert stream.event() == {"id": "urn:x:1", "event": "type", "data": "message"}


def test_documents_of_subscriptions_are_made_as_before():
    subscriber = namedtuple("Subscriber", ["id", "payload"])("urn:uuid:1", {"user_id": 7})
    document = flask_mercure_sse.format_subscriptions_response("x", [("a/b", {"urn:uuid:1": subscriber})], "earliest")
    assert document["lastEventID"] == "earliest"
    assert document["subscriptions"] == [
        {
            "id": "/.well-known/mercure/subscriptions/a%2Fb/urn%3Auuid%3A1",
            "type": "Subscription",
            "topic": "a/b",
            "subscriber": "urn:uuid:1",
            "active": True,
            "payload": {"user_id": 7},
        }
    ]
    assert flask_mercure_sse.get_subscription_id("a/b", subscriber) == document["subscriptions"][0]["id"]


@pytest.mark.parametrize("granted", ["*", "/books/1", "/books/{id}", "/books/*"])
def test_selectors_in_tokens(granted, mercure, hub_url, open_stream, subscribe_url):
    jwt = mercure.create_subscription_jwt(granted)
    stream = open_stream(subscribe_url(hub_url, "/books/1", "/films/1", authorization=jwt))
    if granted != "*":
        mercure.publish("/films/1", "not for its bearer", private=True)
    mercure.publish("/books/1", "yes", private=True)
    assert stream.event()["data"] == "yes"


def test_forms_are_read_as_the_specification_says(standalone, send, token, open_stream, subscribe_url):
    hub = standalone("--publisher-secret", "k" * 32, "--subscriber-secret", "k" * 32).hub
    publisher = token.bearer(publish=["*"], key="k" * 32)
    stream = open_stream(subscribe_url(hub, "a"))
    assert send("POST", hub, publisher, [("topic", "a"), ("data", "hidden"), ("private", "")]).status == 200
    assert send("POST", hub, publisher, [("data", "of no topic")]).status == 400
    assert send("POST", hub, publisher, [("topic", "a")]).status == 200
    assert stream.event()["data"] == ""
    assert send("GET", hub).status == 400


def test_the_cookie_of_a_hub_at_the_requests_host():
    app = Flask("cookie")
    app.config["SECRET_KEY"] = "k" * 32
    mercure = MercureSSE(app, hub_url=True)
    with app.test_request_context(base_url="https://app.example"):
        header = mercure.set_authz_cookie(Response()).headers["Set-Cookie"]
    assert "Path=/.well-known/mercure" in header
    assert "Secure" in header
    assert "Domain" not in header


def test_publishing_while_subscribers_come_and_go(mercure, hub_url, open_stream, subscribe_url):
    stream, stop = open_stream(subscribe_url(hub_url, "a")), threading.Event()

    def come_and_go():
        while not stop.is_set():
            mercure.subscribe(["a", "b"]).close()

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(500):
            mercure.publish("a", str(number))
        received = [stream.event()["data"] for _ in range(500)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert received == [str(number) for number in range(500)]


def test_short_secrets_raise_no_warning():
    code = (
        "from flask import Flask\n"
        "from flask_mercure_sse import MercureSSE\n"
        "app = Flask('short')\n"
        "app.config.update(SECRET_KEY='changeme', MERCURE_HUB=True)\n"
        "mercure = MercureSSE(app)\n"
        "mercure.create_subscription_jwt('a')\n"
        "mercure.publish('a', 'b')\n"
    )
    ran = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert len(ran.stderr.splitlines()) <= 2, ran.stderr


def test_the_limit_of_open_files_is_survived(standalone, open_stream, send, token, stack):
    hub = standalone("--publisher-secret", "k" * 32, "--subscriber-secret", "k" * 32)
    held = open_stream(hub.hub + "?topic=a")
    assert held.opens()
    open_files = len(os.listdir(f"/proc/{hub.process.pid}/fd"))
    resource.prlimit(hub.process.pid, resource.RLIMIT_NOFILE, (open_files + 3, 4096))
    address = urlsplit(hub.hub)
    # The kernel accepts what the hub cannot.
    waiting = [socket.create_connection((address.hostname, address.port), PATIENCE) for _ in range(6)]
    for connection in waiting:
        stack.callback(connection.close)
    assert any("raise the limit of open files" in line for line in hub.process.stderr)
    for connection in waiting:
        connection.close()
    publisher = token.bearer(publish=["*"], key="k" * 32)
    assert send("POST", hub.hub, publisher, [("topic", "a"), ("data", "after")]).status == 200
    assert held.event()["data"] == "after"


def test_the_migration_table_names_tests_that_exist():
    text = (ROOT / "docs" / "how-to" / "from-0.4.1.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 38
    for row in rows:
        names = re.findall(r"`([^`]+)::(\w+)`", row)
        assert names, row
        for place, name in names:
            if place.endswith(".rs"):
                path, pattern = ROOT / "crates" / place, rf"\bfn {name}\("
            else:
                path, pattern = ROOT / "tests" / f"{place}.py", rf"\bdef {name}\("
            assert re.search(pattern, path.read_text(encoding="utf-8")), f"{place}::{name}"
