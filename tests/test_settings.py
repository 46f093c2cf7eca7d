"""Where settings come from, and what is said about wrong ones."""

import base64
import secrets

import pytest
from flask import Flask

from flask_mercure_sse import MercureSSE
from flask_mercure_sse.values import parse_key
from key_spellings import pem, spellings


def state(config=None, **settings):
    app = Flask("settings")
    app.config.update(config or {})
    MercureSSE(app, **settings)
    return app.extensions["mercure_sse"]


def test_config_wins_over_keywords_and_keywords_over_defaults():
    assert state().authz_cookie_name == "mercureAuthorization"
    assert state(authz_cookie_name="keyword").authz_cookie_name == "keyword"
    assert state({"MERCURE_AUTHZ_COOKIE_NAME": "config"}, authz_cookie_name="keyword").authz_cookie_name == "config"
    assert state({"MERCURE_HUB_URL": None}, hub_url="https://hub.example/x").hub_url is None, "a key that is there wins"


def test_secrets_come_from_config_keyword_environment_and_secret_key(monkeypatch):
    assert state({"SECRET_KEY": "app"}).subscriber_secret_key == "app"
    monkeypatch.setenv("MERCURE_SUBSCRIBER_JWT_KEY", "environment")
    assert state({"SECRET_KEY": "app"}).subscriber_secret_key == "environment"
    assert state({"SECRET_KEY": "app"}, subscriber_secret_key="keyword").subscriber_secret_key == "keyword"
    config = {"MERCURE_SUBSCRIBER_SECRET_KEY": "config"}
    assert state(config, subscriber_secret_key="keyword").subscriber_secret_key == "config"
    assert state({"MERCURE_PUBLISHER_SECRET_KEY": "config"}).publisher_secret_key == "config"


def test_switches_and_numbers_may_be_text():
    parsed = state(
        {
            "MERCURE_HUB": "off",
            "MERCURE_HUB_ALLOW_ANONYMOUS": "False",
            "MERCURE_HUB_KEEPALIVE_INTERVAL": "2.5",
            "MERCURE_HUB_RETRY_INTERVAL": "0",
            "MERCURE_HUB_RECONCILIATION_LENGTH": "10",
        }
    )
    assert (parsed.hub, parsed.hub_allow_anonymous) == (False, False)
    assert (parsed.hub_keepalive_interval, parsed.hub_retry_interval, parsed.hub_reconciliation_length) == (2.5, 0, 10)


@pytest.mark.parametrize(
    ("key", "value", "advice"),
    [
        ("MERCURE_HUB", "maybe", "write true or false"),
        ("MERCURE_HUB_KEEPALIVE_INTERVAL", "soon", "write a number, 0 or more"),
        ("MERCURE_HUB_KEEPALIVE_INTERVAL", -1, "write a number, 0 or more"),
        ("MERCURE_HUB_RECONCILIATION_LENGTH", float("nan"), "write a whole number, 0 or more"),
        ("MERCURE_HUB_URL", "hub.example", "write the hub's URL"),
        ("MERCURE_HUB_URL", "ftp://hub.example/x", "write the hub's URL"),
        ("MERCURE_PUBLIC_HUB_URL", 5, "write the hub's URL"),
        ("MERCURE_HUB_URL", "https://user:password@hub.example/x", "write the hub's URL"),
        ("MERCURE_HUB_URL", "https://hub..example/x", "write the hub's URL"),
        ("MERCURE_HUB_URL", f"https://{'l' * 64}.example/x", "write the hub's URL"),
        ("MERCURE_HUB_URL", "https://hub.example/é", "write the hub's URL"),
        ("MERCURE_HUB_URL", "/.well-known/mercure", "write the hub's URL"),
        ("MERCURE_AUTHZ_COOKIE_NAME", 5, "write a text"),
        ("MERCURE_AUTHZ_COOKIE_NAME", "__Host-token", "write another name"),
        ("MERCURE_PUBLISHER_JWT", b"token", "write a token"),
        ("MERCURE_PUBLISHER_JWT", "töken", "write a token"),
        (
            "MERCURE_SUBSCRIBER_SECRET_KEY",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
            "the PEM document",
        ),
        ("SECRET_KEY", 12345, "write a text or bytes"),
        ("MERCURE_SUBSCRIBER_SECRET_KEY", ["x"], "write a text or bytes"),
        ("MERCURE_PROTOCOL", "2.0", 'write "0.x" or "1.0"'),
        ("MERCURE_JWT_TTL", "a day", "write a whole number, 0 or more"),
        ("MERCURE_JWT_TTL", 0.5, "write a whole number, 0 or more"),
        ("MERCURE_JWT_TTL", 2**52, "write a whole number, 0 or more, up to"),
        ("MERCURE_JWT_TTL", True, "write a whole number, 0 or more"),
        ("MERCURE_JWT_TTL", None, "write a whole number, 0 or more"),
        ("MERCURE_CONNECT_TIMEOUT", 1e12, "write a number, 0 or more, up to"),
        ("MERCURE_CONNECT_TIMEOUT", 0, "write a number above 0"),
        ("MERCURE_READ_TIMEOUT", "x", "write a number, 0 or more"),
        ("MERCURE_PUBLISH_BACKGROUND", "perhaps", "write true or false"),
        ("MERCURE_PUBLISH_QUEUE_LENGTH", 0, "write a whole number, 1 or more"),
        ("MERCURE_AUTHZ_COOKIE_NAME", "semi;colon", "write letters"),
    ],
)
def test_a_wrong_setting_is_named_at_start(key, value, advice):
    with pytest.raises(ValueError, match=f"^{key}: {advice}"):
        state({key: value})


