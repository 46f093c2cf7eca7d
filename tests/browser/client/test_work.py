"""What the client costs a page: the time of its main thread."""

from __future__ import annotations

import logging
import time

from playwright.sync_api import BrowserContext, CDPSession

from browser.client.site import Site
from browser.launch import IN_CHROMIUM
from waiting import wait_until

MEASURED = logging.getLogger(__name__)
SUBSCRIPTIONS, EVENTS = 100, 300


@IN_CHROMIUM
def test_a_hundred_subscriptions_at_a_hundred_events_a_second_cost_little(
    context: BrowserContext, site: Site, topic: str
) -> None:
    """In the tab that has the stream, and in one that hears from it; compared with the browser's own EventSource, for a
    busy machine makes everything dear."""
    topics = [f"{topic}/{number}" for number in range(SUBSCRIPTIONS)]
    pages = [site.open(context) for _ in range(2)]
    for page in pages:
        # A page that does nothing with what it hears but count.
        page.evaluate(
            """async ([url, topics]) => {
                const { subscribe } = await import("petasos-client");
                window.count = 0;
                window.all = topics.map((topic) => subscribe(url, topic));
                for (const news of all) news.on("message", () => { count += 1; });
            }""",
            [site.gate.url, topics],
        )
        page.wait_for_function("all.every((news) => news.state === 'open')")
    wait_until(lambda: site.hub.streams() == 1, "one stream")
    plain = site.open(context)
    plain.evaluate(
        """([url, topics]) => {
            window.count = 0;
            window.source = new EventSource(`${url}?${topics.map((topic) => `topic=${topic}`).join("&")}`);
            source.onmessage = () => { count += 1; };
        }""",
        [site.gate.url, topics],
    )
    plain.wait_for_function("source.readyState === 1")
    pages.append(plain)
    sessions = [context.new_cdp_session(page) for page in pages]
    for session in sessions:
        # The time that the thread has worked, not the time that others had on a busy machine.
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
    with site.traffic(*((name,) for name in topics), pause=0.008) as traffic:
        # Code that runs for the first time costs more.
        traffic.wait_for_more(100)
        before, began = [metrics(session) for session in sessions], time.monotonic()
        # Nothing else is asked of the pages meanwhile.
        traffic.wait_for_more(EVENTS)
        after, seconds = [metrics(session) for session in sessions], time.monotonic() - began
    names = ("has the stream", "hears from it", "has an EventSource")
    spent = {}
    for name, then, now in zip(names, before, after, strict=True):
        spent[name] = 1000 * (now["TaskDuration"] - then["TaskDuration"]) / seconds
        numbers = (SUBSCRIPTIONS, EVENTS / seconds, name, spent[name])
        MEASURED.info("%d subscriptions, %.0f events a second: the tab that %s works %.1f ms a second", *numbers)
    most = 4 * spent["has an EventSource"] + 10
    assert spent["has the stream"] < most
    assert spent["hears from it"] < most


def metrics(session: CDPSession) -> dict[str, float]:
    answer = session.send("Performance.getMetrics")
    return {metric["name"]: metric["value"] for metric in answer["metrics"]}
