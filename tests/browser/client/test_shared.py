"""All tabs of an origin share one stream, and each hears exactly what it has subscribed to: whatever happens to tabs,
above all to the leading one, and to the hub."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page

import hubs
from browser.client.gate import Refuse
from browser.client.ledger import Ledger, Traffic, cursor_of, listen
from browser.client.site import Site
from browser.client.tabs import Tabs
from browser.launch import IN_CHROMIUM
from clients import Token
from waiting import wait_until

MEASURED = logging.getLogger(__name__)
TABS = {"chromium": 20, "firefox": 10}
"""Firefox takes far longer to open one."""


class Tab:
    """A page with one subscription for each text of topics with commas between, from a cursor of the page's own."""

    def __init__(self, site: Site, page: Page, *subscriptions: str, **options: Any) -> None:
        self.site, self.page = site, page
        self.load(*subscriptions, **options)

    def load(self, *subscriptions: str, **options: Any) -> None:
        """Goes to such a page, from wherever it is."""
        self.subscriptions = subscriptions
        self.page.goto(self.site.page_url(*subscriptions, **{"after": "now", **options}))
        self._is_loaded()

    def reload(self) -> None:
        self.page.reload()
        self._is_loaded()

    def _is_loaded(self) -> None:
        self.page.wait_for_function("window.isReady")
        self.cursor = cursor_of(self.page.evaluate("firstUrl"))
        assert self.cursor

    @property
    def ledgers(self) -> list[Ledger]:
        return [Ledger(self.page, f"news{number or ''}") for number in range(len(self.subscriptions))]

    def wait_for_more(self) -> None:
        for ledger in self.ledgers:
            ledger.wait_for_more(3)

    def check_so_far(self, traffic: Traffic) -> None:
        for ledger, topics in zip(self.ledgers, self.subscriptions, strict=True):
            traffic.check_so_far(ledger.heard(), topics.split(","), traffic.after(self.cursor))

    def check(self, traffic: Traffic, last: str) -> None:
        for ledger, topics in zip(self.ledgers, self.subscriptions, strict=True):
            ledger.wait_for_text(last)
            traffic.check(ledger.heard(), topics.split(","), traffic.after(self.cursor))
            assert ledger.read()["gaps"] == []


def selections(topic: str) -> Iterator[tuple[str, ...]]:
    """What tabs subscribe to: the same, other topics, several at once, and several subscriptions in a page."""
    a, b, c, d = (f"{topic}/{name}" for name in "abcd")
    return itertools.cycle([(a,), (a,), (b,), (f"{a},{b}",), (c, f"{b},{d}"), (a, a)])


def combinations(topic: str) -> list[tuple[str, ...]]:
    """What updates are published to."""
    a, b, c, d = (f"{topic}/{name}" for name in "abcd")
    return [(a,), (b,), (a, c), (d,), (c,), (b, a), (f"{topic}/of nobody",)]


def all_topics(topic: str) -> list[str]:
    return [f"{topic}/{name}" for name in "abcd"]


def open_tabs(site: Site, context: BrowserContext, topic: str, count: int) -> list[Tab]:
    wanted = selections(topic)
    return [Tab(site, context.new_page(), *next(wanted)) for _ in range(count)]


def wait_for_streams(site: Site, count: int) -> None:
    """At the hub, by its own numbers."""
    wait_until(lambda: site.hub.streams() == count, f"{count} streams at the hub")