def test_a_keyword_that_is_no_setting_is_named():
    with pytest.raises(TypeError, match="hub_ulr"):
        MercureSSE(Flask("typo"), hub_ulr="x")


def test_a_setting_that_the_hub_refuses_is_explained():
    app = Flask("port")
    app.config["SERVER_NAME"] = "app.example:port"
    mercure = MercureSSE(app, hub=True)
    with pytest.raises(ValueError, match="the embedded Mercure hub cannot start: public_url"):
        mercure.publish("a", "b")


def test_an_application_has_the_extension_once():
    app = Flask("twice")
    mercure = MercureSSE(app)
    with pytest.raises(RuntimeError, match="'twice' has MercureSSE already"):
        mercure.init_app(app)


def test_another_extensions_application_is_not_used():
    app = Flask("first")
    MercureSSE(app)
    with app.app_context(), pytest.raises(RuntimeError, match="call init_app"):
        MercureSSE().hub_url("a")


def test_secrets_are_not_shown():
    shown = repr(state({"SECRET_KEY": "hidden-secret"}, publisher_jwt="hidden-token"))
    assert "hidden" not in shown


def test_a_setting_that_was_read_cannot_be_changed_by_assignment():
    parsed = state(public_hub_url="https://hub.example/x")
    with pytest.raises(AttributeError, match=r"hub_url is read once, by init_app\(\): set MERCURE_PUBLIC_HUB_URL"):
        parsed.public_hub_url = "https://other.example/x"
    assert parsed.public_hub_url == "https://hub.example/x"
    with pytest.raises(AttributeError, match="hub_ulr"):
        _ = parsed.hub_ulr


def test_no_hub_needs_an_application():
    with pytest.raises(RuntimeError, match="call init_app"):
        MercureSSE().publish("a", "b")


def test_tokens_of_1_0_need_a_lifetime():
    with pytest.raises(ValueError, match=r"^MERCURE_JWT_TTL: tokens of protocol 1\.0 expire"):
        state({"MERCURE_PROTOCOL": "1.0", "MERCURE_JWT_TTL": 0})


def test_none_is_no_and_nothing_where_it_is_given():
    assert state().hub_allow_anonymous is True
    assert state(hub_allow_anonymous=None).hub_allow_anonymous is False
    assert state({"SECRET_KEY": "app", "MERCURE_SUBSCRIBER_SECRET_KEY": None}).subscriber_secret_key is None
    assert state({"SECRET_KEY": "app"}, subscriber_secret_key=None).subscriber_secret_key == "app"


def test_a_schemes_capitals_and_the_public_urls_of_0_4_1_are_taken():
    assert state(hub_url="HTTPS://Hub.example/x/").hub_url == "https://Hub.example/x"
    for url in ("/.well-known/mercure", "//hub.example/x", True):
        assert state(public_hub_url=url).public_hub_url == url


def test_the_embedded_hub_keeps_its_keys_and_tokens_are_signed_with_them(caplog):
    app = Flask("changed")
    app.config["SECRET_KEY"] = "1" * 32
    mercure = MercureSSE(app, hub=True)
    mercure.publish("a", "b")
    app.config["SECRET_KEY"] = "2" * 32
    assert mercure.get_subscriptions("a")["subscriptions"] == []
    with mercure.subscribe("a", jwt=mercure.create_subscription_jwt("a")):
        assert mercure.is_connected("a")
    assert "the hub keeps the former key" in caplog.text


def test_tests_publish_on_no_hub_elsewhere_unless_they_say_so(fake_hub):
    app = Flask("tested")
    app.testing = True
    mercure = MercureSSE(app, hub_url="https://production.example/.well-known/mercure")
    assert mercure.hub is not None
    assert mercure.publish("a", "b").startswith("urn:uuid:")
    app = Flask("integration")
    app.testing = True
    assert MercureSSE(app, hub_url="https://staging.example/.well-known/mercure", hub=False).hub is None


