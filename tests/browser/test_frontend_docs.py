"""The code in docs/frontend.md runs as it stands: its templates in a browser with the real libraries."""

from __future__ import annotations

import gzip
import re
from typing import Any

import pytest
from flask import Flask, render_template_string
from jinja2 import DictLoader
from playwright.sync_api import BrowserContext, expect

from browser.front_site import Libraries
from flask_mercure_sse import client_files
from hubs import ROOT

pytestmark = pytest.mark.parametrize("browser", ["chromium"], indirect=True)

GUIDE = (ROOT / "docs" / "frontend.md").read_text(encoding="utf-8")

FILES = {
    "htmx-4.js": "htmx.org/dist/htmx",
    "hx-sse.js": "htmx.org/dist/ext/hx-sse",
    "htmx-2.js": "htmx.org-2/dist/htmx",
    "sse.js": "htmx-ext-sse/dist/sse",
    "turbo.js": "@hotwired/turbo/dist/turbo.es2017-esm",
    "alpine.js": "alpinejs/dist/cdn",
    "datastar.js": "datastar",
}
"""The files of the libraries, as the guide calls them."""

TEMPLATES = {
    "_message.html": '<p id="message_{{ message.id }}">{{ message.text }}</p>',
    "_item.html": "<li>{{ item }}</li>",
}


def block(language: str, part: str) -> str:
    """The one block with a part."""
    found = re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
    (wanted,) = (each for each in found if part in each)
    return wanted


PUBLISHED = {
    "htmx": block("python", '<li>Walden</li>"'),
    "Turbo": block("python", "_message.html") + block("python", "turbo.stream("),
    "Datastar": block("python", "datastar.patch_signals"),
    "Alpine": block("python", '{"total": 7}, type="order-paid"'),
}

STORIES = {
    "htmx 4": ("hx-sse:connect", "htmx", {"#news li": "Walden", "[hx-get]": "one order"}),
    "htmx 2": ("sse-connect", "htmx", {"#news li": "Walden", "[hx-get]": "one order"}),
    "Turbo": ("mercure_turbo_stream", "Turbo", {"#message_7": "Hello", "#messages > p:last-child": "Bye."}),
    "Datastar": ("mercure_datastar_stream", "Datastar", {"output": "7", "#cart li": "Walden"}),
    "Alpine": ("x-mercure:order-paid", "Alpine", {"output": "7"}),
    "a script": ("import { subscribe }", "htmx", {"#news li": "<li>Walden</li>"}),
}
"""A part of the template, the Python code that publishes, and what the page shows then."""


@pytest.fixture
def guide(libraries: Libraries, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the blocks of the application make, with the embedded hub on."""
    monkeypatch.setenv("FLASK_DEBUG", "1")
    names: dict[str, Any] = {"__name__": "guide"}
    exec(block("python", "app = Flask(__name__)") + block("python", "def orders"), names)
    app: Flask = names["app"]
    app.jinja_loader = DictLoader(TEMPLATES)
    app.view_functions["static"] = lambda filename: libraries.file(FILES[filename])
    return names


@pytest.mark.parametrize("story", list(STORIES))
def test_a_page_of_the_guide_shows_what_its_application_publishes(
    story: str, context: BrowserContext, guide: dict[str, Any], serve: Any
) -> None:
    part, published, shown = STORIES[story]
    app, mercure, template = guide["app"], guide["mercure"], block("html", part)
    app.add_url_rule("/", "page", lambda: render_template_string(template, cursor=mercure.last_event_id()))
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(serve(app))
    exec(PUBLISHED[published], guide)
    for selector, text in shown.items():
        expect(page.locator(selector)).to_have_text(text)
    if published == "Turbo":
        expect(page.locator("#typing")).to_have_count(0)
    assert errors == []


def test_the_badge_of_the_guide_shows_the_state(context: BrowserContext, guide: dict[str, Any], serve: Any) -> None:
    app = guide["app"]
    stream = '{{ mercure_client("datastar") }}<mercure-datastar-stream src="{{ mercure_hub_url(\'/a\') }}">'
    template = block("html", 'id="state"') + stream
    app.add_url_rule("/", "page", lambda: render_template_string(template))
    page = context.new_page()
    page.goto(serve(app))
    expect(page.locator("#state")).to_have_text("open")


def test_the_files_are_no_larger_than_the_guide_says(browser: Any) -> None:
    rows = re.findall(r"^\| `mercure_client\(.*?\)` \| (.*?) \| .*? \| (.*?) at most \|$", GUIDE, re.MULTILINE)
    assert len(rows) == 5
    for names, sizes in rows:
        for name, size in zip(re.findall(r"`(.*?)`", names), re.findall(r"[\d,]+", sizes), strict=True):
            compressed = len(gzip.compress((client_files.FOLDER / name).read_bytes(), 9))
            assert compressed <= int(size.replace(",", "")), name