def test_twenty_tabs_have_one_stream_while_tabs_come_and_go(
    context: BrowserContext, durable_site: Site, topic: str
) -> None:
    assert context.browser is not None
    site, tabs_of, count = durable_site, Tabs(context), TABS[context.browser.browser_type.name]
    with site.traffic(*combinations(topic), pause=0.02) as traffic:
        tabs = open_tabs(site, context, topic, count)
        for tab in tabs:
            tab.wait_for_more()
        wait_for_streams(site, 1)

        # The leading tab is closed, and some that follow.
        leading = tabs_of.leader()
        gone = [tab for tab in tabs if tab.page is leading] + [tab for tab in tabs if tab.page is not leading][:2]
        for tab in gone:
            tab.check_so_far(traffic)
            tab.page.close()
        tabs = [tab for tab in tabs if tab not in gone]

        # The leading tab goes elsewhere, and comes with other topics; so do others. Some are loaded again.
        wanted = selections(topic)
        leading = tabs_of.leader()
        tabs.sort(key=lambda tab: tab.page is not leading)
        for tab in tabs[:3]:
            tab.wait_for_more()
            tab.check_so_far(traffic)
            tab.page.goto(f"{site.gate.origin}/elsewhere")
            traffic.wait_for_more(3)
            tab.load(*next(wanted))
        leading = tabs_of.leader()
        tabs.sort(key=lambda tab: tab.page is not leading)
        for tab in tabs[:3]:
            tab.wait_for_more()
            tab.check_so_far(traffic)
            tab.reload()
        tabs += open_tabs(site, context, topic, count - len(tabs))

        # The hub is killed and comes back; the way to it is cut.
        for interrupt, repair in ((site.hub.kill, site.hub.start), (site.gate.cut, site.gate.mend)):
            for tab in tabs:
                tab.wait_for_more()
            interrupt()
            tabs[0].ledgers[0].wait_for("subscription.state !== 'open'")
            repair()
        for tab in tabs:
            tab.wait_for_more()
        last = traffic.finish(*all_topics(topic))
    for tab in tabs:
        tab.check(traffic, last)
    wait_for_streams(site, 1)


def test_the_others_hear_again_within_a_second_when_the_leading_tab_is_killed(
    context: BrowserContext, site: Site, topic: str
) -> None:
    tabs_of, ends = Tabs(context), []
    with site.traffic(*combinations(topic)) as traffic:
        tabs = open_tabs(site, context, topic, 6)
        for _ in range(3):
            for tab in tabs:
                tab.wait_for_more()
            leading = tabs_of.leader()
            tabs = [tab for tab in tabs if tab.page is not leading]
            ends.append(tabs_of.kill(leading))
        for tab in tabs:
            tab.wait_for_more()
        last = traffic.finish(*all_topics(topic))
    for tab in tabs:
        tab.check(traffic, last)
    wait_for_streams(site, 1)
    sent = {attempt.id: attempt.at for attempt in traffic.attempts}
    pauses = [
        min(entry["at"] for entry in ledger.heard() if sent[entry["id"]] > end) - end
        for end in ends
        for tab in tabs
        for ledger in tab.ledgers
    ]
    MEASURED.info("until others hear again after the leading tab was killed: %d ms at most", max(pauses))
    # A second, on a machine that does nothing else.
    assert max(pauses) < 5_000


def test_topics_come_and_go_in_many_tabs_at_once(context: BrowserContext, site: Site, topic: str) -> None:
    """Nothing is missing of the topics that stay, and all is in order."""
    own, more = f"{topic}/a", f"{topic}/b"
    with site.traffic(*combinations(topic)) as traffic:
        tabs = [Tab(site, context.new_page(), own if number % 2 else f"{topic}/d") for number in range(6)]
        for _ in range(3):
            for tab in tabs:
                tab.page.evaluate("(topic) => { subscriptions.news.add(topic) }", more)
            for tab in tabs:
                tab.ledgers[0].wait_for("ledger.heard.length > argument", len(tab.ledgers[0].heard()) + 8)
            for tab in tabs:
                tab.page.evaluate("(topic) => { subscriptions.news.remove(topic) }", more)
            traffic.wait_for_more()
        last = traffic.finish(*all_topics(topic))
    by_id = {attempt.id: attempt for attempt in traffic.attempts}
    for tab in tabs:
        tab.ledgers[0].wait_for_text(last)
        heard = tab.ledgers[0].heard()
        numbers = [by_id[entry["id"]].number for entry in heard]
        assert numbers == sorted(set(numbers)), "in another order, or twice"
        kept = [entry for entry in heard if set(by_id[entry["id"]].topics) & set(tab.subscriptions)]
        traffic.check(kept, tab.subscriptions, traffic.after(tab.cursor))
        assert any(by_id[entry["id"]].topics == (more,) for entry in heard)
    wait_for_streams(site, 1)


