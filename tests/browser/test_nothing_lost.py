"""A page hears what was published, each update once and in order: through cuts, restarts of the hub, and proxies that
answer in its place.

BROWSER_TURNS=20 tells each story so often, in all combinations. BROWSER_AWAY=1,5,20 keeps the hub away for so many
seconds; without it, until the browser has come back in vain. BROWSER_PAGES=20 has so many pages wait for it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

import npm
from browser.launch import new_context
from browser.pages import wait_for
from browser.traffic import Traffic
from browser.website import RETRY, Website
from browser.workers import Gunicorn
from clients import HUB_PATH
from engines import Redis
from hubs import ROOT
from proxies import Nginx
from waiting import wait_until

HERE = Path(__file__).parent
TURNS = int(os.environ.get("BROWSER_TURNS", "1"))
PAGES = int(os.environ.get("BROWSER_PAGES", "1"))
AWAY = [float(seconds) for seconds in os.environ.get("BROWSER_AWAY", "").split(",") if seconds]

# All combinations, or a sample.
FULL = TURNS > 1 or bool(AWAY)
WAYS = [("cable", "EventSource"), ("nginx", "EventSource"), ("nginx", "htmx 2"), ("nginx", "htmx 4")]
# The way, the kind of page, and whether the log is on the disk.
RESTARTS = list(product(WAYS, (False, True))) if FULL else [(WAYS[0], True), (WAYS[1], False)]
TRAFFICS = RESTARTS if FULL else [(WAYS[0], False), (WAYS[1], True)]
TOKENS = ["nginx", "nginx with TLS"] if FULL else ["nginx with TLS"]
REPLACEMENTS = 2 if FULL else 1


def names(value: object) -> str:
    """Of the parameters of a story."""
    if isinstance(value, bool):
        return "durable" if value else "memory"
    return " ".join(value) if isinstance(value, tuple) else str(value)


pytestmark = pytest.mark.parametrize("turn", range(TURNS))


@pytest.fixture(scope="module")
def packages() -> Path:
    folder = ROOT / ".build" / "browser" / "node"
    try:
        npm.install(HERE / "node", folder)
    except npm.Missing as missing:
        pytest.skip(str(missing))
    return folder


@pytest.fixture
def contexts(browser: Browser) -> Iterator[list[BrowserContext]]:
    """One for each page, since a browser opens six connections at most for the pages of one."""
    contexts = [new_context(browser) for _ in range(PAGES)]
    yield contexts
    for context in contexts:
        context.close()


@pytest.fixture
def start(stack: ExitStack, serve: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Website]:
    def start(way: tuple[str, str], durable: bool = False, token_seconds: int | None = None) -> Website:
        packages = request.getfixturevalue("packages") if way[1].startswith("htmx") else None
        site = Website(stack, serve, tmp_path, way[0], durable, packages, token_seconds)
        if way[1] == "htmx 4":
            # It fetches its streams, and has no cursor before its first event but that of the URL.
            site.options = {"last_event_id": "now"}
        return site

    return start


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
def test_a_stream_is_cut(context: BrowserContext, start: Callable[..., Website], way: Any, turn: int) -> None:
    site = start(way)
    page = site.open(context, way[1])
    # The first time before its first event.
    for cut in range(3):
        site.wait_for_ends([page], site.cable.cut)
        site.publish(*(f"{cut} meanwhile {number}" for number in range(3)))
        site.cable.mend()
        site.expect(page)
    site.publish("last")
    site.expect(page)


@pytest.mark.parametrize("away", AWAY or [None])
@pytest.mark.parametrize(("way", "durable"), RESTARTS, ids=names)
def test_the_hub_is_restarted(
    contexts: list[BrowserContext],
    start: Callable[..., Website],
    way: Any,
    durable: bool,
    away: float | None,
    turn: int,
) -> None:
    site = start(way, durable)
    pages = [site.open(context, way[1]) for context in contexts]
    # The first time before its first event.
    for restart in range(2):
        site.wait_for_ends(pages, site.hub.stop, 1 if away else 3)
        if away:
            # Sleeps: for so long the hub is unavailable, whatever happens meanwhile.
            threading.Event().wait(away)
        site.hub.start()
        site.publish(f"{restart} after 0", f"{restart} after 1")
        site.expect(*pages)
        site.publish(f"{restart} later")
        site.expect(*pages)


@pytest.mark.parametrize(("way", "durable"), TRAFFICS, ids=names)
def test_the_hub_is_restarted_under_traffic(
    context: BrowserContext, start: Callable[..., Website], way: Any, durable: bool, turn: int
) -> None:
    """With its log on the disk, the hub is killed. With its log in memory, it is stopped: it delivers what it has
    acknowledged before it ends."""
    site = start(way, durable)
    page = site.open(context, way[1])
    with Traffic(site.try_to_publish) as traffic:
        for _ in range(2):
            hears_more(page)
            site.wait_for_ends([page], site.hub.kill if durable else site.hub.stop, 2)
            site.hub.start()
            hears_more(page)
    site.publish("last")
    wait_for(page, "heard().includes('last')")
    traffic.check(page.evaluate("heard()")[:-1])


@pytest.mark.parametrize("way", ["cable", "nginx"])
def test_pages_load_under_traffic(context: BrowserContext, start: Callable[..., Website], way: str, turn: int) -> None:
    site = start((way, "loading"))
    site.options = {"last_event_id": "now"}
    with Traffic(site.try_to_publish) as traffic:
        site.traffic = traffic
        for _ in range(12 if FULL else 2):
            page = site.open(context, "loading")
            hears_more(page)
            rows, heard = page.evaluate("[rows, heard()]")
            page.close()
            # It goes on where the rows end, or before, and has no gap and nothing twice.
            first = traffic.attempts.index(heard[0])
            assert first <= len(rows)
            assert heard == traffic.attempts[first : first + len(heard)]


@pytest.mark.parametrize("way", TOKENS)
def test_the_token_of_a_page_ends_under_traffic(
    context: BrowserContext, start: Callable[..., Website], way: str, turn: int
) -> None:
    site = start((way, "renewing"), token_seconds=3)
    page = site.open(context, "renewing")
    with Traffic(site.try_to_publish) as traffic:
        for _ in range(REPLACEMENTS):
            renewed = site.renewed
            hears_more(page)
            wait_until(lambda renewed=renewed: site.renewed > renewed, "the page renews its token")
            hears_more(page)
    site.publish("last")
    wait_for(page, "heard().includes('last')")
    traffic.check(page.evaluate("heard()")[:-1])


def hears_all(page: Page, server: Gunicorn, traffic: Traffic) -> None:
    assert server.try_to_publish("last")
    wait_for(page, "heard().includes('last')")
    traffic.check(page.evaluate("heard()")[:-1])


def hears_more(page: Page) -> None:
    before = page.evaluate("heard().length")
    wait_for(page, "(count) => heard().length >= count", before + 5)


def test_more_tabs_listen_than_a_browser_has_connections(
    context: BrowserContext, start: Callable[..., Website], turn: int
) -> None:
    """Over HTTP/1.1 the seventh would wait for ever."""
    site = start(("nginx with TLS", "EventSource"))
    pages = [site.open(context, "EventSource") for _ in range(7)]
    site.publish("to all")
    site.expect(*pages)


@pytest.fixture
def gunicorn(stack: ExitStack, tmp_path: Path) -> Callable[..., Gunicorn]:
    def start(workers: int, *options: str, **environment: str) -> Gunicorn:
        server = Gunicorn(tmp_path, workers, environment, *options)
        stack.callback(server.close)
        return server

    return start


def test_a_worker_is_replaced(context: BrowserContext, gunicorn: Callable[..., Gunicorn], turn: int) -> None:
    server = gunicorn(1)
    page = context.new_page()
    page.goto(f"{server.url}/page")
    wait_for(page, "opens > 0")
    published = []
    # The first time before the page's first event.
    for replacement in range(2):
        server.replace_workers()
        for number in range(3):
            published.append(f"{replacement}.{number}")
            assert server.try_to_publish(published[-1])
        wait_for(page, "(last) => heard().includes(last)", published[-1])
    assert page.evaluate("heard()") == published


def test_four_workers_of_one_host_come_and_go_under_traffic(
    context: BrowserContext, gunicorn: Callable[..., Gunicorn], stack: ExitStack, tmp_path: Path, turn: int
) -> None:
    """gunicorn as it comes, on a Unix socket behind nginx, without a store."""
    socket = tmp_path / "app.socket"
    server = gunicorn(4, "--bind", f"unix:{socket}")
    application = f"location / {{ proxy_pass http://unix:{socket}; }}\n    location @away {{"
    replaced = {**Nginx.comes_back_after(RETRY), "location @away {": application}
    nginx = Nginx(tmp_path, [f"unix:{socket}"], replaced)
    stack.callback(nginx.close)
    server.url = nginx.url.removesuffix(HUB_PATH)
    page = context.new_page()
    page.goto(f"{server.url}/page")
    wait_for(page, "opens > 0")
    with Traffic(server.try_to_publish) as traffic:
        for _ in range(5 if FULL else 1):
            # One of them has the page's stream, and one leads.
            for worker in range(4):
                hears_more(page)
                server.kill_worker(worker)
            hears_more(page)
            server.replace_workers()
            hears_more(page)
    hears_all(page, server, traffic)


def test_workers_with_one_log_are_replaced_under_traffic(
    context: BrowserContext, gunicorn: Callable[..., Gunicorn], stack: ExitStack, tmp_path: Path, turn: int
) -> None:
    store = Redis(tmp_path)
    stack.callback(store.close)
    server = gunicorn(2, MERCURE_HUB_TRANSPORT=store.url)
    page = context.new_page()
    page.goto(f"{server.url}/page")
    wait_for(page, "opens > 0")
    with Traffic(server.try_to_publish) as traffic:
        for _ in range(REPLACEMENTS):
            hears_more(page)
            server.replace_workers()
            hears_more(page)
    hears_all(page, server, traffic)
