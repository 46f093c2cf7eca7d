"""What the doctor finds in a hub that is a process of its own."""

from __future__ import annotations

import pytest
from flask import Flask

from clients import SECRET
from doctor.report import examine
from flask_mercure_sse import MercureSSE
from flask_mercure_sse.doctor import plain


def test_a_hub_elsewhere_that_fits_has_no_finding(elsewhere):
    report = examine(elsewhere())
    assert report.bad == []
    assert "speaks 0.x and 1.0; everybody may subscribe" in report.line("hub elsewhere")
    assert report.level("round trip") == report.level("clock") == ["ok"]


@pytest.mark.parametrize("role", ["SUBSCRIBER", "PUBLISHER"])
def test_a_key_that_is_not_the_hubs_is_found(elsewhere, role):
    report = examine(elsewhere(**{f"MERCURE_{role}_SECRET_KEY": "another key of more than 32 bytes"}))
    assert report.level("round trip") == ["problem"]
    assert f"MERCURE_{role}_SECRET_KEY" in report.changes["round trip"]
    assert "another key" not in report.output


def test_a_hub_that_is_not_there_is_found():
    app = Flask("elsewhere")
    app.config["SECRET_KEY"] = SECRET
    MercureSSE(app, hub_url="http://127.0.0.1:9/.well-known/mercure")
    report = examine(app)
    assert report.level("hub elsewhere") == ["problem"]
    assert report.level("round trip") == []


def test_a_server_that_is_no_hub_is_found(serve):
    app = Flask("elsewhere")
    app.config["SECRET_KEY"] = SECRET
    MercureSSE(app, hub_url=serve(Flask("no hub")) + "/.well-known/mercure")
    report = examine(app)
    assert "answers 404, so it is no hub" in report.line("hub elsewhere")


@pytest.mark.parametrize(
    ("protocol", "change"), [("0.x", "--compat, or set MERCURE_PROTOCOL = '1.0'"), ("1.0", "'0.x'")]
)
def test_a_hub_that_refuses_a_token_may_speak_the_other_dialect(fake_hub, protocol, change):
    refused = b"HTTP/1.1 401 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    app = Flask("elsewhere")
    app.config["SECRET_KEY"] = SECRET
    MercureSSE(app, hub_url=fake_hub(refused, refused, refused), protocol=protocol)
    report = examine(app)
    # It refuses each request without a token, whatever its dialect.
    assert "speaks" not in report.line("hub elsewhere")
    assert "give both the same key" in report.changes["round trip"]
    assert change in report.changes["round trip"]


def test_a_hub_that_lets_everybody_in_has_shown_its_dialect(elsewhere):
    report = examine(elsewhere(MERCURE_SUBSCRIBER_SECRET_KEY="another key of more than 32 bytes"))
    assert "--compat" not in report.changes["round trip"]


def test_a_hub_of_the_other_dialect_is_found(fake_hub):
    refused = b"HTTP/1.1 400 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    stream = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    app = Flask("elsewhere")
    app.config["SECRET_KEY"] = SECRET
    MercureSSE(app, hub_url=fake_hub(refused, stream, stream))
    report = examine(app)
    assert "speaks 1.0, and the application 0.x" in report.line("hub elsewhere")
    assert "MERCURE_PROTOCOL = '1.0'" in report.changes["hub elsewhere"]


@pytest.mark.parametrize("setting", ["MERCURE_HUB_URL", "MERCURE_PUBLIC_HUB_URL"])
def test_a_hub_at_a_public_address_over_plain_http_is_warned_of(elsewhere, setting, monkeypatch):
    app = elsewhere(**({setting: "http://hub.example/hub"} if setting == "MERCURE_PUBLIC_HUB_URL" else {}))
    local = {"MERCURE_HUB_URL": "127.0.0.1", "MERCURE_PUBLIC_HUB_URL": "hub.example"}[setting]
    monkeypatch.setattr(plain, "addresses", lambda host: ["8.8.8.8" if host == local else "10.0.0.1"])
    report = examine(app)
    assert report.level("encryption") == ["warning"]
    assert f"{setting} is http://" in report.line("encryption")
    assert "https://" in report.changes["encryption"]


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("https://hub.example/hub", "8.8.8.8"),
        ("http://petasos/hub", "172.18.0.2"),
        ("http://petasos/hub", "fe80::1%eth0"),
        ("http://petasos/hub", "fd00::1"),
        ("http://localhost:5500/hub", "::1"),
        ("http://unknown.example/hub", None),
    ],
)
def test_plain_http_in_a_private_network_is_not_warned_of(url, address):
    assert plain.check("MERCURE_HUB_URL", url, lambda host: [address] if address else []) is None


def test_a_hub_for_everybody_is_warned_of_where_users_have_topics_of_their_own(elsewhere):
    app = elsewhere()
    app.extensions["mercure_sse"].users.topics = lambda: ["/users/7"]
    report = examine(app)
    assert report.level("anonymous") == ["warning"]
    assert "private=True" in report.changes["anonymous"]
    closed = elsewhere("--no-allow-anonymous")
    closed.extensions["mercure_sse"].users.topics = lambda: ["/users/7"]
    assert examine(closed).level("anonymous") == []
