"""Tokens and the cookie that carries them."""

import pytest
from flask import Flask, Response
from werkzeug.http import parse_cookie

from flask_mercure_sse import MercureSSE


def make(**settings):
    app = Flask("tokens")
    app.config["SECRET_KEY"] = "k" * 32
    return app, MercureSSE(app, **settings)


def cookie_of(response):
    """Name, value and attributes of the one cookie that a response sets."""
    (header,) = response.headers.getlist("Set-Cookie")
    pair, *attributes = header.split("; ")
    ((name, value),) = parse_cookie(pair).items()
    return name, value, {attribute.split("=")[0]: attribute.partition("=")[2] for attribute in attributes}


def test_tokens_are_signed_with_the_key_of_their_role(token):
    _, mercure = make(subscriber_secret_key="s" * 32, publisher_secret_key="p" * 32)
    assert token.claims(mercure.create_subscription_jwt("a"), "s" * 32) == {"mercure": {"subscribe": ["a"]}}
    assert token.claims(mercure.create_jwt("publisher_secret_key", publish=["*"]), "p" * 32) == {
        "mercure": {"publish": ["*"]}
    }
    assert token.claims(mercure.state.publisher_jwt, "p" * 32) == {"mercure": {"publish": ["*"]}}


def test_a_key_may_be_bytes_or_the_secret_key_or_missing(token):
    app = Flask("bytes")
    app.config["SECRET_KEY"] = b"\xff" * 32
    assert token.claims(MercureSSE(app).create_subscription_jwt("a"), b"\xff" * 32)
    with pytest.raises(ValueError, match="MERCURE_SUBSCRIBER_SECRET_KEY is not set"):
        MercureSSE(Flask("none")).create_subscription_jwt("a")


def test_the_cookie_of_an_embedded_hub_stays_with_the_host(token):
    app, mercure = make(hub=True)
    with app.test_request_context(base_url="https://app.example"):
        name, value, attributes = cookie_of(mercure.set_authz_cookie(Response(), ["a"]))
    assert name == "mercureAuthorization"
    assert token.claims(value, "k" * 32)["mercure"]["subscribe"] == ["a"]
    assert attributes == {"Secure": "", "HttpOnly": "", "Path": "/.well-known/mercure", "SameSite": "Strict"}
    with app.test_request_context(base_url="http://localhost:5000"):
        assert "Secure" not in cookie_of(mercure.set_authz_cookie(Response()))[2]


@pytest.mark.parametrize(
    ("hub", "page", "domain", "secure"),
    [
        ("https://hub.example.com/.well-known/mercure", "https://app.example.com", "example.com", True),
        ("https://example.com/.well-known/mercure", "https://example.com", None, True),
        ("https://example.com/.well-known/mercure", "https://www.example.com", "example.com", True),
        ("http://localhost:5500/.well-known/mercure", "http://localhost:5000", None, False),
        ("http://127.0.0.1:5500/.well-known/mercure", "http://127.0.0.2:5000", None, False),
        ("https://hub.example/.well-known/mercure", "https://app.other", None, True),
    ],
)
def test_the_cookie_reaches_the_public_hub(hub, page, domain, secure):
    app, mercure = make(public_hub_url=hub, hub_url="http://internal:5500/.well-known/mercure")
    with app.test_request_context(base_url=page):
        _, _, attributes = cookie_of(mercure.set_authz_cookie(Response()))
    assert attributes.get("Domain") == domain
    assert ("Secure" in attributes) is secure
    assert attributes["Path"] == "/.well-known/mercure"


def test_arguments_change_the_cookie_and_its_token(token):
    app, mercure = make(hub=True, authz_cookie_name="auth")
    with app.test_request_context():
        name, value, attributes = cookie_of(
            mercure.set_authz_cookie(Response(), jwt="j.w.t", secure=True, samesite="Lax", max_age=60)
        )
        default = cookie_of(mercure.set_authz_cookie(Response(), payload={"x": 1}))[1]
    assert (name, value) == ("auth", "j.w.t")
    assert (attributes["SameSite"], attributes["Max-Age"], "Secure" in attributes) == ("Lax", "60", True)
    assert token.claims(default, "k" * 32)["mercure"] == {"subscribe": ["*"], "payload": {"x": 1}}


def test_deleting_the_cookie_hands_out_no_token():
    app, mercure = make(public_hub_url="https://hub.example.com/.well-known/mercure")
    with app.test_request_context(base_url="https://app.example.com"):
        name, value, attributes = cookie_of(mercure.delete_authz_cookie(Response()))
    assert (name, value) == ("mercureAuthorization", "")
    assert (attributes["Max-Age"], attributes["Domain"], attributes["Path"]) == (
        "0",
        "example.com",
        "/.well-known/mercure",
    )
