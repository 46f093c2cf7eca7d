"""The client with the reference hub, as the adapter for libraries that take an EventSource, and in an application with
its hub inside."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from flask import Flask, render_template_string
from playwright.sync_api import BrowserContext

import hubs
from browser.client.gate import Refuse
from browser.client.ledger import PAGE, Ledger, listen
from browser.client.site import Site
from browser.client.tabs import Tabs
from browser.launch import IN_CHROMIUM
from flask_mercure_sse import MercureSSE
from test_reference import Hub as ReferenceHub
from waiting import wait_until


@IN_CHROMIUM
@pytest.mark.parametrize("dialect", ["0.x", "1.0"])
def test_tabs_share_streams_of_the_reference_hub(
    context: BrowserContext, stack: ExitStack, tmp_path: Path, dialect: str
) -> None:
    """Through its restart: its log is on the disk."""
    command = [*hubs.reference(dialect), str(tmp_path / "updates")]
    hub = ReferenceHub(command, dialect)
    stack.callback(lambda: hub.close())
    site = Site(stack, hub=hub)
    site.publisher = hub.bearer(publish=["*"])
    tabs_of = Tabs(context)
    topics = ["https://example.com/a", "https://example.com/b"]
    pages = [site.open(context) for _ in range(4)]
    ledgers = [
        listen(page, "news", site.gate.url, wanted, protocol=dialect)
        for page, wanted in zip(pages, [topics[:1], topics[:1], topics, topics], strict=True)
    ]
    for ledger in ledgers:
        ledger.wait_until_open()
    wait_until(lambda: len(site.gate.open) == 2, "a stream for each set of topics")
    with site.traffic(*((topic,) for topic in topics)) as traffic:
        for ledger in ledgers:
            ledger.wait_for_more()
        leading = tabs_of.streaming()[0]
        leading.close()
        ledgers = [ledger for ledger in ledgers if ledger.page is not leading]
        for _ in range(2):
            for ledger in ledgers:
                ledger.wait_for_more()
            site.gate.drop()
        for ledger in ledgers:
            ledger.wait_for_more()
        last = traffic.finish(*topics)
    for ledger in ledgers:
        ledger.wait_for_text(last)
        wanted = topics if ledger.page in pages[2:] else topics[:1]
        traffic.check(ledger.heard(), wanted, 0)
    wait_until(lambda: len(site.gate.open) == 2, "a stream for each set of topics")


EVENT_SOURCE = """async (url) => {
    const { MercureEventSource } = await import("petasos-client/event-source");
    const source = window.source = new MercureEventSource(url, { withCredentials: true });
    const happened = window.happened = [];
    source.onopen = (event) => { happened.push(["open", event.type, source.readyState]); };
    source.onerror = (event) => { happened.push(["error", event.type, source.readyState]); };
    source.onmessage = (event) => { happened.push(["message", event.data, event.lastEventId, event.origin]); };
    source.addEventListener("order-paid", (event) => { happened.push(["paid", event.data]); });
    return [source.url, source.withCredentials, source.readyState, source instanceof EventTarget, source.CLOSED];
}"""


def test_the_adapter_is_an_event_source_that_never_gives_up(context: BrowserContext, site: Site, topic: str) -> None:
    page = site.open(context)
    url = f"{site.gate.url}?topic={topic}"
    site.gate.plan(topic, Refuse(401), Refuse(404))
    assert page.evaluate(EVENT_SOURCE, url) == [url, True, 0, True, 2]
    page.wait_for_function("source.readyState === 1 && happened.some(([name]) => name === 'open')")
    site.publish(topic, "plain", id="urn:x:1")
    site.publish(topic, "paid", type="order-paid")
    site.gate.drop()
    page.wait_for_function("happened.at(-1)[0] !== 'paid'")
    site.publish(topic, "after")
    page.wait_for_function("happened.some(([name, data]) => data === 'after')")
    happened = page.evaluate("happened")
    assert [name for name, *_ in happened if name in ("message", "paid")] == ["message", "paid", "message"]
    assert next(each for each in happened if each[1] == "plain") == ["message", "plain", "urn:x:1", site.gate.origin]
    assert all(state != 2 for name, _, state in (each for each in happened if each[0] in ("open", "error")))
    assert [name for name, *_ in happened if name == "error"], "the page is told that the stream has ended"
    page.evaluate("source.close()")
    assert page.evaluate("source.readyState") == 2


def test_an_application_with_its_hub_inside(
    context: BrowserContext, app: Flask, mercure: MercureSSE, serve: Callable[[Flask], str], topic: str
) -> None:
    """Pages over HTTP/1.1 need one connection for the hub, however many tabs are open, and others for all else."""

    @app.get("/")
    def page() -> str:
        subscriptions = [{"name": "news", "url": mercure.hub_url([topic], last_event_id="now"), "topics": None}]
        return render_template_string(PAGE, subscriptions=subscriptions)

    url = serve(app)
    ledgers = []
    for number in range(8):
        tab = context.new_page()
        tab.goto(url)
        tab.wait_for_function("window.isReady")
        ledgers.append(Ledger(tab))
        mercure.publish(topic, f"{number}")
    for number, ledger in enumerate(ledgers):
        ledger.wait_for_text("7")
        assert ledger.texts() == [str(later) for later in range(number, 8)]
    wait_until(lambda: (mercure.stats().hub or {}).get("mercure_subscribers_connected") == 1, "one stream at the hub")
