"""What the doctor finds for pages: origins, cookies, and the host of hub URLs."""

from __future__ import annotations

import pytest
from flask import Flask

from clients import SECRET
from doctor.report import examine
from flask_mercure_sse import MercureSSE
from flask_mercure_sse.doctor import cookie


def test_the_origins_of_pages_are_asked_about_as_three_clients_ask(elsewhere):
    report = examine(
        elsewhere("--cors-origins", "https://app.example"),
        "--origin",
        "https://app.example",
        "--origin",
        "https://no.example",
    )
    assert report.level("CORS") == ["ok", "problem"]
    assert "EventSource, fetch, htmx" in report.lines[-1]
    assert "--cors-origins https://no.example" in report.changes["CORS"]
    report = examine(elsewhere("--cors-origins", "*"), "--origin", "https://app.example")
    assert report.level("CORS") == ["warning"]
    assert "browsers block" not in report.line("cookie"), "the hub is on this machine"
    assert "no cookie of app.example reaches the hub at 127.0.0.1" in report.line("cookie")


def test_an_embedded_hub_has_the_origin_of_its_application(embedded):
    app = embedded(SERVER_NAME="app.example", PREFERRED_URL_SCHEME="https")
    report = examine(app, "--origin", "https://app.example", "--origin", "https://other.example")
    assert report.level("CORS") == ["ok", "problem"]

    app = embedded(SERVER_NAME="app.example", PREFERRED_URL_SCHEME="https")

    @app.after_request
    def allow(response):
        response.headers["Access-Control-Allow-Origin"] = "https://other.example"
        response.headers["Access-Control-Allow-Credentials"] = "true"
        response.headers["Access-Control-Allow-Headers"] = (
            "authorization, last-event-id, hx-current-url, hx-request, hx-target"
        )
        return response

    assert examine(app, "--origin", "https://other.example").level("CORS") == ["ok"], "as with flask-cors"


@pytest.mark.parametrize(
    ("page", "hub", "level", "found"),
    [
        ("https://app.example.com", "https://hub.example.com/.well-known/mercure", "ok", "Domain example.com"),
        ("https://app.example.com", "https://app.example.com/.well-known/mercure", "ok", "app.example.com only"),
        ("https://app.example.com", "https://hub.example.org/.well-known/mercure", "warning", "no cookie"),
        ("https://app.example.com", "http://app.example.com/.well-known/mercure", "problem", "browsers block http"),
        ("http://localhost:5000", "http://localhost:5500/.well-known/mercure", "ok", "withCredentials"),
    ],
)
def test_the_cookie_has_to_reach_the_hub(page, hub, level, found):
    app = Flask("elsewhere")
    app.config["SECRET_KEY"] = SECRET
    state = MercureSSE(app, hub_url="http://localhost:3000/.well-known/mercure", public_hub_url=hub).state
    finding = cookie.check(state, page)
    assert finding.level == level
    assert found in finding.found


def test_a_secure_cookie_without_tls_is_found():
    app = Flask("elsewhere")
    app.config["SECRET_KEY"] = SECRET
    url = "http://app.example.com/.well-known/mercure"
    state = MercureSSE(app, hub_url=url, protocol="1.0").state
    assert "is for https only" in cookie.check(state, "http://app.example.com").found


@pytest.mark.parametrize(
    ("config", "levels"),
    [
        ({}, ["warning"]),
        ({"TRUSTED_HOSTS": ["example.com"]}, []),
        ({"SERVER_NAME": "example.com"}, []),
        ({"MERCURE_PUBLIC_HUB_URL": "https://example.com/.well-known/mercure"}, []),
        ({"MERCURE_HUB": False, "MERCURE_HUB_URL": True}, ["warning"]),
        ({"MERCURE_HUB": False, "MERCURE_HUB_URL": "http://127.0.0.1:9/.well-known/mercure"}, []),
    ],
)
def test_hub_urls_whose_host_any_client_can_choose_are_found(embedded, config, levels):
    report = examine(embedded(**{"TRUSTED_HOSTS": None, **config}))
    assert report.level("host") == levels


def test_a_host_that_the_application_refuses_is_found(embedded):
    report = examine(embedded(TRUSTED_HOSTS=["example.com"]), "http://other.example")
    assert "refuses requests for the host" in report.line("host")
