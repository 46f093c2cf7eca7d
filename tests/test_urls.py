"""Subscription URLs, in Python and in templates."""

import json
import re
from collections import namedtuple
from html.parser import HTMLParser

import pytest
from flask import Flask, Response, render_template_string
from werkzeug.exceptions import BadRequest

from flask_mercure_sse import HUB_URL_FROM_REQUEST, MercureSSE

NASTY = "\"'</script><b>&amp;\\ é\u2028{id}"


def make(**settings):
    app = Flask("urls")
    app.config["SECRET_KEY"] = "k" * 32
    return app, MercureSSE(app, **settings)


@pytest.mark.parametrize("topics", ["", ["/a", ""]])
def test_an_empty_topic_is_an_error_and_no_silent_stream(topics):
    _, mercure = make(hub_url="https://hub.example/.well-known/mercure")
    for url in (mercure.hub_url, mercure.authentified_hub_url):
        with pytest.raises(ValueError, match="topics: a topic is empty"):
            url(topics)


def test_topics_are_encoded_once_and_the_url_is_a_plain_string():
    _, mercure = make(hub_url="https://hub.example/.well-known/mercure")
    url = mercure.hub_url(["https://example.com/{id}", "a&b"], "j.w.t")
    assert type(url) is str
    assert url == (
        "https://hub.example/.well-known/mercure?topic=https%3A%2F%2Fexample.com%2F%7Bid%7D&topic=a%26b&authorization=j.w.t"
    )


def test_the_hub_is_found_in_the_documented_places():
    _, mercure = make()
    assert mercure.hub_base_url() == "http://localhost:5500/.well-known/mercure"
    _, mercure = make(public_hub_url="https://public.example/hub")
    assert mercure.hub_base_url() == "https://public.example/hub"
    assert mercure.hub_base_url(public=False) == "http://localhost:5500/.well-known/mercure"
    app, mercure = make(hub_url=HUB_URL_FROM_REQUEST)
    with app.test_request_context(base_url="https://app.example:8443"):
        assert mercure.hub_base_url() == "https://app.example:8443/.well-known/mercure"
    app, mercure = make(public_hub_url="https://public.example/hub", hub=True)
    with app.test_request_context():
        assert mercure.hub_base_url() == "https://public.example/hub", "embedded for good, behind a proxy"
    app, mercure = make(public_hub_url="https://public.example/hub")
    app.debug = True
    with app.test_request_context(base_url="http://localhost:5000"):
        assert mercure.hub_base_url() == "http://localhost:5000/.well-known/mercure", "the embedded hub is used"


def test_an_external_hub_is_used_in_debug_mode_too():
    app, mercure = make(hub_url="https://hub.example/.well-known/mercure")
    app.debug = True
    assert mercure.hub is None
    assert mercure.hub_url("a").startswith("https://hub.example/")


def test_outside_of_a_request_the_error_says_what_to_set():
    app, mercure = make(hub=True)
    with pytest.raises(RuntimeError, match="SERVER_NAME or MERCURE_HUB_URL"):
        mercure.hub_url("a")
    app.config["SERVER_NAME"] = "app.example"
    with app.app_context():
        assert mercure.hub_url("a") == "http://app.example/.well-known/mercure?topic=a"


def test_a_host_header_cannot_inject_anything():
    app, mercure = make(hub=True)
    for host in ('evil.example"', "a<b", "a'b", "a b", "a/b"):
        with app.test_request_context(headers={"Host": host}), pytest.raises(BadRequest):
            mercure.hub_url("a")


@pytest.mark.parametrize("call", ["mercure_hub_url(topics)", "mercure_authentified_hub_url(topics)"])
def test_templates_get_the_same_url_in_scripts_and_attributes(call, token):
    app, mercure = make(hub=True)
    template = f'<script>const url = "{{{{ {call} }}}}";</script><a href="{{{{ {call} }}}}">x</a>'
    topics = ["a", NASTY, "copy", "para"]
    with app.test_request_context():
        page = render_template_string(template, topics=topics)
        expected = mercure.hub_url(topics) if "authentified" not in call else mercure.authentified_hub_url(topics)
    in_script = re.search(r'url = (".*?");', page)
    assert in_script is not None
    assert json.loads(in_script[1]) == expected
    links = []

    class Links(HTMLParser):
        def handle_starttag(self, tag, attributes):
            links.extend(value for name, value in attributes if name == "href")

    Links().feed(page)
    assert links == [expected]
    assert page.count("</script>") == 1


