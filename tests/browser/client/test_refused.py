"""A refusal of any kind does not end a subscription, and the page is told of it."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

import hubs
from browser.client.gate import Refuse, Replace, Silence
from browser.client.ledger import Ledger, listen
from browser.client.site import Site
from browser.launch import IN_CHROMIUM, new_context
from clients import Token

HTML = {"Content-Type": "text/html"}
PROBLEM = {"Content-Type": "application/problem+json"}
REFUSALS = {
    "401": Refuse(401, PROBLEM, '{"title": "Unauthorized", "detail": "the token has ended", "status": 401}'),
    "403": Refuse(403, PROBLEM, '{"title": "Forbidden", "detail": "no grant", "status": 403}'),
    "400": Refuse(400),
    "404": Refuse(404, HTML, "<h1>Not Found</h1>"),
    "405": Refuse(405, {"Allow": "POST"}),
    "410": Refuse(410),
    "429": Refuse(429, {"Retry-After": "1"}),
    "500 of a proxy": Refuse(500, HTML, "<h1>Internal Server Error</h1>"),
    "502 of a proxy": Refuse(502, HTML, "<h1>Bad Gateway</h1>", with_cors=False),
    "503": Refuse(503, {"Retry-After": "1"}),
    "204": Refuse(204),
    "a page in place of a stream": Refuse(200, HTML, "<h1>Sign in</h1>"),
    "a redirect to a page": Refuse(302, {"Location": "/elsewhere"}, with_cors=False),
}


@pytest.fixture(scope="module")
def clocked_page(browser: Browser, site: Site) -> Iterator[Page]:
    """The time of its timers can be moved."""
    context = new_context(browser)
    page = context.new_page()
    page.clock.install()
    page.goto(site.page_url())
    page.wait_for_function("window.isReady")
    yield page
    context.close()


@pytest.fixture
def page(clocked_page: Page) -> Iterator[Page]:
    yield clocked_page
    clocked_page.evaluate("for (const name in subscriptions) subscriptions[name].close()")


def move_time_until(page: Page, ledger: Ledger, condition: str, *, connecting: bool = False) -> None:
    """Moves the page's clock until an expression of ``ledger`` and ``subscription`` is true.

    While the client waits for an answer of a real server, the clock only moves with ``connecting``."""
    for _ in range(STEPS_MAX):
        state = "true" if connecting else "subscription.state !== 'connecting'"
        ledger.wait_for(f"({condition}) || ({state})")
        if ledger.holds(condition):
            return
        page.clock.fast_forward(STEP)
    raise AssertionError(f"in vain for {condition}, for {STEPS_MAX * STEP} ms: {ledger.read()}")


STEP = 35_000
"""Milliseconds. Timers that are due in a step come at its end, so no time passes while a request is under way."""

STEPS_MAX = 100


def is_refused_twice(page: Page, site: Site, topic: str, **options: Any) -> None:
    for name, refusal in REFUSALS.items():
        own = f"{topic}/{name}"
        site.gate.plan(own, refusal, refusal)
        ledger = listen(page, own, site.gate.url, [own], **options)
        if refusal.with_cors or own_origin(page, site):
            move_time_until(page, ledger, "ledger.refusals.length >= 2")
            is_told(ledger.read()["refusals"][:2], name, refusal)
        move_time_until(page, ledger, "subscription.state === 'open'")
        assert len(site.gate.arrived(own)) == 3, name
        site.publish(own, "after")
        ledger.wait_for_text("after")
        assert ledger.texts() == ["after"], name
        states = ledger.read()["states"]
        assert "refused" in states or "waiting" in states, (name, states)
        page.evaluate("(name) => subscriptions[name].close()", own)


def is_told(refusals: list[dict[str, Any]], name: str, refusal: Refuse) -> None:
    for told in refusals:
        assert told["willRetry"], name
        # That of a redirect is that of the page behind it.
        assert told["status"] == refusal.status or refusal.status == 302, name
        if "json" in refusal.headers.get("Content-Type", ""):
            assert [told["title"], told["detail"]] == list(json.loads(refusal.body).values())[:2], name


def own_origin(page: Page, site: Site) -> bool:
    """Whether the page is of the hub's origin. A script learns nothing of what another origin keeps from it."""
    return page.url.startswith(site.gate.origin)


@pytest.mark.parametrize("share", [True, False], ids=["shared", "alone"])
def test_a_refusal_does_not_end_it(page: Page, site: Site, topic: str, share: bool) -> None:
    is_refused_twice(page, site, topic, share=share, backoff={})