def test_a_tab_with_an_old_cursor_hears_everything_since(
    context: BrowserContext, durable_site: Site, topic: str
) -> None:
    """Of topics that the stream has and of others, and more than anybody keeps for it."""
    site = durable_site
    first = Tab(site, context.new_page(), f"{topic}/a")
    first.ledgers[0].wait_until_open()
    with site.traffic(*combinations(topic), pause=0.0) as traffic:
        traffic.wait_for_more(1_200)
        old = traffic.attempts[5].id
        tabs = [
            Tab(site, context.new_page(), topics, after=old)
            for topics in (f"{topic}/a", f"{topic}/b", f"{topic}/a,{topic}/b,{topic}/c")
        ]
        tabs.append(Tab(site, context.new_page(), f"{topic}/d", after="earliest"))
        for tab in tabs:
            tab.wait_for_more()
        last = traffic.finish(*all_topics(topic))
    for tab in [first, *tabs]:
        tab.check(traffic, last)
    wait_for_streams(site, 1)


@IN_CHROMIUM
def test_tabs_of_two_origins_do_not_mix(context: BrowserContext, site: Site, topic: str) -> None:
    with site.traffic(*combinations(topic)) as traffic:
        tabs = [
            Tab(site, context.new_page(), f"{topic}/{name}", origin=origin)
            for origin in (site.gate.origin, site.origin, site.origin.replace("127.0.0.1", "localhost"))
            for name in "ab"
        ]
        for tab in tabs:
            tab.wait_for_more()
        last = traffic.finish(*all_topics(topic))
    for tab in tabs:
        tab.check(traffic, last)
    wait_for_streams(site, 3)


def test_without_a_secure_context_each_tab_has_a_stream(context: BrowserContext, site: Site, topic: str) -> None:
    """Plain HTTP on another machine than this has no Web Locks."""
    origin = site.origin.replace("127.0.0.1", "app.example.test")
    with site.traffic(*combinations(topic)) as traffic:
        tabs = [Tab(site, context.new_page(), f"{topic}/{name}", origin=origin) for name in "aab"]
        assert not tabs[0].page.evaluate("isSecureContext")
        for tab in tabs:
            tab.wait_for_more()
        tabs.pop(0).page.close()
        last = traffic.finish(*all_topics(topic))
    for tab in tabs:
        tab.check(traffic, last)
    wait_for_streams(site, 2)


@IN_CHROMIUM
@pytest.mark.parametrize("missing", ["navigator.locks", "window.BroadcastChannel"])
def test_where_a_part_of_the_browser_is_missing_each_tab_has_a_stream(
    context: BrowserContext, site: Site, topic: str, missing: str
) -> None:
    owner, name = missing.split(".")
    context.add_init_script(f"Object.defineProperty({owner}, {name!r}, {{ value: undefined }});")
    with site.traffic(*combinations(topic)) as traffic:
        tabs = [Tab(site, context.new_page(), f"{topic}/{name}") for name in "ab"]
        for tab in tabs:
            tab.wait_for_more()
        last = traffic.finish(*all_topics(topic))
    for tab in tabs:
        tab.check(traffic, last)
    wait_for_streams(site, 2)


@IN_CHROMIUM
def test_tabs_that_ask_in_another_way_have_a_stream_of_their_own(
    context: BrowserContext, other_context: BrowserContext, site: Site, topic: str
) -> None:
    """With other credentials, in another dialect, of another user of the machine, or because they say so."""
    page = site.open(context)
    options: list[dict[str, Any]] = [
        {},
        {"credentials": "omit"},
        {"protocol": "1.0"},
        {"share": False},
        {"share": "a group"},
    ]
    topics = [f"{topic}/a"]
    ledgers = [listen(page, f"news{number}", site.gate.url, topics, **each) for number, each in enumerate(options)]
    ledgers.append(site.ledger(other_context, *topics))
    for ledger in ledgers:
        ledger.wait_until_open()
    site.publish(topics[0], "to all")
    for ledger in ledgers:
        ledger.wait_for_text("to all")
        assert ledger.texts() == ["to all"]
    wait_for_streams(site, len(ledgers))


