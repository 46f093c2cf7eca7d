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
    """In the tab that has the stream, and in one that hears from it."""
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
    for name, then, now in zip(("that has the stream", "that hears from it"), before, after, strict=True):
        task, script = (1000 * (now[part] - then[part]) / seconds for part in ("TaskDuration", "ScriptDuration"))
        numbers = (SUBSCRIPTIONS, EVENTS / seconds, name, task, script)
        MEASURED.info(
            "%d subscriptions, %.0f events a second, the tab %s: tasks %.1f ms, scripts %.1f ms a second", *numbers
        )
        # 10 ms with a release build of the browser on a machine of today.
        assert task < 50


def metrics(session: CDPSession) -> dict[str, float]:
    answer = session.send("Performance.getMetrics")
    return {metric["name"]: metric["value"] for metric in answer["metrics"]}
