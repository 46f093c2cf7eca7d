"""Turbo Streams: their HTML, their publication, and the element of a page that receives them."""

from __future__ import annotations

import html.parser
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from flask import Flask, render_template_string, stream_template_string
from jinja2 import DictLoader
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from clients import SECRET, Token
from flask_mercure_sse import MercureSSE, Update, turbo


class Base(DeclarativeBase):
    pass


class Message(Base):
    __tablename__ = "messages"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str]


TEMPLATES = {"_message.html": '<p id="message_{{ message.id }}">{{ message.text }}</p>'}


@pytest.fixture
def app() -> Flask:
    app = Flask("turbo")
    app.debug = True
    app.config["SECRET_KEY"] = SECRET
    app.jinja_loader = DictLoader(TEMPLATES)
    return app


@pytest.fixture
def updates(mercure: MercureSSE, stack: ExitStack) -> list[Update]:
    return stack.enter_context(mercure.capture())


@pytest.fixture
def session(stack: ExitStack) -> Iterator[Session]:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        yield session
    engine.dispose()


def tags(text: str) -> list[tuple[str, dict[str, str | None]]]:
    """The elements as a browser reads them."""
    found = []

    class Parser(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, dict(attrs)))

    Parser().feed(text)
    return found


@pytest.mark.parametrize("name", ["append", "prepend", "replace", "update", "before", "after"])
def test_an_action_has_its_html_in_a_template(mercure, updates, name):
    getattr(mercure.turbo, name)("/rooms/1", "messages", html="<p>Hello</p>")
    assert updates[0].data == (
        f'<turbo-stream action="{name}" target="messages"><template><p>Hello</p></template></turbo-stream>'
    )


def test_an_element_is_removed_and_a_page_refreshed_without_html(mercure, updates):
    mercure.turbo.remove("/rooms/1", "message_7")
    mercure.turbo.refresh("/rooms/1", method="morph", scroll="preserve")
    assert [update.data for update in updates] == [
        '<turbo-stream action="remove" target="message_7"></turbo-stream>',
        '<turbo-stream action="refresh" method="morph" scroll="preserve"></turbo-stream>',
    ]


def test_an_action_may_have_a_selector_and_morph(mercure, updates):
    mercure.turbo.update("/books", targets='li[data-id="7"] > b', method="morph", html="1")
    (name, attributes), *_ = tags(updates[0].data)
    assert name == "turbo-stream"
    assert attributes == {"action": "update", "targets": 'li[data-id="7"] > b', "method": "morph"}


def test_no_attribute_can_be_left(mercure, updates):
    hostile = """x"'><script>alert(1)</script>"""
    mercure.turbo.remove("/rooms/1", hostile)
    mercure.turbo.remove("/rooms/1", targets=hostile)
    mercure.turbo.refresh("/rooms/1", request_id=hostile)
    for update in updates:
        assert [name for name, _ in tags(update.data)] == ["turbo-stream"]
        assert hostile in tags(update.data)[0][1].values()


def test_a_template_is_rendered_with_its_values_which_are_escaped(mercure, updates):
    message = {"id": 7, "text": "<b>bold</b>"}
    mercure.turbo.append("/rooms/1", "messages", template="_message.html", message=message)
    assert '<p id="message_7">&lt;b&gt;bold&lt;/b&gt;</p>' in updates[0].data


def test_html_may_be_an_object_that_knows_its_html(mercure, updates):
    class Card:
        def __html__(self) -> str:
            return "<i>card</i>"

    mercure.turbo.append("/rooms/1", "messages", html=Card())
    assert "<template><i>card</i></template>" in updates[0].data


def test_several_actions_are_one_update(mercure, updates):
    given = mercure.turbo.stream(
        "/rooms/1",
        turbo.remove("typing"),
        turbo.append("messages", template="_message.html", message={"id": 1, "text": "Hello"}),
        private=True,
    )
    (update,) = updates
    assert (update.id, update.private) == (given, True)
    assert [attributes["action"] for name, attributes in tags(update.data) if name == "turbo-stream"] == [
        "remove",
        "append",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"target": "a", "targets": "b", "html": "c"},
        {"html": "c"},
        {"target": "a"},
        {"target": "a", "html": "c", "template": "_message.html"},
        {"target": "a", "html": "c", "message": 1},
    ],
)
def test_an_action_without_a_target_or_without_html_is_refused(mercure, updates, arguments):
    with pytest.raises(TypeError, match=r"give |only a template"):
        mercure.turbo.append("/rooms/1", **arguments)
    assert updates == []


@pytest.mark.parametrize("wrong", [b"bytes", ["a"], 7, {"a": 1}])
def test_what_is_no_html_is_refused(mercure, updates, wrong):
    with pytest.raises(TypeError, match="html: give a text or an object with __html__, and not "):
        mercure.turbo.append("/rooms/1", "messages", html=wrong)
    assert updates == []