def test_with_subscriptions_adds_their_topics_and_the_token_grants_them(token):
    app, mercure = make(hub=True)
    with app.test_request_context():
        for topics in ("room/1", ("room/1",), ["room/1"]):
            url = mercure.authentified_hub_url(topics, with_subscriptions=True)
            events = "/.well-known/mercure/subscriptions/room%2F1/{subscriber}"
            assert "topic=%2F.well-known%2Fmercure%2Fsubscriptions%2Froom%252F1%2F%7Bsubscriber%7D" in url
            jwt = url.rpartition("authorization=")[2]
            assert token.claims(jwt, "k" * 32)["mercure"]["subscribe"] == ["room/1", events]


@pytest.mark.parametrize(("topics", "granted"), [((), ["*"]), ((None,), []), (([],), []), (({}.keys(),), [])])
def test_a_token_grants_everything_only_where_topics_are_left_out(topics, granted, token):
    app, mercure = make(hub=True)
    with app.test_request_context():
        cookie = mercure.set_authz_cookie(Response(), *topics).headers["Set-Cookie"]
        in_cookie = cookie.partition("=")[2].partition(";")[0]
        in_url = mercure.authentified_hub_url(*topics).rpartition("authorization=")[2]
    for jwt in (in_cookie, in_url):
        assert token.claims(jwt, "k" * 32)["mercure"]["subscribe"] == granted


@pytest.mark.parametrize(
    "call",
    [
        "mercure_hub_url(forgotten)",
        "mercure_hub_url(['a', forgotten])",
        "mercure_authentified_hub_url(forgotten)",
        "mercure_subscriber_jwt(forgotten)",
        "mercure_topic('/users/{}', forgotten)",
        "mercure_turbo_stream(forgotten, private=True)",
        "mercure_datastar_stream(forgotten)",
    ],
)
def test_a_variable_that_a_template_lacks_is_no_topic(call):
    app, _ = make(hub=True)
    with app.test_request_context(), pytest.raises(ValueError, match="the template has no value for forgotten"):
        render_template_string("{{ " + call + " }}")


@pytest.mark.parametrize("call", ["hub_url", "authentified_hub_url", "create_subscription_jwt", "subscribe"])
def test_topics_that_can_be_read_only_once_are_refused(call):
    app, mercure = make(hub=True)
    topics = (f"/users/{number}" for number in range(3))
    with app.test_request_context(), pytest.raises(ValueError, match=r"write list\(\.\.\.\) around it"):
        getattr(mercure, call)(topics)


def test_objects_bring_their_topics(mercure, app):
    class Book:
        @property
        def __mercure_sse_topic__(self):
            return "/books/1"

    with app.test_request_context():
        assert mercure.hub_url(Book()).endswith("?topic=%2Fbooks%2F1")
        assert mercure.hub_url([Book(), 7]).endswith("?topic=%2Fbooks%2F1&topic=7")


def test_public_urls_may_lack_what_the_page_has():
    for public, expected in (
        (True, "https://app.example/.well-known/mercure"),
        ("/hub", "/hub"),
        ("//hub.example/x", "//hub.example/x"),
    ):
        app, mercure = make(hub_url="http://internal:5500/x", public_hub_url=public)
        with app.test_request_context(base_url="https://app.example"):
            assert mercure.hub_base_url() == expected
            assert mercure.add_link(Response()).headers["Link"] == f'<{expected}>; rel="mercure"'
        assert mercure.hub_base_url(public=False) == "http://internal:5500/x"


def test_an_embedded_hub_is_where_its_application_is_mounted():
    app, mercure = make(hub=True)
    with app.test_request_context(base_url="https://app.example/mount é"):
        assert mercure.hub_base_url() == "https://app.example/mount%20%C3%A9/.well-known/mercure"
        cookie = mercure.set_authz_cookie(Response()).headers["Set-Cookie"]
    assert "Path=/mount%20%C3%A9/.well-known/mercure;" in cookie
    app.config.update(SERVER_NAME="app.example", APPLICATION_ROOT="/mount/")
    with app.app_context():
        assert mercure.hub_base_url() == "http://app.example/mount/.well-known/mercure"


def test_the_topic_of_subscriptions_takes_the_names_of_0_4_1():
    app, mercure = make(hub=True)
    subscriber = namedtuple("Subscriber", "id")("urn:x:1")
    with app.test_request_context():
        rendered = [
            render_template_string(f"{{{{ mercure_subscription_topic('a', {argument}) }}}}", subscriber=subscriber)
            for argument in ("sub=subscriber", "subscriber", "subscriber=subscriber", "sub='urn:x:1'")
        ]
    assert set(rendered) == {mercure.subscription_topic("a", "urn:x:1")}