@IN_CHROMIUM
def test_tokens_of_tabs_are_not_mixed(context: BrowserContext, site: Site, topic: str) -> None:
    """Each hears what its own token lets it hear."""
    users = [f"{topic}/users/{number}" for number in range(3)]
    site.token = lambda: 500
    ledgers = []
    for user in users:
        token = Token.sign({"mercure": {"subscribe": [user]}}, hubs.SUBSCRIBER)
        page = site.open(context)
        ledgers.append(listen(page, "in the URL", f"{site.gate.url}?authorization={token}", users))
        ledgers.append(listen(page, "in the header", site.gate.url, users, token=token))
    for ledger in ledgers:
        ledger.wait_until_open()
    for user in users:
        site.publish(user, f"for {user}", private="on")
    site.publish(users[0], "for all")
    for ledger, user in zip(ledgers, [user for user in users for _ in range(2)], strict=True):
        ledger.wait_for_text("for all")
        assert ledger.texts() == [f"for {user}", "for all"]


@IN_CHROMIUM
def test_tabs_of_a_group_share_a_stream_with_a_token_for_all_topics(
    context: BrowserContext, site: Site, topic: str
) -> None:
    names = [f"{topic}/{name}" for name in "abcd"]
    site.token = lambda: Token.sign({"mercure": {"subscribe": names}}, hubs.SUBSCRIBER)
    pages = [site.open(context) for _ in names]
    ledgers = [
        listen(page, "news", site.gate.url, [name], token="fetched", share="users")
        for page, name in zip(pages, names, strict=True)
    ]
    for ledger in ledgers:
        ledger.wait_until_open()
    wait_for_streams(site, 1)
    with site.traffic(*((name,) for name in names), private="on") as traffic:
        for ledger in ledgers:
            ledger.wait_for_more()
        pages[0].close()
        for ledger in ledgers[1:]:
            ledger.wait_for_more()
        last = traffic.finish(*names)
    for ledger, name in list(zip(ledgers, names, strict=True))[1:]:
        ledger.wait_for_text(last)
        traffic.check(ledger.heard(), [name], 0)
    wait_for_streams(site, 1)


def test_a_leading_tab_that_is_busy_loses_nothing_for_others(context: BrowserContext, site: Site, topic: str) -> None:
    """Its script does not let it do anything for a while."""
    tabs_of = Tabs(context)
    with site.traffic(*combinations(topic)) as traffic:
        tabs = open_tabs(site, context, topic, 4)
        for tab in tabs:
            tab.wait_for_more()
        leading = tabs_of.leader()
        leading.evaluate("() => { const end = performance.now() + 3000; while (performance.now() < end); }")
        for tab in tabs:
            tab.wait_for_more()
        last = traffic.finish(*all_topics(topic))
    for tab in tabs:
        tab.check(traffic, last)
    wait_for_streams(site, 1)


def test_a_leading_tab_that_hangs_is_replaced_and_comes_back_without_loss(
    context: BrowserContext, site: Site, topic: str
) -> None:
    tabs_of = Tabs(context)
    with site.traffic(*combinations(topic)) as traffic:
        first = Tab(site, context.new_page(), f"{topic}/a")
        first.wait_for_more()
        page = context.new_page()
        # It waits a tenth of a second where others wait five, before it takes the lead.
        page.add_init_script("const real = setInterval; window.setInterval = (call, pause) => real(call, pause / 50);")
        second = Tab(site, page, f"{topic}/a,{topic}/b")
        second.wait_for_more()
        assert tabs_of.leader() is first.page
        requests = len(site.gate.arrivals)
        first.page.evaluate(
            """() => { window.isBack = false; setTimeout(() => {
                const end = performance.now() + 4000;
                while (performance.now() < end);
                window.isBack = true;
            }); }"""
        )
        wait_until(lambda: len(site.gate.arrivals) > requests, "the other tab leads")
        second.wait_for_more()
        first.page.wait_for_function("isBack")
        first.wait_for_more()
        second.wait_for_more()
        last = traffic.finish(*all_topics(topic))
    for tab in (first, second):
        tab.check(traffic, last)
    wait_for_streams(site, 1)
    assert tabs_of.leader() is page


