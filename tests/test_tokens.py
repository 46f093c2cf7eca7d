"""Tokens and the cookie that carries them."""

import base64
import json
import time
from datetime import timedelta

import pytest
from flask import Flask, Response
from werkzeug.http import parse_cookie

from flask_mercure_sse import MercureSSE, URLPattern, authorization
from key_spellings import pem


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
    assert token.claims(mercure.create_subscription_jwt("a"), "s" * 32)["mercure"] == {"subscribe": ["a"]}
    own = mercure.create_jwt("publisher_secret_key", publish=["*"])
    assert token.claims(own, "p" * 32)["mercure"] == {"publish": ["*"]}
    assert token.claims(mercure.state.publisher_jwt, "p" * 32)["mercure"] == {"publish": ["*"]}


def test_a_key_may_be_bytes_or_the_secret_key_or_missing(token):
    app = Flask("bytes")
    app.config["SECRET_KEY"] = b"\xff" * 32
    assert token.claims(MercureSSE(app).create_subscription_jwt("a"), b"\xff" * 32)
    with pytest.raises(ValueError, match="MERCURE_SUBSCRIBER_SECRET_KEY is not set"):
        MercureSSE(Flask("none")).create_subscription_jwt("a")


@pytest.mark.parametrize("protocol", ["0.x", "1.0"])
def test_a_public_key_that_is_to_sign_is_named_with_the_remedy(protocol):
    app = Flask("public")
    app.config["SECRET_KEY"] = pem("rsa.pub.pem")
    mercure = MercureSSE(app, hub=False, protocol=protocol)
    remedy = "^SECRET_KEY is a public key, .* set a shared secret as MERCURE_{}_SECRET_KEY, or pass a token"
    for sign in (mercure.create_subscription_jwt, mercure.subscribe):
        with pytest.raises(ValueError, match=remedy.format("SUBSCRIBER")):
            sign("a")
    for sign in (lambda: mercure.create_jwt("publisher_secret_key", publish=["a"]), lambda: mercure.publish("a")):
        with pytest.raises(ValueError, match=remedy.format("PUBLISHER")):
            sign()
    mercure = MercureSSE(Flask("own"), subscriber_secret_key=pem("p256.pub.pem"), protocol=protocol)
    with pytest.raises(ValueError, match=r"^MERCURE_SUBSCRIBER_SECRET_KEY is a public key, .* secret there, or pass"):
        mercure.create_subscription_jwt("a")


def test_the_cookie_of_an_embedded_hub_stays_with_the_host(token):
    app, mercure = make(hub=True)
    with app.test_request_context(base_url="https://app.example"):
        name, value, attributes = cookie_of(mercure.set_authz_cookie(Response(), ["a"]))
    assert name == "mercureAuthorization"
    assert token.claims(value, "k" * 32)["mercure"]["subscribe"] == ["a"]
    assert attributes.pop("Max-Age") == str(2 * 86400)
    assert attributes.pop("Expires")
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


def test_tokens_and_cookies_last_as_long_as_the_settings_say(token):
    app, mercure = make(hub=True, jwt_ttl=60)
    before = int(time.time())
    claims = token.claims(mercure.create_subscription_jwt("a"), "k" * 32)
    assert before + 60 <= claims["exp"] <= time.time() + 60
    with app.test_request_context():
        assert cookie_of(mercure.set_authz_cookie(Response()))[2]["Max-Age"] == str(60 + 86400)
        assert "Max-Age" not in cookie_of(mercure.set_authz_cookie(Response(), jwt="j.w.t"))[2]


@pytest.mark.parametrize(("grace", "max_age"), [(0, "60"), (30, "90")])
def test_the_cookie_outlives_its_token_as_long_as_the_setting_says(grace, max_age):
    app, mercure = make(hub=True, jwt_ttl=60, authz_cookie_grace=grace)
    with app.test_request_context():
        assert cookie_of(mercure.set_authz_cookie(Response()))[2]["Max-Age"] == max_age


def test_a_page_whose_token_has_ended_is_refused_and_not_let_in_as_anonymous(token, send, serve):
    app, _ = make(hub=True)
    url = serve(app) + "/.well-known/mercure?topic=a"
    ended = token.sign({"mercure": {"subscribe": ["a"]}, "exp": time.time() - 60}, "k" * 32)
    assert send("HEAD", url).status == 200, "anonymous subscribers are let in"
    refused = send("GET", url, {"Cookie": f"mercureAuthorization={ended}"})
    assert (refused.status, json.loads(refused.body)["type"]) == (401, "urn:petasos:problem:token-invalid")


