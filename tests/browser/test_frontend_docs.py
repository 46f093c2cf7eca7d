"""The code in docs/frontend.md and its pages runs as it stands: the templates in a browser with the real libraries."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, render_template_string, session
from jinja2 import DictLoader
from playwright.sync_api import Browser, BrowserContext, expect

from browser.front_site import Libraries
from documents import Document, post_all
from flask_mercure_sse import client_files

pytestmark = pytest.mark.parametrize("browser", ["chromium"], indirect=True)

FILES = {
    "htmx-4.js": "htmx.org/dist/htmx",
    "hx-sse.js": "htmx.org/dist/ext/hx-sse",
    "htmx-2.js": "htmx.org-2/dist/htmx",
    "sse.js": "htmx-ext-sse/dist/sse",
    "turbo.js": "@hotwired/turbo/dist/turbo.es2017-esm",
    "alpine.js": "alpinejs/dist/cdn",
    "datastar.js": "datastar",
}
"""The files of the libraries, as the pages call them."""

TEMPLATES = {
    "_message.html": '<p id="message_{{ message.id }}">{{ message.text }}</p>',
    "_item.html": "<li>{{ item }}</li>",
}


STORIES = {
    "htmx 4": ("htmx", "hx-sse:connect", {"#news li": "Walden", "[hx-get]": "one order"}),
    "htmx 2": ("htmx", "sse-connect", {"#news li": "Walden", "[hx-get]": "one order"}),
    "Turbo": ("turbo", "mercure_turbo_stream", {"#message_7": "Hello", "#messages > p:last-child": "Bye."}),
    "Datastar": ("datastar", "mercure_datastar_stream", {"output": "7", "#cart li": "Walden"}),
    "Alpine": ("alpine", "x-mercure:order-paid", {"output": "7"}),
    "a script": ("script", "import { subscribe }", {"#news li": "Walden"}),
}
"""The page of the documentation, a part of its template, and what a browser shows once the code has published."""


@pytest.fixture
def prepare(libraries: Libraries, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Runs a block that makes an application, with the embedded hub on; returns its names."""
    monkeypatch.setenv("FLASK_DEBUG", "1")

    def prepare(block: str) -> dict[str, Any]:
        names: dict[str, Any] = {"__name__": "guide"}
        exec(block, names)
        app: Flask = names["app"]
        app.jinja_loader = DictLoader(TEMPLATES)
        app.view_functions["static"] = lambda filename: libraries.file(FILES[filename])
        return names

    return prepare


@pytest.mark.parametrize("story", list(STORIES))
def test_a_page_of_the_guide_shows_what_its_application_publishes(
    story: str, context: BrowserContext, prepare: Callable[[str], dict[str, Any]], serve: Any
) -> None:
    name, part, shown = STORIES[story]
    document = Document(f"how-to/{name}")
    first, *others = document.blocks("python")
    names, template = prepare(first), document.block("html", part)
    app, mercure = names["app"], names["mercure"]
    for each in others:
        exec(each, names)
    app.add_url_rule("/", "page", lambda: render_template_string(template, cursor=mercure.last_event_id()))
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(serve(app))
    post_all(app)
    for selector, text in shown.items():
        expect(page.locator(selector)).to_have_text(text)
    if story == "Turbo":
        expect(page.locator("#typing")).to_have_count(0)
    assert errors == []


def test_the_bar_of_the_guide_stands_where_the_job_is(
    context: BrowserContext, prepare: Callable[[str], dict[str, Any]], serve: Any
) -> None:
    document = Document("how-to/celery")
    names = prepare(document.blocks("python")[0])
    (template,) = document.blocks("html")
    names["app"].add_url_rule("/", "page", lambda: render_template_string(template, job=7))
    names["export"].apply(args=[7])
    page = context.new_page()
    page.goto(serve(names["app"]))
    expect(page.locator("progress")).to_have_js_property("value", 100)


