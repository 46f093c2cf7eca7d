"""What a browser makes of the refusals that docs/configuration.md lists."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest
from flask import Flask
from playwright.sync_api import BrowserContext, Page

import hubs
from clients import Token

PAGE = """
<!doctype html><title>page</title>
<script>
let states = [];
function listen(url) {
  const source = new EventSource(url, { withCredentials: true });
  source.onopen = () => { states.push("open"); };
  source.onerror = () => { states.push(["waits", "?", "closed"][source.readyState]); };
}
</script>
"""

Start = Callable[..., str]


@pytest.fixture
def page(context: BrowserContext, serve: Callable[[Flask], str]) -> Page:
    app = Flask("page")
    app.add_url_rule("/", view_func=lambda: PAGE)
    page = context.new_page()
    page.goto(serve(app))
    return page


@pytest.fixture
def start(stack: ExitStack, page: Page) -> Start:
    """Starts a hub for the page; returns its URL."""

    def start(*options: str) -> str:
        origin = page.url.rstrip("/")
        hub = hubs.HubProcess([*hubs.petasos(cors_origins=origin), "--compat", *options])
        stack.callback(hub.close)
        return hub.url

    return start


def listen(page: Page, url: str) -> list[str]:
    """What happens to an EventSource, up to the first error."""
    page.evaluate("(url) => { states = []; listen(url); }", url)
    page.wait_for_function("states.some((state) => state !== 'open')")
    states: list[str] = page.evaluate("states")
    return states


@pytest.mark.parametrize(
    "options", [["--max-subscribers", "1"], ["--max-subscribers-per-address", "1"]], ids=["all", "of an address"]
)
def test_a_limit_makes_it_wait(page: Page, start: Start, options: list[str]) -> None:
    hub = start(*options)
    page.evaluate("(url) => listen(url)", f"{hub}?topic=a")
    page.wait_for_function("states.length > 0")
    assert listen(page, f"{hub}?topic=b") == ["open", "waits"]


def test_a_request_that_is_wrong_closes_it(page: Page, start: Start) -> None:
    assert listen(page, start()) == ["closed"], "it names no topic"


@pytest.mark.parametrize("claims", [{"exp": 1}, {}], ids=["has ended", "of another key"])
def test_a_token_that_is_not_valid_closes_it(page: Page, start: Start, claims: dict[str, int]) -> None:
    key = hubs.SUBSCRIBER if claims else "another key, of more than thirty-two bytes"
    token = Token.sign({"mercure": {"subscribe": ["*"]}, **claims}, key)
    assert listen(page, f"{start()}?topic=a&authorization={token}") == ["closed"]