def test_without_a_lifetime_tokens_and_cookies_have_no_end(token):
    app, mercure = make(hub=True, jwt_ttl=0)
    assert "exp" not in token.claims(mercure.create_subscription_jwt("a"), "k" * 32)
    with app.test_request_context():
        assert "Max-Age" not in cookie_of(mercure.set_authz_cookie(Response()))[2]


def test_the_applications_own_token_is_kept_and_renewed(monkeypatch):
    _, mercure = make(publisher_secret_key="p" * 32, protocol="1.0")
    first = mercure.state.publisher_jwt
    assert mercure.state.publisher_jwt == first
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 12 * 3600 + 1)
    assert mercure.state.publisher_jwt != first


HUB = "https://hub.example.com/.well-known/mercure"


def test_tokens_of_1_0_are_access_tokens_of_the_hub(token):
    _, mercure = make(protocol="1.0", hub_url="http://internal:5500/.well-known/mercure", public_hub_url=HUB)
    jwt = mercure.create_subscription_jwt(["a", URLPattern("/books/:id")], payload={"user": 7})
    header = json.loads(base64.urlsafe_b64decode(jwt.split(".")[0] + "=="))
    claims = token.claims(jwt, "k" * 32)
    assert header == {"alg": "HS256", "typ": "at+jwt"}
    assert (claims["iss"], claims["aud"], claims["exp"] - claims["iat"]) == ("https://hub.example.com", HUB, 86400)
    assert claims["sub"]
    assert claims["client_id"]
    assert claims["jti"] != token.claims(mercure.create_subscription_jwt("a"), "k" * 32)["jti"]
    assert claims["authorization_details"] == [
        {
            "type": "https://mercure.rocks/authorization-detail",
            "actions": ["subscribe"],
            "topics": [{"match": "a"}, {"match": "/books/:id", "match_type": "urlpattern"}],
            "payload": {"user": 7},
        }
    ]


def test_the_names_in_1_0_tokens_can_be_set(token):
    _, mercure = make(protocol="1.0", hub_url=HUB, jwt_issuer="https://auth.example.com", jwt_audience="urn:the-hub")
    claims = token.claims(mercure.create_subscription_jwt("a"), "k" * 32)
    assert (claims["iss"], claims["aud"]) == ("https://auth.example.com", "urn:the-hub")


def test_the_cookie_of_1_0_is_secure_as_its_name_demands():
    app, mercure = make(protocol="1.0", hub=True)
    with app.test_request_context(base_url="http://localhost:5000"):
        name, _, attributes = cookie_of(mercure.set_authz_cookie(Response(), ["a"]))
    assert name == "__Secure-mercure_access_token"
    assert "Secure" in attributes


def test_what_a_dialect_does_not_have_is_refused():
    _, former = make(hub_url=HUB)
    _, current = make(hub_url=HUB, protocol="1.0")
    for refused in (former.create_subscription_jwt, former.hub_url):
        with pytest.raises(ValueError, match=r"URL patterns need protocol 1\.0"):
            refused(URLPattern("/books/:id"))
    with pytest.raises(ValueError, match="no tokens in URLs"):
        current.authentified_hub_url("a")
    with pytest.raises(ValueError, match="not 'admin'"):
        current.create_jwt("subscriber_secret_key", admin=["*"])


def test_an_end_that_is_given_is_the_cookies_end():
    app, mercure = make(hub=True)
    with app.test_request_context():
        attributes = cookie_of(mercure.set_authz_cookie(Response(), expires=0))[2]
    assert attributes["Expires"] == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert "Max-Age" not in attributes


@pytest.mark.parametrize(
    ("hub", "page"),
    [
        ("https://hub.example/x", "https://app.other"),
        ("https://hub.co.uk/x", "https://app.co.uk"),
        ("https://hub.github.io/x", "https://app.github.io"),
        ("http://localhost:5500/x", "http://127.0.0.1:5000"),
    ],
)
def test_a_cookie_that_cannot_reach_the_hub_is_warned_of_once(hub, page, caplog):
    app, mercure = make(hub_url=hub)
    for _ in range(2):
        with app.test_request_context(base_url=page):
            assert "Domain" not in cookie_of(mercure.set_authz_cookie(Response()))[2]
    assert len([record for record in caplog.records if "reaches the Mercure hub" in record.message]) == 1