def test_the_list_of_the_guide_shows_who_is_there(
    browser: Browser, prepare: Callable[[str], dict[str, Any]], serve: Any
) -> None:
    document = Document("how-to/presence")
    names = prepare(document.blocks("python")[0])
    (template,) = document.blocks("html")
    app = names["app"]
    app.jinja_loader = DictLoader({"room.html": template})

    @app.get("/login/<user>")
    def login(user: str) -> str:
        session.update(user=user, rooms=["lobby"])
        return "Hello."

    url = serve(app)
    first, second = browser.new_context(), browser.new_context()
    try:
        for name, context in (("Ada", first), ("Bob", second)):
            context.request.get(f"{url}/login/{name}")
            context.new_page().goto(f"{url}/rooms/lobby")
            expect(context.pages[0].locator("#members")).to_contain_text(name)
        expect(first.pages[0].locator("#members")).to_have_text("Ada, Bob")
        # The second page began with a list that named the first.
        expect(second.pages[0].locator("#members")).to_have_text("Ada, Bob")
        second.pages[0].close()
        expect(first.pages[0].locator("#members")).to_have_text("Ada")
    finally:
        first.close()
        second.close()


def test_a_page_of_the_guide_sends_a_token_itself(
    context: BrowserContext, prepare: Callable[[str], dict[str, Any]], serve: Any
) -> None:
    document = Document("how-to/flask-login")
    names = prepare(document.blocks("python")[0])
    app, mercure = names["app"], names["mercure"]
    template = (
        "{{ mercure_client() }}<p id='heard'></p>"
        "<script>function show(text) { document.querySelector('#heard').textContent = text; }</script>"
        + document.block("html", "{ token }")
    )
    topic = mercure.topic("/users/{}", 7)
    app.add_url_rule("/page", "page", lambda: render_template_string(template, topics=[topic]))
    url = serve(app)
    context.request.post(f"{url}/login/7")
    page = context.new_page()
    # The answer, not the request: from then on the hub knows the subscriber.
    with page.expect_response(lambda response: "authorization" in response.request.headers):
        page.goto(f"{url}/page")
    mercure.publish(topic, "for you", private=True)
    expect(page.locator("#heard")).to_have_text("for you")


def test_a_page_of_the_guide_shows_a_user_what_is_private(
    context: BrowserContext, prepare: Callable[[str], dict[str, Any]], serve: Any
) -> None:
    document = Document("how-to/flask-login")
    names = prepare(document.blocks("python")[0])
    app, mercure = names["app"], names["mercure"]
    app.jinja_loader = DictLoader({"home.html": document.block("html", "current_user")})
    url = serve(app)
    page = context.new_page()
    page.goto(url)
    expect(page.locator("script[type=module]")).to_have_count(0)
    context.request.post(f"{url}/login/7")
    with page.expect_response(lambda response: "/.well-known/mercure?" in response.url):
        page.goto(url)
    mercure.publish("/users/8", "for another", private=True)
    mercure.publish("/users/7", "for you", private=True)
    expect(page.locator("#heard")).to_have_text("for you")


def test_the_badge_of_the_guide_shows_the_state(
    context: BrowserContext, prepare: Callable[[str], dict[str, Any]], serve: Any
) -> None:
    app = prepare(Document("how-to/datastar").blocks("python")[0])["app"]
    stream = '{{ mercure_client("datastar") }}<mercure-datastar-stream src="{{ mercure_hub_url(\'/a\') }}">'
    template = Document("frontend").block("html", 'id="state"') + stream
    app.add_url_rule("/", "page", lambda: render_template_string(template))
    page = context.new_page()
    page.goto(serve(app))
    expect(page.locator("#state")).to_have_text("open")


def test_the_files_are_no_larger_than_the_guide_says(browser: Any) -> None:
    rows = re.findall(
        r"^\| `mercure_client\(.*?\)` \| (.*?) \| .*? \| (.*?) at most \|$", Document("frontend").text, re.MULTILINE
    )
    assert len(rows) == 5
    for names, sizes in rows:
        for name, size in zip(re.findall(r"`(.*?)`", names), re.findall(r"[\d,]+", sizes), strict=True):
            compressed = len(gzip.compress((client_files.FOLDER / name).read_bytes(), 9))
            assert compressed <= int(size.replace(",", "")), name