@pytest.mark.parametrize("wrong", [[turbo.remove("a")], "<turbo-stream></turbo-stream>", None])
def test_what_is_no_action_is_refused(mercure, updates, wrong):
    with pytest.raises(TypeError, match=r"give actions one after the other, .*, and not (list|str|NoneType)"):
        mercure.turbo.stream("/rooms/1", turbo.remove("b"), wrong)
    assert updates == []


@pytest.mark.parametrize("name", ["append", "prepend", "replace", "update", "before", "after"])
def test_a_value_of_a_template_may_have_any_name(app, mercure, updates, name):
    app.jinja_loader = DictLoader({"_names.html": "{{ topic }} {{ target }} {{ method }} {{ other }}"})
    values = {"topic": "news", "target": 7, "method": "card"}
    getattr(mercure.turbo, name)("/rooms/1", "messages", template="_names.html", context=values, other="more")
    assert "<template>news 7 card more</template>" in updates[0].data


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("replace", {"method": "card"}, "method: write 'morph'; .* context={'method': …}"),
        ("update", {"method": "replace"}, "method: write 'morph'"),
        ("refresh", {"method": "card"}, "method: write 'morph' or 'replace'"),
        ("refresh", {"scroll": "keep"}, "scroll: write 'preserve' or 'reset'"),
    ],
)
def test_a_value_that_turbo_does_not_know_is_refused(mercure, updates, name, arguments, message):
    given = {} if name == "refresh" else {"target": "messages", "template": "_message.html"}
    with pytest.raises(ValueError, match=message):
        getattr(mercure.turbo, name)("/rooms/1", **given, **arguments)
    assert updates == []


def test_an_update_without_an_action_is_refused(mercure, updates):
    with pytest.raises(TypeError, match="at least one action"):
        mercure.turbo.stream("/rooms/1")
    assert updates == []


def test_the_event_has_no_type_also_where_types_are_topics(stack):
    mercure = MercureSSE(Flask("typed"), type_is_topic=True)
    updates = stack.enter_context(mercure.capture())
    mercure.turbo.append("/rooms/1", "messages", html="1")
    assert updates[0].type is None, "Turbo listens to events without a type"


def test_the_page_whose_request_it_is_does_not_load_itself_again(app, mercure, updates):
    with app.test_request_context(headers={"X-Turbo-Request-Id": "abc"}):
        mercure.turbo.refresh("/rooms/1")
    mercure.turbo.refresh("/rooms/1")
    assert [tags(update.data)[0][1].get("request-id") for update in updates] == ["abc", None]


def test_a_row_is_rendered_with_its_id_when_its_session_commits(mercure, session, updates):
    message = Message(text="Hello")
    session.add(message)
    mercure.turbo.append("/rooms/1", "messages", template="_message.html", message=message, after_commit=session)
    assert updates == []
    session.commit()
    assert '<p id="message_1">Hello</p>' in updates[0].data


def test_a_rollback_drops_the_action(mercure, session, updates):
    session.add(Message(text="Hello"))
    mercure.turbo.append("/rooms/1", "messages", html="Hello", after_commit=session)
    session.rollback()
    session.commit()
    assert updates == []


def test_a_topic_may_be_an_object(mercure, updates):
    class Room:
        __mercure_sse_topic__ = "/rooms/7"

    mercure.turbo.remove(Room(), "typing")
    assert updates[0].topics == ("/rooms/7",)


def test_subscribers_receive_the_action(mercure, mercure_subscriber):
    reader = mercure_subscriber("/rooms/1", mercure=mercure)
    mercure.turbo.append("/rooms/1", "messages", html="<p>two\nlines</p>", private=True)
    event = reader.received(1)[0]
    assert event.type == "message"
    assert event.data == (
        '<turbo-stream action="append" target="messages"><template><p>two\nlines</p></template></turbo-stream>'
    )


# The element


def element(app: Flask, call: str, **values: Any) -> tuple[str, dict[str, str | None]]:
    with app.test_request_context():
        (found,) = tags(render_template_string("{{ " + call + " }}", **values))
    return found


def test_the_element_has_the_url_of_the_stream(app, mercure):
    name, attributes = element(app, "mercure_turbo_stream(['/rooms/1', '/news'])")
    assert name == "mercure-turbo-stream"
    assert attributes == {
        "src": "http://localhost/.well-known/mercure?topic=%2Frooms%2F1&topic=%2Fnews",
        "hidden": None,
    }


@pytest.mark.parametrize("function", ["mercure_turbo_stream", "mercure_datastar_stream", "mercure_subscriptions"])
def test_an_error_of_a_call_names_the_function_of_the_template(function, app, mercure):
    with pytest.raises(TypeError, match=rf"^{function}\(\) missing 1 required positional argument: 'topics?'$"):
        element(app, f"{function}()")


def test_the_element_has_the_cursor_of_the_page(app, mercure):
    mercure.publish("/news", "before", id="urn:example:1")
    for given in ("'now'", "cursor"):
        _, attributes = element(
            app, f"mercure_turbo_stream('/news', last_event_id={given})", cursor=mercure.last_event_id()
        )
        assert attributes["src"].endswith("&lastEventID=urn%3Aexample%3A1")


