"""Hub URLs name only hosts that the application knows, even if a client writes another one into Host."""

import pytest
from flask import Flask, Response, render_template_string
from werkzeug.exceptions import BadRequest

from flask_mercure_sse import MercureSSE

FOREIGN = ["evil.example", "example.com.evil.example", "evilexample.com", "127.0.0.1:5000"]
OWN = ["example.com", "app.example.com", "app.example.com:8443"]


def make(**config):
    app = Flask("hosts")
    app.config.update(SECRET_KEY="k" * 32, MERCURE_HUB=True, **config)
    return app, MercureSSE(app)


CALLS = {
    "authentified_hub_url": lambda mercure: mercure.authentified_hub_url("a"),
    "hub_url": lambda mercure: mercure.hub_url("a"),
    "set_authz_cookie": lambda mercure: mercure.set_authz_cookie(Response()).headers["Set-Cookie"],
    "add_link": lambda mercure: mercure.add_link(Response()).headers["Link"],
    "a template": lambda _: render_template_string("{{ mercure_authentified_hub_url('a') }}"),
}


@pytest.mark.parametrize("host", FOREIGN)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_untrusted_host_gets_nothing(call, host):
    app, mercure = make(TRUSTED_HOSTS=["example.com", ".example.com"])
    app.add_url_rule("/", "index", lambda: call(mercure))
    app.before_request(lambda: (call(mercure), None)[1])
    refused = app.test_client().get("/", headers={"Host": host})
    assert refused.status_code == 400
    assert "authorization=" not in refused.text
    assert not refused.headers.getlist("Set-Cookie")


@pytest.mark.parametrize("host", FOREIGN)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_the_setting_counts_where_flask_does_not_know_it(call, host):
    app, mercure = make()
    with app.test_request_context(headers={"Host": host}):
        assert call(mercure)
        # Flask 3.0 has looked at nothing.
        app.config["TRUSTED_HOSTS"] = ["example.com", ".example.com"]
        with pytest.raises(BadRequest):
            call(mercure)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_embedded_hub_answers_no_untrusted_host(method, app, mercure):
    client = app.test_client()
    assert client.open("/.well-known/mercure", method=method, headers={"Host": "evil.example"}).status_code != 200
    app.config["TRUSTED_HOSTS"] = ["example.com"]
    refused = client.open("/.well-known/mercure", method=method, headers={"Host": "evil.example"})
    assert refused.status_code == 400
    assert refused.content_type.startswith("text/html"), "no answer of the hub"


@pytest.mark.parametrize("host", OWN)
def test_trusted_hosts_get_what_they_ask_for(host):
    app, mercure = make(TRUSTED_HOSTS=["example.com", ".example.com"])
    with app.test_request_context(base_url=f"https://{host}"):
        assert mercure.hub_url("a") == f"https://{host}/.well-known/mercure?topic=a"


@pytest.mark.filterwarnings("ignore:Current server name")  # Werkzeug 3.0
@pytest.mark.parametrize("call", [CALLS["authentified_hub_url"], CALLS["add_link"]])
def test_server_name_binds_the_urls_of_requests(call):
    app, mercure = make(SERVER_NAME="example.com")
    for host in [*FOREIGN, OWN[2]]:
        with app.test_request_context(base_url=f"https://{host}"):
            assert "https://example.com/.well-known/mercure" in call(mercure)
    for host in OWN[:2]:
        with app.test_request_context(base_url=f"https://{host}"):
            assert f"https://{host}/.well-known/mercure" in call(mercure)
    app.config["SERVER_NAME"] = "example.com:443"
    with app.test_request_context(base_url="https://example.com"):
        assert "https://example.com/.well-known/mercure" in call(mercure)


def test_a_public_url_binds_them():
    app, mercure = make(MERCURE_PUBLIC_HUB_URL="https://example.com/.well-known/mercure")
    for host in FOREIGN:
        with app.test_request_context(base_url=f"https://{host}"):
            assert mercure.authentified_hub_url("a").startswith("https://example.com/.well-known/mercure?")