def test_a_refusal_of_a_hub_of_another_origin_does_not_end_it(context: BrowserContext, site: Site, topic: str) -> None:
    page = context.new_page()
    page.clock.install()
    page.goto(site.page_url(origin=site.origin))
    page.wait_for_function("window.isReady")
    is_refused_twice(page, site, topic, backoff={})


@IN_CHROMIUM
def test_it_is_never_silent_while_it_is_refused(page: Page, site: Site, topic: str) -> None:
    """However often: the pauses have a bound, and the state says that no stream is open."""
    site.gate.plan(topic, *[Refuse(500)] * 12)
    ledger = listen(page, "news", site.gate.url, [topic], backoff={})
    move_time_until(page, ledger, "ledger.refusals.length >= 12")
    times = [refusal["at"] for refusal in ledger.read()["refusals"]]
    assert max(later - sooner for sooner, later in itertools.pairwise(times)) <= 5 * 60_000
    assert page.evaluate("subscriptions.news.state") != "open"
    move_time_until(page, ledger, "subscription.state === 'open'")


@IN_CHROMIUM
def test_retry_after_is_honoured(context: BrowserContext, site: Site, topic: str) -> None:
    """In seconds and as a date."""
    page = site.open(context)
    seconds, date = f"{topic}/seconds", f"{topic}/date"
    at = int(time.time()) + 4
    for name, after in ((seconds, "3"), (date, formatdate(at, usegmt=True))):
        site.gate.plan(name, Refuse(503, {"Retry-After": after}))
        # Each has a stream of its own.
        listen(page, name, site.gate.url, [name], share=name)
    first, second = site.gate.wait_for(seconds, 2)
    assert second.at - first.at >= 2.9
    _, second = site.gate.wait_for(date, 2)
    assert time.time() - (time.monotonic() - second.at) >= at - 0.1


@IN_CHROMIUM
def test_retry_after_is_honoured_when_topics_change(page: Page, site: Site, topic: str) -> None:
    site.gate.plan(topic, Refuse(503, {"Retry-After": "60"}))
    ledger = listen(page, "changed", site.gate.url, [topic])
    ledger.wait_for("ledger.refusals.length > 0")
    page.evaluate("(topic) => { subscriptions.changed.add(topic) }", f"{topic}/more")
    # The clock of the page moves only here.
    page.clock.fast_forward(30_000)
    assert page.evaluate("subscriptions.changed.state") == "refused"
    move_time_until(page, ledger, "subscription.state === 'open'")
    assert len(site.gate.arrived(topic)) == 2


@IN_CHROMIUM
def test_a_pause_without_end_is_not_believed(page: Page, site: Site, topic: str) -> None:
    ledgers = []
    for after in ("31536000", "soon", "-1", "1e9", "Tue, 01 Jan 2199 00:00:00 GMT"):
        site.gate.plan(f"{topic}/{after}", Refuse(503, {"Retry-After": after}))
        ledgers.append(listen(page, after, site.gate.url, [f"{topic}/{after}"], share=after))
    for ledger in ledgers:
        ledger.wait_for("ledger.refusals.length > 0")
    page.clock.fast_forward(24 * 3_600_000)
    for ledger in ledgers:
        move_time_until(page, ledger, "subscription.state === 'open'")


@IN_CHROMIUM
def test_the_retry_field_of_a_stream_sets_the_pause(context: BrowserContext, site: Site, topic: str) -> None:
    page = site.open(context)
    body = b"retry: 2500\n\nid: urn:x:1\ndata: a\n\n"
    site.gate.plan(topic, Replace(body, ends=True))
    # The jitter leaves half of it.
    page.evaluate("Math.random = () => 0.5")
    listen(page, "news", site.gate.url, [topic], backoff={"initial": 1})
    first, second = site.gate.wait_for(topic, 2)
    # What the hub of these tests says otherwise is 100 ms.
    assert 0.5 < second.at - first.at < 30
    assert second.cursor == "urn:x:1"


def test_a_hub_that_never_answers_does_not_hold_it_for_ever(page: Page, site: Site, topic: str) -> None:
    """As behind a proxy that has lost its hub: after a time the request is given up and made again."""
    site.gate.plan(topic, Silence())
    ledger = listen(page, "news", site.gate.url, [topic])
    site.gate.wait_for(topic, 1)
    assert page.evaluate("subscriptions.news.state") == "connecting"
    move_time_until(page, ledger, "ledger.states.includes('waiting')", connecting=True)
    move_time_until(page, ledger, "subscription.state === 'open'")
    site.publish(topic, "after")
    ledger.wait_for_text("after")


