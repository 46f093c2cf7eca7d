"""What the doctor finds in a hub that is a process of its own."""

from __future__ import annotations

import pytest
from flask import Flask

from clients import SECRET
from doctor.report import examine
from flask_mercure_sse import MercureSSE


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
