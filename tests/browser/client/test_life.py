"""A page lives on: the hub restarts, the cable is cut, the machine sleeps, the page is hidden, left and reloaded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright

from browser.client.gate import Replace
from browser.client.ledger import listen
from browser.client.site import Site
from browser.launch import IN_CHROMIUM, launch, new_context

SHARES = pytest.mark.parametrize("share", [True, False], ids=["shared", "alone"])


@SHARES
def test_the_hub_is_killed_and_nothing_is_lost(
    context: BrowserContext, durable_site: Site, topic: str, share: bool
) -> None:
    site = durable_site
    ledger = site.ledger(context, topic, share=share)
    with site.traffic((topic,)) as traffic:
        for _ in range(2):
            ledger.wait_for_more()
            site.hub.kill()
            ledger.wait_for("subscription.state !== 'open'")
            site.hub.start()
            ledger.wait_until_open()
            ledger.wait_for_more()
        ledger.wait_for_text(traffic.finish(topic))
    traffic.check(ledger.heard(), {topic}, 0)
    assert ledger.read()["gaps"] == []


@IN_CHROMIUM
@SHARES
def test_a_hub_that_forgets_is_a_gap(context: BrowserContext, site: Site, topic: str, share: bool) -> None:
    """Its log was in memory: what the new one has is heard, and the page is told that there may have been more."""
    ledger = site.ledger(context, topic, share=share)
    site.publish(topic, "before")
    ledger.wait_for_text("before")
    cursor = ledger.heard()[0]["id"]
    site.gate.cut()
    site.hub.stop()
    site.hub.start()
    site.publish(topic, "meanwhile")
    site.gate.mend()
    ledger.wait_for_text("meanwhile")
    (gap,) = ledger.read()["gaps"]
    assert gap == {"asked": cursor, "answered": "earliest"}
    site.gate.drop()
    ledger.wait_for("ledger.states.filter((state) => state === 'open').length >= 3")
    site.publish(topic, "after")
    ledger.wait_for_text("after")
    assert ledger.texts() == ["before", "meanwhile", "after"]
    assert len(ledger.read()["gaps"]) == 1, "the same gap is told once"


@SHARES
def test_the_cable_is_cut_again_and_again(context: BrowserContext, site: Site, topic: str, share: bool) -> None:
    ledger = site.ledger(context, topic, share=share)
    with site.traffic((topic,)) as traffic:
        for _ in range(5):
            ledger.wait_for_more()
            site.gate.cut()
            ledger.wait_for("subscription.state !== 'open'")
            site.gate.mend()
            ledger.wait_until_open()
        ledger.wait_for_text(traffic.finish(topic))
    traffic.check(ledger.heard(), {topic}, 0)
    assert ledger.read()["gaps"] == []


def test_offline_and_online_again(context: BrowserContext, site: Site, topic: str) -> None:
    ledger = site.ledger(context, topic)
    with site.traffic((topic,)) as traffic:
        for _ in range(2):
            ledger.wait_for_more()
            context.set_offline(True)
            site.gate.drop()
            ledger.wait_for("subscription.state !== 'open'")
            context.set_offline(False)
            ledger.wait_until_open()
        ledger.wait_for_text(traffic.finish(topic))
    traffic.check(ledger.heard(), {topic}, 0)


@pytest.fixture
def stopped_page(context: BrowserContext, site: Site) -> Page:
    """A page whose timers only go on when a test says so."""
    page = context.new_page()
    page.clock.install()
    page.goto(site.page_url())
    page.wait_for_function("window.isReady")
    return page


def stop_clock(page: Page) -> None:
    page.clock.pause_at(page.evaluate("Date.now()") + 1000)


@pytest.mark.parametrize("event", ["online", "visibilitychange"])
def test_it_connects_at_once_when_there_is_hope(stopped_page: Page, site: Site, topic: str, event: str) -> None:
    """No timer runs, so only the event can be the reason."""
    page = stopped_page
    ledger = listen(page, "news", site.gate.url, [topic])
    ledger.wait_until_open()
    stop_clock(page)
    site.gate.cut()
    ledger.wait_for("subscription.state === 'waiting'")
    site.publish(topic, "meanwhile")
    site.gate.mend()
    target = "window" if event == "online" else "document"
    page.evaluate(f"() => {{ {target}.dispatchEvent(new Event({event!r}, {{ bubbles: true }})); }}")
    ledger.wait_for_text("meanwhile")


def test_a_stream_that_slept_is_opened_again(stopped_page: Page, site: Site, topic: str) -> None:
    """Nothing has closed it, and nothing comes any more: as after a night with the lid closed."""
    page = stopped_page
    ledger = listen(page, "news", site.gate.url, [topic])
    ledger.wait_until_open()
    site.publish(topic, "before")
    ledger.wait_for_text("before")
    site.gate.silence()
    site.publish(topic, "in the night")
    page.clock.fast_forward(8 * 3_600_000)
    page.evaluate("() => { document.dispatchEvent(new Event('visibilitychange', { bubbles: true })); }")
    page.clock.fast_forward(30_000)
    ledger.wait_for_text("in the night")
    assert ledger.texts() == ["before", "in the night"]


@IN_CHROMIUM
def test_a_stream_with_signs_of_life_is_left_alone(stopped_page: Page, site: Site, topic: str) -> None:
    page = stopped_page
    ledger = listen(page, "news", site.gate.url, [topic])
    ledger.wait_until_open()
    for number in range(20):
        page.clock.fast_forward(20_000)
        site.publish(topic, str(number))
        ledger.wait_for_text(str(number))
    assert len(site.gate.arrived(topic)) == 1


@IN_CHROMIUM
def test_a_hidden_page_hears_and_waits_no_longer_than_others(context: BrowserContext, site: Site, topic: str) -> None:
    ledger = site.ledger(context, topic)
    ledger.page.evaluate(
        """() => {
            Object.defineProperty(document, "visibilityState", { value: "hidden", configurable: true });
            document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
        }"""
    )
    site.publish(topic, "hidden")
    ledger.wait_for_text("hidden")
    site.gate.drop()
    site.publish(topic, "hidden and cut")
    ledger.wait_for_text("hidden and cut")
    assert ledger.texts() == ["hidden", "hidden and cut"]


@SHARES
def test_a_page_that_is_reloaded_goes_on_where_it_was(
    context: BrowserContext, site: Site, topic: str, share: bool
) -> None:
    """Its ledger is in the session storage, as the cursor is."""
    ledger = site.ledger(context, topic, cursor="session", share=share)
    page = ledger.page
    with site.traffic((topic,)) as traffic:
        for turn in range(4):
            ledger.wait_for_more()
            if turn == 2:
                site.gate.cut()
            page.reload()
            page.wait_for_function("window.isReady")
            site.gate.mend()
        ledger.wait_for_more()
        ledger.wait_for_text(traffic.finish(topic))
    traffic.check(ledger.heard(), {topic}, 0)


@pytest.fixture(scope="module")
def returning_browser(browser: Browser, playwright: Playwright) -> Iterator[Browser]:
    """A browser that shows pages again as they were."""
    if browser.browser_type.name == "firefox":
        yield browser
        return
    other = launch(playwright, "chromium", keeps_pages=True)
    yield other
    other.close()


@SHARES
def test_a_page_to_which_the_user_comes_back_goes_on_where_it_was(
    returning_browser: Browser, site: Site, topic: str, share: bool
) -> None:
    """Whether the browser has kept it or loads it again."""
    context = new_context(returning_browser)
    ledger = site.ledger(context, topic, cursor="session", share=share)
    page = ledger.page
    page.evaluate("window.isTheSame = true")
    with site.traffic((topic,)) as traffic:
        for _ in range(3):
            ledger.wait_for_more()
            page.evaluate("() => { document.getElementById('elsewhere').click(); }")
            page.wait_for_function("location.pathname === '/elsewhere'")
            traffic.wait_for_more()
            page.evaluate("() => { history.back(); }")
            page.wait_for_function("location.pathname === '/page' && window.isReady")
            ledger.wait_for_more()
        ledger.wait_for_text(traffic.finish(topic))
    traffic.check(ledger.heard(), {topic}, 0)
    context.close()


@IN_CHROMIUM
@SHARES
def test_a_page_that_the_browser_has_frozen_goes_on_where_it_was(
    context: BrowserContext, site: Site, topic: str, share: bool
) -> None:
    """By the lifecycle of pages, as Chromium does with tabs that nobody has looked at for long."""
    ledger = site.ledger(context, topic, share=share)
    session = context.new_cdp_session(ledger.page)
    with site.traffic((topic,)) as traffic:
        for _ in range(3):
            ledger.wait_for_more()
            session.send("Page.setWebLifecycleState", {"state": "frozen"})
            traffic.wait_for_more(20)
            session.send("Page.setWebLifecycleState", {"state": "active"})
            ledger.wait_for_more(30)
        ledger.wait_for_text(traffic.finish(topic))
    traffic.check(ledger.heard(), {topic}, 0)


def test_a_page_that_may_not_share_anything_hears(context: BrowserContext, site: Site, topic: str) -> None:
    """A frame without an origin of its own, to which the browser denies locks and storage."""
    site.gate.plan(topic, Replace(b"id: urn:x:1\ndata: heard\n\n"))
    page = site.open(context)
    with page.expect_event("framenavigated", lambda frame: frame.parent_frame is not None) as navigated:
        page.evaluate(
            """(url) => {
                const frame = document.createElement("iframe");
                frame.sandbox = "allow-scripts";
                frame.src = url;
                document.body.append(frame);
            }""",
            site.page_url(topic, cursor="session", credentials="omit"),
        )
    # The frame has arrived; its scripts may still be on their way.
    navigated.value.wait_for_function("window.ledgers?.news?.heard.some((entry) => entry.data === 'heard')")
