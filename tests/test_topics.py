"""Values in topics never select other topics, and the log warns of unmarked selectors."""

import logging
from string import Formatter
from urllib.parse import unquote

import pytest
from flask import Flask, Response, render_template_string
from hypothesis import given
from hypothesis import strategies as st

import flask_mercure_sse
from flask_mercure_sse import MercureSSE, Selector, URLPattern, as_topic, topic
from flask_mercure_sse.grants import CALL_SITES_MAX

SELECTING = ["*", "b*", "bo*", "{x}", "{+x}", "{/x*}", "b{x}", "bob/../*", "bob/{x}"]
"""Names that users may have, and that select the topics of others where they are put in as they are."""


def test_the_helper_is_where_applications_look_for_it():
    assert flask_mercure_sse.topic("/users/{}", 7) == MercureSSE.topic("/users/{}", 7) == "/users/7"


@pytest.mark.parametrize(
    ("arguments", "named", "made"),
    [
        (("news",), {}, "news"),
        (("/users/{}", "alice"), {}, "/users/alice"),
        (("/users/{}/{}", "a b", 7), {}, "/users/a%20b/7"),
        (("/{1}/{0}", "a", "b"), {}, "/b/a"),
        (("https://example.com/{kind}/{id}?x={id}",), {"kind": "é", "id": "a/b?c#d"}, None),
        (("/{}", b"\xc3\xa9"), {}, "/%C3%A9"),
        (("/{}", "%2A"), {}, "/%252A"),
        (("/a/{}.txt", "."), {}, "/a/..txt"),
        (("/{}", Selector("*")), {}, "/%2A"),
        (("chat/{}", "\n\0\u2028"), {}, "chat/%0A%00%E2%80%A8"),
    ],
)
def test_values_are_percent_encoded_whole(arguments, named, made):
    assert topic(*arguments, **named) == (made or "https://example.com/%C3%A9/a%2Fb%3Fc%23d?x=a%2Fb%3Fc%23d")


@pytest.mark.parametrize(
    ("arguments", "named", "problem"),
    [
        (("/users/{}", ""), {}, "None or empty"),
        (("/users/{}", None), {}, "None or empty"),
        (("/users/{}", ".."), {}, "a segment of dots"),
        (("/users/.{}/x", "."), {}, "a segment of dots"),
        (("{}", "."), {}, "a segment of dots"),
        (("/users/{}",), {}, "no value for {0}"),
        (("/users/{id}",), {}, "no value for {id}"),
        (("/users/{id.x}",), {"id": 1}, "no value for {id.x}"),
        (("/users/{id:x}",), {"id": 1}, "without a format"),
        (("/users/{id!r}",), {"id": 1}, "without a format"),
        (("/users/{}", 1, 2), {}, "for one of the values"),
        (("/users/{}", 1), {"id": 1}, "for one of the values"),
        (("/users/{}/*", 1), {}, "no braces and no"),
        (("*",), {}, "no braces and no"),
        (("/users/{}/{{x}}", 1), {}, "no braces and no"),
        (("/users/{", 1), {}, "'{'"),
        (("/users/{}", "\ud800"), {}, "surrogates"),
    ],
)
def test_what_is_no_topic_is_refused(arguments, named, problem):
    with pytest.raises(ValueError, match=problem):
        topic(*arguments, **named)


@pytest.mark.parametrize("name", SELECTING)
def test_a_name_in_an_f_string_cannot_be_made_safe_later(name):
    with pytest.raises(ValueError, match="topic: "):
        topic(f"/users/{name}")


@given(st.text(min_size=1, max_size=8).filter(lambda text: text not in (".", "..")))
def test_no_value_is_a_selector_and_none_is_lost(value):
    made = topic("/users/{}", value)
    assert not set(made) & set("*{}")
    assert made.count("/") == 2
    assert unquote(made.removeprefix("/users/")) == value


@pytest.mark.parametrize("name", SELECTING)
def test_a_token_for_a_topic_with_a_value_opens_no_other(name, app, mercure, mercure_subscriber):
    own = topic("/users/{}", name)
    jwt = mercure.create_subscription_jwt(own)
    reader = mercure_subscriber(["/users/{x}", "*", own], mercure=mercure, jwt=jwt)
    mercure.publish("/users/bob", "for bob", private=True)
    mercure.publish(topic("/users/{}", "bob"), "for bob", private=True)
    mercure.publish(own, "for its bearer", private=True)
    assert [event.data for event in reader.received(1)] == ["for its bearer"]


@pytest.mark.parametrize("name", SELECTING)
def test_who_is_subscribed_is_asked_for_one_topic(name, mercure):
    with mercure.subscribe(topic("/users/{}", "bob")):
        assert not mercure.is_connected(topic("/users/{}", name))
        assert "*" not in mercure.subscription_topic(f"/users/{name}")
        assert not Formatter().parse(mercure.subscription_topic(f"/users/{name}")).__next__()[1]


def test_templates_have_it_too(app, mercure):
    with app.test_request_context():
        made = [
            render_template_string("{{ mercure_topic('/users/{}', name) }}", name="b*"),
            render_template_string("{{ mercure_topic('/users/{name}', name=name) }}", name="b*"),
            render_template_string("{{ mercure_hub_url(mercure_topic('/users/{}', name)) }}", name="b*"),
        ]
        former = render_template_string("{{ mercure_topic(book) }}", book=Book("/books/{id}"))
    assert made[:2] == ["/users/b%2A"] * 2
    assert made[2].endswith("?topic=%2Fusers%2Fb%252A")
    assert former == "/books/{id}"


class Book:
    def __init__(self, topic):
        self.__mercure_sse_topic__ = topic