@pytest.mark.parametrize("name", ["rsa.pub.pem", "ed25519.pub.pem", "p256.crt.pem", "p256.pem"])
def test_no_spelling_of_a_key_becomes_a_secret(name, monkeypatch):
    document = pem(name)
    for spelling, key in spellings(document).items():
        for config, keywords in (
            ({"SECRET_KEY": key}, {}),
            ({"MERCURE_PUBLISHER_SECRET_KEY": key}, {}),
            ({}, {"subscriber_secret_key": key}),
        ):
            setting = next(iter(config), "MERCURE_SUBSCRIBER_SECRET_KEY")
            with pytest.raises(ValueError, match=f"^{setting}: this is a ") as error:
                state(config, **keywords)
            assert "give" in str(error.value), spelling
            assert document.splitlines()[1][:16] not in str(error.value), spelling
        if isinstance(key, str) and "\0" not in key:
            monkeypatch.setenv("MERCURE_PUBLISHER_JWT_KEY", key)
            with pytest.raises(ValueError, match=r"^MERCURE_PUBLISHER_JWT_KEY: this is a "):
                state({"SECRET_KEY": "s" * 32})
            monkeypatch.delenv("MERCURE_PUBLISHER_JWT_KEY")


def test_a_key_that_is_set_later_is_looked_at_too():
    parsed = state()
    line = "".join(pem("rsa.pub.pem").splitlines()[1:-1])
    with pytest.raises(ValueError, match=r"^MERCURE_SUBSCRIBER_SECRET_KEY: this is a public key"):
        parsed.subscriber_secret_key = line
    parsed.app.config["SECRET_KEY"] = line
    with pytest.raises(ValueError, match=r"^SECRET_KEY: this is a public key"):
        parsed.instance.create_subscription_jwt("a")


@pytest.mark.parametrize("line_break", ["\\n", "\\r\\n", " ", "\r\n"])
def test_a_pem_document_is_taken_however_its_lines_are_broken(line_break, monkeypatch):
    document = pem("p256.pub.pem").replace("\n", line_break)
    monkeypatch.setenv("MERCURE_SUBSCRIBER_JWT_KEY", document)
    app = Flask("pem")
    app.testing = True
    mercure = MercureSSE(app, publisher_secret_key="p" * 32)
    assert app.extensions["mercure_sse"].subscriber_secret_key == document
    assert mercure.publish("a", "b").startswith("urn:uuid:"), "the embedded hub takes it, too"


def test_random_secrets_are_taken():
    for length in (*range(16, 80), 256, 1024):
        key = secrets.token_bytes(length)
        for secret in (key, key.hex(), base64.b64encode(key).decode(), base64.urlsafe_b64encode(key), f"M{key.hex()}"):
            assert parse_key("SECRET_KEY", secret) == secret
    assert state({"SECRET_KEY": secret}).publisher_secret_key == secret


def test_a_text_that_is_none_is_named_and_not_shown():
    with pytest.raises(ValueError, match=r"^SECRET_KEY: write bytes, or a text that UTF-8 can hold$"):
        state({"SECRET_KEY": "hidden\udc80"})


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("dev", "the secret is an example from public documentation"),
        ("!ChangeThisMercureHubJWTSecretKey!", "the secret is an example from public documentation"),
        (b"short-and-hidden", "the secret is shorter than 32 bytes"),
    ],
)
def test_a_weak_secret_is_warned_of_once_outside_debug_and_testing_mode(key, said, caplog):
    shown = key.decode() if isinstance(key, bytes) else key
    for mode in ("debug", "testing"):
        app = Flask("weak")
        app.config["SECRET_KEY"] = key
        mercure = MercureSSE(app)
        setattr(app, mode, True)  # as late as applications set it
        mercure.create_subscription_jwt("a")
        mercure.publish("a", "b")
        assert caplog.text == ""
    app = Flask("weak")
    mercure = MercureSSE(app, subscriber_secret_key=key, publisher_secret_key="p" * 32, hub=True)
    for _ in range(3):
        mercure.create_subscription_jwt("a")
    mercure.publish("a", "b")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    message = caplog.records[0].getMessage()
    assert message.startswith(f"MERCURE_SUBSCRIBER_SECRET_KEY: {said}")
    assert "openssl rand" in message
    assert f" {shown} " not in message
    caplog.clear()
    MercureSSE(Flask("default"), subscriber_secret_key="s" * 32)
    app = Flask("both")
    app.config["SECRET_KEY"] = key
    MercureSSE(app).create_subscription_jwt("a")
    assert caplog.records[0].getMessage().startswith(f"SECRET_KEY: {said}")


def test_one_good_secret_for_both_roles_is_the_default_and_not_warned_of(caplog):
    app = Flask("default")
    app.config["SECRET_KEY"] = "0123456789abcdef" * 2
    MercureSSE(app, hub=True).publish("a", "b")
    assert caplog.text == ""
