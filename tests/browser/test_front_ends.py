"""htmx, Turbo, Datastar and Alpine with the adapters of the client: the real libraries in real browsers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, make_response, render_template_string
from playwright.sync_api import Browser, BrowserContext, Page, expect

import hubs
from browser.front_pages import PAGES, publisher
from browser.front_site import Gate, Libraries
from browser.pages import TOPIC, wait_for
from browser.website import Website
from flask_mercure_sse import MercureError, MercureSSE
from waiting import wait_until

KINDS = list(PAGES)

in_chromium = pytest.mark.parametrize("browser", ["chromium"], indirect=True)
"""Where the browser makes no difference."""

HIDE = """
(state) => {
  Object.defineProperty(document, "visibilityState", { configurable: true, get: () => state });
  Object.defineProperty(document, "hidden", { configurable: true, get: () => state === "hidden" });
  document.dispatchEvent(new Event("visibilitychange"));
}
"""
"""Headless browsers have no hidden pages. Scripts see it in this way only."""


class Restarted(Website):
    """The website with the pages of front ends, and a hub that comes and goes."""

    def __init__(self, kind: str, libraries: Libraries, stack: ExitStack, serve: Any, directory: Path) -> None:
        self.kind, self.libraries = kind, libraries
        super().__init__(stack, serve, directory, "cable", durable=True, npm=libraries.packages)

    def page(self, kind: str) -> Response:
        url = self.mercure.hub_url([TOPIC], **self.options)
        return make_response(render_template_string(PAGES[kind], url=url))

    def script(self, file: str) -> Response:
        return self.libraries.file(file.removesuffix(".js"))

    def try_to_publish(self, text: str) -> bool:
        try:
            return bool(publisher(self.kind, self.mercure)(TOPIC, text))
        except MercureError:
            return False


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost_or_doubled_when_the_stream_is_cut_and_the_hub_restarts(
    kind: str, context: BrowserContext, libraries: Libraries, stack: ExitStack, serve: Any, tmp_path: Path
) -> None:
    site = Restarted(kind, libraries, stack, serve, tmp_path)
    page = site.open(context, kind)
    # The first time before its first event.
    for cut in range(2):
        site.wait_for_ends([page], site.cable.cut)
        site.publish(*(f"{cut} meanwhile {number}" for number in range(3)))
        site.cable.mend()
        site.expect(page)
    site.wait_for_ends([page], site.hub.stop, 2)
    site.hub.start()
    site.publish("after the restart")
    site.expect(page)
    site.publish("later")
    site.expect(page)


@in_chromium
@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_does_not_end_it(kind: str, context: BrowserContext, gate: Callable[..., Gate]) -> None:
    site = gate(kind)
    page = site.open(context)
    site.publish("before")
    site.expect(page)
    site.refuses = True
    site.cut(page)
    wait_until(lambda: site.refused >= 2, "the page tries again")
    site.publish("while it is refused")
    site.refuses = False
    site.expect(page)
    site.publish("after")
    site.expect(page)


@in_chromium
@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_at_the_beginning_does_not_end_it(
    kind: str, context: BrowserContext, gate: Callable[..., Gate]
) -> None:
    site = gate(kind)
    site.refuses = True
    page = context.new_page()
    page.goto(site.cable.url)
    wait_until(lambda: site.refused >= 2, "the page tries again")
    site.publish("while it is refused")
    site.refuses = False
    site.expect(page)


@contextmanager
def stopped(browser: Browser, page: Page) -> Iterator[None]:
    """The process of the page does not run, as that of a frozen tab or on a laptop that sleeps."""
    session = browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    renderers = [process["id"] for process in processes if process["type"] == "renderer"]
    assert renderers
    for process in renderers:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in renderers:
            os.kill(process, signal.SIGCONT)
        session.detach()


@pytest.mark.parametrize("kind", KINDS)
def test_a_hidden_page_catches_up(
    kind: str, browser: Browser, context: BrowserContext, gate: Callable[..., Gate]
) -> None:
    site = gate(kind)
    page = site.open(context)
    site.publish("shown")
    site.expect(page)
    page.evaluate(HIDE, "hidden")
    site.publish("hidden")
    site.expect(page)
    if browser.browser_type.name == "chromium":
        with stopped(browser, page):
            site.publish(*(f"stopped {number}" for number in range(20)))
    page.evaluate(HIDE, "visible")
    site.publish("shown again")
    site.expect(page)
    assert page.evaluate("opens") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_of_another_origin_receives_what_its_cookie_allows(
    kind: str,
    context: BrowserContext,
    other_context: BrowserContext,
    libraries: Libraries,
    stack: ExitStack,
    serve: Any,
) -> None:
    app = Flask("subdomains")
    app.config["SECRET_KEY"] = "k" * 32
    libraries.serve(app)
    origin = serve(app).replace("127.0.0.1", "app.example.test")
    command = [*hubs.petasos(cors_origins=origin), "--compat"]
    hub = hubs.HubProcess(command)
    stack.callback(hub.close)
    mercure = MercureSSE(
        app,
        hub_url=hub.url,
        public_hub_url=hub.url.replace("127.0.0.1", "hub.example.test"),
        publisher_secret_key=hubs.PUBLISHER,
        subscriber_secret_key=hubs.SUBSCRIBER,
    )

    @app.get("/")
    def stranger() -> Response:
        return make_response(render_template_string(PAGES[kind], url=mercure.hub_url([TOPIC])))

    @app.get("/login")
    def member() -> Response:
        return mercure.set_authz_cookie(stranger(), topics=[TOPIC])

    publish = publisher(kind, mercure)
    pages = {"member": context.new_page(), "stranger": other_context.new_page()}
    pages["member"].goto(f"{origin}/login")
    pages["stranger"].goto(origin)
    for page in pages.values():
        wait_for(page, "opens > 0")
    publish(TOPIC, "secret", private=True)
    publish(TOPIC, "public")
    for page in pages.values():
        wait_for(page, "heard().includes('public')")
    assert pages["member"].evaluate("heard()") == ["secret", "public"]
    assert pages["stranger"].evaluate("heard()") == ["public"]


def streams(site: Gate) -> int:
    return len(site.mercure.get_subscriptions(TOPIC)["subscriptions"])


REMOVE = {
    "htmx 2": "htmx.swap('#stream', '<p>gone</p>', { swapStyle: 'outerHTML' })",
    "htmx 4": "htmx.swap({ target: document.body, text: '<p>gone</p>', swap: 'innerHTML' })",
    "Turbo": 'Turbo.renderStreamMessage(\'<turbo-stream action="remove" targets="mercure-turbo-stream">\')',
    "Datastar": "document.querySelector('mercure-datastar-stream').remove()",
    "Alpine": "document.querySelector('[x-data]').remove()",
}


@in_chromium
@pytest.mark.parametrize("kind", KINDS)
def test_the_stream_of_an_element_that_is_removed_is_closed(
    kind: str, context: BrowserContext, gate: Callable[..., Gate]
) -> None:
    site = gate(kind)
    page = site.open(context)
    assert streams(site) == 1
    page.evaluate(f"() => {{ {REMOVE[kind]} }}")
    wait_until(lambda: streams(site) == 0, "the stream is closed")


@in_chromium
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_that_stays_open_renews_the_cookie_of_its_user(
    kind: str, context: BrowserContext, gate: Callable[..., Gate]
) -> None:
    site = gate(kind, jwt_ttl=2)
    site.mercure.user_topics(lambda: [TOPIC])
    page = context.new_page()
    page.goto(site.cable.url)
    site.publish("with the first cookie", private=True)
    site.expect(page)
    wait_for(page, "refusals.includes(401)")
    site.publish("when it has ended", private=True)
    site.expect(page)
    assert site.loads == 1


@in_chromium
@pytest.mark.parametrize("kind", ["htmx 4", "Turbo"])
def test_a_page_whose_login_has_ended_is_loaded_again_and_not_left_without_private_updates(
    kind: str, context: BrowserContext, gate: Callable[..., Gate]
) -> None:
    site = gate(kind, jwt_ttl=2)
    users = [TOPIC]
    site.mercure.user_topics(lambda: list(users))
    page = context.new_page()
    page.goto(site.cable.url)
    site.publish("while it is logged in", private=True)
    site.expect(page)
    assert page.locator('meta[name="mercure-user"]').count() == 1
    users.clear()
    wait_until(lambda: site.loads == 2, "the page is loaded again")
    # Made for nobody, it is not loaded a third time: its stream is open.
    expect(page.locator('meta[name="mercure-user"]')).to_have_count(0)
    wait_until(lambda: streams(site) == 1, "its stream is open")
    assert site.loads == 2