@pytest.mark.parametrize("function", ["mercure_turbo_stream", "mercure_datastar_stream"])
def test_a_private_stream_has_a_token_for_its_topics_and_no_others(app, mercure, function):
    name, attributes = element(app, f"{function}(mercure_topic('/users/{{}}', 7), private=True)")
    assert name == function.replace("_", "-")
    assert Token.claims(attributes["token"])["mercure"] == {"subscribe": ["/users/7"]}
    assert "authorization" not in attributes["src"], "URLs are logged"


def test_no_shared_cache_keeps_a_page_with_a_token(app, mercure):
    pages = {
        "/private": "{{ mercure_turbo_stream('/a', private=True) }}",
        "/public": "{{ mercure_turbo_stream('/a') }}",
    }
    for path, source in pages.items():
        app.add_url_rule(path, path, lambda source=source: render_template_string(source))

    @app.after_request
    def cached(response):
        response.headers.setdefault("Cache-Control", "public, max-age=60")
        return response

    assert app.test_client().get("/public").headers["Cache-Control"] == "public, max-age=60"
    assert app.test_client().get("/private").headers["Cache-Control"] == "private"


@pytest.mark.parametrize("place", ["view", "after_request"])
@pytest.mark.parametrize(
    ("headers", "control"),
    [
        ({"Cache-Control": "public, max-age=300"}, "max-age=300, private"),
        ({"Cache-Control": "s-maxage=60"}, "private"),
        ({"Cache-Control": "private", "CDN-Cache-Control": "max-age=60"}, "private"),
        ({"Surrogate-Control": "max-age=60", "X-Accel-Expires": "60"}, "private"),
    ],
)
def test_nothing_makes_a_page_with_a_token_public(app, mercure, headers, control, place):
    def change(response):
        response.headers.update(headers)
        return response

    page = "{{ mercure_turbo_stream('/a', private=True) }}"
    if place == "after_request":
        app.after_request(change)
    app.add_url_rule("/", "page", lambda: (render_template_string(page), headers if place == "view" else {}))
    response = app.test_client().get("/")
    assert 'token="' in response.text
    assert response.headers["Cache-Control"] == control
    assert {"CDN-Cache-Control", "Surrogate-Control", "X-Accel-Expires"}.isdisjoint(response.headers.keys())


def test_a_streamed_page_with_a_token_must_be_private_by_itself(app, mercure):
    page = "<h1>news</h1>{{ mercure_turbo_stream('/a', private=True) }}"
    app.add_url_rule("/open", "open", lambda: stream_template_string(page))
    app.add_url_rule("/kept", "kept", lambda: (stream_template_string(page), {"Cache-Control": "private"}))
    with pytest.raises(RuntimeError, match=r"mercure_turbo_stream\(private=True\): .* Cache-Control: private"):
        app.test_client().get("/open", buffered=True)
    assert 'token="' in app.test_client().get("/kept").text


def test_a_private_stream_without_a_key_names_the_setting():
    app = Flask("keyless")
    MercureSSE(app, hub_url="https://hub.example/.well-known/mercure")
    with pytest.raises(ValueError, match="MERCURE_SUBSCRIBER_SECRET_KEY"):
        element(app, "mercure_turbo_stream('/users/7', private=True)")


def test_an_element_of_protocol_1_names_its_topics_as_that_does():
    app = Flask("modern")
    app.config["SECRET_KEY"] = SECRET
    MercureSSE(app, hub_url="https://hub.example/.well-known/mercure", protocol="1.0")
    _, attributes = element(app, "mercure_turbo_stream('/users/7', private=True)")
    assert attributes["src"] == "https://hub.example/.well-known/mercure?match=%2Fusers%2F7"
    assert attributes["token"]


def test_where_the_extension_keeps_the_cookie_the_element_needs_no_token(app, mercure):
    mercure.user_topics(lambda: ["/users/7"])
    _, attributes = element(app, "mercure_turbo_stream('/users/7', private=True)")
    assert "token" not in attributes
    with app.test_request_context():
        written = render_template_string("{{ mercure_client('turbo') }}")
    assert "/renew.js" in written.partition("modulepreload")[2], "the streams of the page renew the cookie"


def test_where_no_cookie_reaches_the_hub_the_element_has_a_token():
    app = Flask("elsewhere")
    app.config["SECRET_KEY"] = SECRET
    mercure = MercureSSE(app, hub_url="https://hub.example/.well-known/mercure")
    mercure.user_topics(lambda: ["/users/7"])
    _, attributes = element(app, "mercure_turbo_stream('/users/7', private=True)")
    assert attributes["token"]


def test_without_the_cookie_of_a_user_there_is_nothing_to_renew(app, mercure):
    with app.test_request_context():
        written = render_template_string("{{ mercure_client('turbo') }}")
    assert "/renew.js" not in written.partition("modulepreload")[2]