def token(topic: str, seconds: float) -> str:
    claims = {"mercure": {"subscribe": [topic]}, "exp": int(time.time() + seconds)}
    return Token.sign(claims, hubs.SUBSCRIBER)


@pytest.mark.parametrize("where", ["the hub's origin", "another origin"])
def test_a_token_that_ends_is_renewed_and_no_private_update_is_lost(
    context: BrowserContext, site: Site, topic: str, where: str
) -> None:
    site.token = lambda: token(topic, 2)
    page = site.open(context, origin=site.origin if where == "another origin" else None)
    asked = site.tokens_asked
    ledger = listen(page, "news", site.gate.url, [topic], token="fetched")
    ledger.wait_until_open()
    with site.traffic((topic,), private="on") as traffic:
        ledger.wait_for_more()
        site.gate.wait_for(topic, 3)
        ledger.wait_for_more()
        ledger.wait_for_text(traffic.finish(topic))
    assert site.tokens_asked >= asked + 3
    bearers = [arrival.bearer for arrival in site.gate.arrived(topic)]
    assert len(set(bearers)) == len(bearers), "each connection has a token of its own"
    traffic.check(ledger.heard(), {topic}, 0)
    assert ledger.read()["gaps"] == []


@IN_CHROMIUM
def test_a_token_that_the_hub_refuses_is_asked_for_again(context: BrowserContext, site: Site, topic: str) -> None:
    tokens = iter([Token.sign({"mercure": {"subscribe": [topic]}}, "another key, of thirty-two bytes or more")])
    site.token = lambda: next(tokens, None) or token(topic, 600)
    ledger = listen(site.open(context), "news", site.gate.url, [topic], token="fetched")
    ledger.wait_until_open()
    (refusal,) = ledger.read()["refusals"]
    assert (refusal["status"], refusal["willRetry"]) == (401, True)
    site.publish(topic, "secret", private="on")
    ledger.wait_for_text("secret")


@IN_CHROMIUM
def test_a_callback_for_the_token_that_fails_is_called_again(context: BrowserContext, site: Site, topic: str) -> None:
    answers = iter([500, 503])
    site.token = lambda: next(answers, None) or token(topic, 600)
    ledger = listen(site.open(context), "news", site.gate.url, [topic], token="fetched")
    ledger.wait_until_open()
    refusals = ledger.read()["refusals"]
    assert [refusal["willRetry"] for refusal in refusals] == [True, True]
    assert len(site.gate.arrived(topic)) == 1, "without a token it asks for no stream"
    site.publish(topic, "secret", private="on")
    ledger.wait_for_text("secret")


@IN_CHROMIUM
@pytest.mark.parametrize("callback", ["thrown", "fetched"])
def test_a_callback_that_keeps_failing_is_told_each_time(page: Page, site: Site, topic: str, callback: str) -> None:
    site.token = lambda: 500
    ledger = listen(page, "news", site.gate.url, [topic], token=callback)
    move_time_until(page, ledger, "ledger.refusals.length >= 3")
    assert site.gate.arrived(topic) == []
    assert page.evaluate("subscriptions.news.state") != "open"
    page.evaluate("subscriptions.news.close()")


@IN_CHROMIUM
def test_a_callback_that_never_answers_is_told_and_called_again(page: Page, site: Site, topic: str) -> None:
    site.token = lambda: token(topic, 6_000)
    ledger = listen(page, "news", site.gate.url, [topic], token="stuck")
    move_time_until(page, ledger, "ledger.refusals.length > 0", connecting=True)
    move_time_until(page, ledger, "subscription.state === 'open'")
    site.publish(topic, "secret", private="on")
    ledger.wait_for_text("secret")


@IN_CHROMIUM
def test_renew_takes_a_new_token_and_loses_nothing(context: BrowserContext, site: Site, topic: str) -> None:
    """As after a login: the stream of before goes on until the new one is there, or nothing is lost meanwhile."""
    site.token = lambda: token(topic, 600)
    ledger = listen(site.open(context), "news", site.gate.url, [topic], token="fetched")
    ledger.wait_until_open()
    with site.traffic((topic,), private="on") as traffic:
        for count in (2, 3, 4):
            ledger.wait_for_more()
            ledger.page.evaluate("() => { subscriptions.news.renew() }")
            site.gate.wait_for(topic, count)
        ledger.wait_for_text(traffic.finish(topic))
    traffic.check(ledger.heard(), {topic}, 0)