@IN_CHROMIUM
def test_a_leading_tab_that_is_frozen_does_not_silence_others(context: BrowserContext, site: Site, topic: str) -> None:
    tabs_of = Tabs(context)
    with site.traffic(*combinations(topic)) as traffic:
        tabs = open_tabs(site, context, topic, 4)
        for tab in tabs:
            tab.wait_for_more()
        leading = tabs_of.leader()
        session = context.new_cdp_session(leading)
        session.send("Page.setWebLifecycleState", {"state": "frozen"})
        for tab in tabs:
            if tab.page is not leading:
                tab.wait_for_more()
        session.send("Page.setWebLifecycleState", {"state": "active"})
        for tab in tabs:
            tab.wait_for_more()
        last = traffic.finish(*all_topics(topic))
    for tab in tabs:
        tab.check(traffic, last)
    wait_for_streams(site, 1)


@IN_CHROMIUM
def test_more_topics_than_a_stream_may_have(context: BrowserContext, site: Site, topic: str) -> None:
    """The hub takes a hundred of one subscriber; together the tabs want more."""
    tabs = [
        Tab(site, context.new_page(), ",".join(f"{topic}/{part}/{number}" for number in range(60))) for part in range(3)
    ]
    for tab in tabs:
        tab.ledgers[0].wait_until_open()
    for part in range(3):
        site.publish(f"{topic}/{part}/59", f"for {part}")
    for part, tab in enumerate(tabs):
        tab.ledgers[0].wait_for_text(f"for {part}")
        assert tab.ledgers[0].texts() == [f"for {part}"]


@IN_CHROMIUM
def test_every_refusal_is_told_to_every_tab(context: BrowserContext, site: Site, topic: str) -> None:
    """Not only to the leading one: each page says in its own way that it hears nothing."""
    names = [f"{topic}/{name}" for name in "abc"]
    ledgers = [site.ledger(context, name) for name in names]
    refusal = Refuse(401, {"Content-Type": "application/problem+json"}, '{"title": "Unauthorized", "status": 401}')
    for name in names:
        site.gate.plan(name, *[refusal] * 4)
    site.gate.drop()
    for ledger in ledgers:
        ledger.wait_for("ledger.refusals.some((refusal) => refusal.status === 401 && refusal.willRetry)")
        ledger.wait_for("ledger.states.includes('refused')")
    for name in names:
        site.gate.plan(name)
    for ledger, name in zip(ledgers, names, strict=True):
        ledger.wait_until_open()
        site.publish(name, "after")
        ledger.wait_for_text("after")


@IN_CHROMIUM
def test_a_gap_is_told_to_every_tab(context: BrowserContext, site: Site, topic: str) -> None:
    ledgers = [site.ledger(context, f"{topic}/{name}") for name in "aab"]
    for name in "ab":
        site.publish(f"{topic}/{name}", "before")
    for ledger in ledgers:
        ledger.wait_for_text("before")
    site.gate.cut()
    site.hub.stop()
    site.hub.start()
    for name in "ab":
        site.publish(f"{topic}/{name}", "after")
    site.gate.mend()
    for ledger in ledgers:
        ledger.wait_for_text("after")
        ledger.wait_for("ledger.gaps.length > 0")
        assert ledger.texts() == ["before", "after"]


@pytest.fixture(scope="module")
def plain_site(module_stack: ExitStack) -> Site:
    """Its hub knows nothing of streams for several topics that are told apart, as those of others."""
    return Site(module_stack, strips=("petasos-multiplex",))


@IN_CHROMIUM
def test_tabs_with_a_hub_of_another_kind_have_a_stream_for_each_set_of_topics(
    context: BrowserContext, plain_site: Site, topic: str
) -> None:
    site, tabs_of = plain_site, Tabs(context)
    a, b = f"{topic}/a", f"{topic}/a,{topic}/b"
    with site.traffic(*combinations(topic)) as traffic:
        tabs = [Tab(site, context.new_page(), topics) for topics in (a, a, b, a, b)]
        for tab in tabs:
            tab.wait_for_more()
        wait_for_streams(site, 2)
        leading = tabs_of.streaming()[0]
        for tab in tabs:
            if tab.page is leading:
                tab.check_so_far(traffic)
        leading.close()
        tabs = [tab for tab in tabs if tab.page is not leading]
        for tab in tabs:
            tab.wait_for_more()
        site.gate.drop()
        for tab in tabs:
            tab.wait_for_more()
        last = traffic.finish(*all_topics(topic))
    for tab in tabs:
        tab.check(traffic, last)
    wait_for_streams(site, 2)