class TestWarning:
    @pytest.fixture
    def warnings(self, caplog):
        caplog.set_level(logging.WARNING)
        return lambda: [record.message for record in caplog.records if "nothing marks as intended" in record.message]

    CALLS = (
        lambda mercure, granted: mercure.create_subscription_jwt(granted),
        lambda mercure, granted: mercure.create_jwt("subscriber_secret_key", subscribe=granted),
        lambda mercure, granted: mercure.set_authz_cookie(Response(), granted),
        lambda mercure, granted: mercure.authentified_hub_url(granted),
        lambda mercure, granted: mercure.authentified_hub_url(granted, with_subscriptions=True),
        lambda mercure, granted: mercure.subscribe(granted).close(),
        lambda mercure, granted: render_template_string("{{ mercure_subscriber_jwt(granted) }}", granted=granted),
        lambda mercure, granted: render_template_string("{{ mercure_authentified_hub_url(x) }}", x=granted),
    )

    @pytest.mark.parametrize("call", CALLS)
    @pytest.mark.parametrize("name", SELECTING)
    def test_a_selector_that_nobody_has_marked_is_warned_of(self, name, call, app, mercure, warnings):
        with app.test_request_context():
            call(mercure, [f"/users/{name}"])
            (warning,) = warnings()
            assert f"/users/{name}" not in warning
            assert "mercure.topic(" in warning
            call(mercure, [f"/users/{name}"])
        # Once for each line and kind.
        assert warnings() == [warning]

    def test_templates_mark_theirs_too(self, app, mercure, warnings):
        with app.test_request_context():
            render_template_string("{{ mercure_subscriber_jwt(mercure_selector('/books/{id}')) }}")
        assert warnings() == []

    @pytest.mark.parametrize("call", CALLS)
    @pytest.mark.parametrize(
        "granted",
        [
            "/users/7",
            ["/users/7", "a}b{c", "*a", "{}"],
            topic("/users/{}", "*"),
            Selector("*"),
            [Selector("/books/{id}"), Selector("/users/*")],
            Book(Selector("/books/{id}")),
        ],
    )
    def test_topics_and_what_is_marked_are_not(self, granted, call, app, mercure, warnings):
        with app.test_request_context():
            call(mercure, granted)
        assert warnings() == []

    def test_what_the_extension_grants_by_itself_is_not(self, app, mercure, warnings):
        with app.test_request_context():
            mercure.set_authz_cookie(Response())
            mercure.authentified_hub_url()
            mercure.create_jwt("publisher_secret_key", publish=["*"])
            assert mercure.state.publisher_jwt
            with mercure.subscribe(mercure.subscription_topic("a")):
                mercure.get_subscriptions("a*")
        assert warnings() == []

    def test_each_line_and_each_kind_has_its_own(self, app, mercure, warnings):
        for granted in ("a*", "{b}", "*", "c*"):
            mercure.create_subscription_jwt(granted)
        mercure.create_subscription_jwt("a*")
        mercure.create_subscription_jwt(Book("a*"))
        mercure.create_jwt("publisher_secret_key", publish=["a*"])
        found = warnings()
        assert [__file__ in each for each in found] == [True] * 6
        assert len(set(found)) == 6
        assert [('"*"' in each, "braces" in each) for each in found[:3]] == [
            (False, False),
            (False, True),
            (True, False),
        ]

    def test_code_that_is_made_at_run_time_does_not_fill_the_memory(self, mercure, warnings):
        for number in range(CALL_SITES_MAX + 5):
            exec(compile("mercure.create_subscription_jwt('a*')", f"made{number}", "exec"), {"mercure": mercure})
        assert len(mercure.state.authorization.selectors.warned) == len(warnings()) == CALL_SITES_MAX

    def test_in_1_0_only_the_wildcard_is_wider_than_it_looks(self, token, warnings):
        app = Flask("current")
        app.config["SECRET_KEY"] = "k" * 32
        mercure = MercureSSE(app, protocol="1.0", hub_url="https://hub.example.com/.well-known/mercure")
        names = ["/users/*", "/users/{x}", "/users/:id", "(.*)"]
        jwt = mercure.create_subscription_jwt([*names, URLPattern("/books/:id"), Selector("*")])
        (detail,) = token.claims(jwt, "k" * 32)["authorization_details"]
        exact = [{"match": name} for name in names]
        assert detail["topics"] == [*exact, {"match": "/books/:id", "match_type": "urlpattern"}, {"match": "*"}]
        assert warnings() == []
        mercure.create_subscription_jwt("*")
        assert len(warnings()) == 1


@pytest.mark.parametrize("selector", ["/books/{id}", "/books/*"])
def test_selectors_of_0_x_are_refused_in_1_0(selector):
    app = Flask("current")
    app.config["SECRET_KEY"] = "k" * 32
    mercure = MercureSSE(app, protocol="1.0", hub_url="https://hub.example.com/.well-known/mercure")
    for refused in (mercure.create_subscription_jwt, mercure.hub_url):
        with pytest.raises(ValueError, match="write a URLPattern"):
            refused(Selector(selector))
    assert mercure.hub_url(Selector("*")).endswith("?match=%2A")


def test_topics_of_0_x_tokens_may_be_objects_of_the_application(token):
    app = Flask("objects")
    app.config["SECRET_KEY"] = "k" * 32
    jwt = MercureSSE(app).create_jwt("subscriber_secret_key", subscribe=[Book("/books/1"), 7], publish="a")
    assert token.claims(jwt, "k" * 32)["mercure"] == {"subscribe": ["/books/1", "7"], "publish": ["a"]}


def test_marks_of_objects_are_kept():
    assert type(as_topic(Book(URLPattern("/books/:id")))) is URLPattern
    assert type(as_topic(Book(Selector("*")))) is Selector