@pytest.mark.parametrize(
    ("public", "path", "domain"),
    [
        (True, "/.well-known/mercure", None),
        ("/hub", "/hub", None),
        ("//hub.example.com/hub", "/hub", "example.com"),
    ],
)
def test_a_public_url_without_scheme_or_host_has_those_of_the_page(public, path, domain, caplog):
    app, mercure = make(hub_url="http://internal:5500/x", public_hub_url=public)
    with app.test_request_context(base_url="https://app.example.com"):
        attributes = cookie_of(mercure.set_authz_cookie(Response()))[2]
    assert (attributes["Path"], attributes.get("Domain"), attributes["Secure"]) == (path, domain, "")
    assert not caplog.records


def test_deleting_takes_what_setting_takes():
    app, mercure = make(hub_url="https://hub.example.com/x")
    with app.test_request_context(base_url="https://app.example.com"):
        attributes = cookie_of(mercure.delete_authz_cookie(Response(), ["a"], None, {"user": 7}, None))[2]
        assert "Secure" in attributes
        assert "Secure" not in cookie_of(mercure.delete_authz_cookie(Response(), secure=False))[2]


def test_a_key_that_does_not_exist_is_named():
    _, mercure = make()
    with pytest.raises(ValueError, match='write "publisher_secret_key" or "subscriber_secret_key"'):
        mercure.create_jwt("foo", publish=["*"])


class TestExpiryOfThePublishersToken:
    @pytest.fixture
    def warnings(self, caplog):
        return lambda: [record.message for record in caplog.records if "MERCURE_PUBLISHER_JWT" in record.message]

    def make(self, token, lifetime, **settings):
        jwt = token.sign(
            {"mercure": {"publish": ["*"]}, **({} if lifetime is None else {"exp": time.time() + lifetime})}
        )
        return make(hub_url=HUB, publisher_jwt=jwt, **settings)

    @pytest.mark.parametrize(("lifetime", "said"), [(-60, "has expired at 20"), (3600, "expires at 20")])
    def test_it_is_warned_of_at_the_start(self, lifetime, said, token, warnings):
        _, mercure = self.make(token, lifetime)
        (warning,) = warnings()
        assert f"MERCURE_PUBLISHER_JWT {said}" in warning
        assert "flask mercure publisher-jwt" in warning
        assert mercure.state.publisher_jwt not in warning
        assert len(warnings()) == 1

    @pytest.mark.parametrize("lifetime", [None, 30 * 24 * 3600])
    def test_a_token_that_lasts_is_not(self, lifetime, token, warnings):
        _, mercure = self.make(token, lifetime)
        assert mercure.state.publisher_jwt
        assert warnings() == []

    def test_nor_is_one_that_the_embedded_hub_makes_superfluous(self, token, warnings):
        self.make(token, -60, hub=True)
        assert warnings() == []

    def test_a_process_that_lasts_longer_than_its_token_is_warned_when_it_publishes(self, token, warnings, monkeypatch):
        _, mercure = self.make(token, 30 * 24 * 3600)
        monkeypatch.setattr(authorization, "SOON", timedelta(days=31))
        for _ in range(2):
            assert mercure.state.publisher_jwt
        assert len(warnings()) == 1


@pytest.mark.parametrize("kind", [str, lambda text: (text, 200, {"X-Kind": "tuple"}), Response])
def test_the_cookie_goes_with_whatever_a_view_may_return(kind):
    app = Flask("returns")
    app.config.update(SECRET_KEY="k" * 32, MERCURE_HUB=True)
    mercure = MercureSSE(app)
    app.add_url_rule("/in", "in", lambda: mercure.set_authz_cookie(kind("a page"), topics=["/users/7"]))
    app.add_url_rule("/out", "out", lambda: mercure.delete_authz_cookie(kind("a page")))
    client = app.test_client()
    page = client.get("/in")
    assert page.text == "a page"
    assert page.headers["Set-Cookie"].startswith("mercureAuthorization=ey")
    assert ("X-Kind" in page.headers) == (kind not in (str, Response))
    assert client.get("/out").headers["Set-Cookie"].startswith("mercureAuthorization=;")
