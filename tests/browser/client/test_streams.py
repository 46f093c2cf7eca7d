"""What a stream brings to a page: every form of event, in both dialects, whole and once, wherever it is cut."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import BrowserContext

from browser.client.gate import Pass, Replace
from browser.client.ledger import Ledger, listen
from browser.client.site import Site
from browser.launch import IN_CHROMIUM, new_context
from waiting import wait_until

DIALECTS = ["0.x", "1.0"]


@pytest.fixture(scope="module")
def page(browser: Any, site: Site) -> Any:
    """For tests that need nothing of a page of their own."""
    context = new_context(browser)
    yield site.open(context)
    context.close()


@pytest.fixture(autouse=True)
def _end(page: Any) -> Any:
    yield
    page.evaluate("for (const name in subscriptions) subscriptions[name].close()")


def test_every_way_of_listening_hears_the_same(page: Any, site: Site, topic: str) -> None:
    ledger = listen(page, "news", site.gate.url, [topic])
    page.evaluate("""() => {
        const news = subscriptions.news;
        const ways = window.ways = { message: [], paid: [], all: [], iterated: [], second: [] };
        window.stop = news.on("order-paid", (event) => { ways.paid.push(event.json().total); });
        news.on("order-paid", () => { throw new Error("of the page's own"); });
        news.on("message", (event) => { ways.message.push(event.data); });
        news.on("*", (event) => { ways.all.push(event.data); });
        const iterate = async (into, count) => {
            for await (const event of news) {
                into.push(event.data);
                if (into.length === count) break;
            }
            into.ended = true;
        };
        window.iterating = [iterate(ways.iterated), iterate(ways.second, 2)];
    }""")
    ledger.wait_until_open()
    site.publish(topic, "plain")
    site.publish(topic, json.dumps({"total": 7}), type="order-paid")
    site.publish(topic, "other", type="of no listener")
    ledger.wait_for_text("other")
    page.evaluate("stop()")
    site.publish(topic, json.dumps({"total": 8}), type="order-paid")
    site.publish(topic, "last")
    page.wait_for_function("ways.iterated.includes('last') && ways.second.ended")
    everything = ["plain", '{"total": 7}', "other", '{"total": 8}', "last"]
    ways = page.evaluate("ways")
    assert ledger.texts() == everything
    assert (ways["all"], ways["iterated"], ways["second"]) == (everything, everything, everything[:2])
    assert (ways["message"], ways["paid"]) == (["plain", "last"], [7])
    page.evaluate("subscriptions.news.close()")
    page.evaluate("Promise.all(iterating)")
    assert page.evaluate("ways.iterated.ended")
    assert page.evaluate("subscriptions.news.state") == "closed"


@IN_CHROMIUM
def test_a_slow_reader_of_an_iterator_misses_nothing(page: Any, site: Site, topic: str) -> None:
    ledger = listen(page, "news", site.gate.url, [topic])
    page.evaluate("""() => {
        window.iterated = [];
        window.step = () => {};
        (async () => {
            for await (const event of subscriptions.news) {
                iterated.push(event.data);
                await new Promise((resolve) => { window.step = resolve; });
            }
        })();
    }""")
    ledger.wait_until_open()
    texts = [str(number) for number in range(40)]
    site.publish(topic, *texts)
    for number in range(1, 41):
        page.wait_for_function("(count) => iterated.length === count", arg=number)
        page.evaluate("step()")
    assert page.evaluate("iterated") == texts


def test_an_abort_signal_closes_it(page: Any, site: Site, topic: str) -> None:
    states = page.evaluate(
        """async ([url, topic]) => {
            const { subscribe } = await import("petasos-client");
            const before = subscribe(url, [`${topic}/before`], { signal: AbortSignal.abort() });
            const abort = new AbortController();
            window.late = subscribe(url, [topic], { signal: abort.signal, share: false });
            window.abort = () => abort.abort();
            return before.state;
        }""",
        [site.gate.url, topic],
    )
    assert states == "closed"
    page.wait_for_function("late.state === 'open'")
    page.evaluate("abort()")
    page.wait_for_function("late.state === 'closed'")
    assert site.gate.arrived(f"{topic}/before") == []


FORMS = (
    "\ufeffid: urn:x:1\ndata: one\n\n"
    "data: no id\n\ndata: no id\n\n"
    ": a comment\n\n"
    "data: two\r\ndata:  lines\r\n\r\n"
    "data: three\rdata\rdata:lines\r\r"
    "event: kind\ndata: typed\n\n"
    "event: nothing\n\n"
    "data:\n\n"
    "unknown: field\ndata: after an unknown field\n\n"
    "id: urn:x:2\n\n"
    "id: a\0b\ndata: after a bad id\n\n"
    "retry: soon\nretry: 10\ndata: ünï 🙂\n\n"
    "data: incomplete"
)
HEARD = [
    ("message", "one"),
    ("message", "no id"),
    ("message", "no id"),
    ("message", "two\n lines"),
    ("message", "three\n\nlines"),
    ("kind", "typed"),
    ("message", ""),
    ("message", "after an unknown field"),
    ("message", "after a bad id"),
    ("message", "ünï 🙂"),
]


@pytest.mark.parametrize("share", [True, False], ids=["shared", "alone"])
def test_every_form_of_an_event_is_read_as_a_browser_reads_it(page: Any, site: Site, topic: str, share: bool) -> None:
    body = FORMS.encode()
    site.gate.plan(topic, Replace(body, ends=True), Replace(b"data: end\n\n"))
    ledger = listen(page, f"own {share}", site.gate.url, [topic], share=share)
    ledger.wait_for_text("end")
    heard = ledger.heard()
    assert [(entry["type"], entry["data"]) for entry in heard[:-1]] == HEARD
    assert heard[0]["id"] == "urn:x:1"
    assert site.gate.arrived(topic)[1].cursor == "urn:x:2", "an id without data moves the cursor, a bad one does not"
    own = page.evaluate(
        """(text) => new Promise((resolve) => {
            const heard = [];
            const source = new EventSource(URL.createObjectURL(new Blob([text], { type: "text/event-stream" })));
            for (const type of ["message", "kind", "nothing"]) {
                source.addEventListener(type, (event) => { heard.push([type, event.data]); });
            }
            source.onerror = () => { source.close(); resolve(heard); };
        })""",
        FORMS,
    )
    # Firefox opens no blob as a stream.
    assert own in ([], [list(pair) for pair in HEARD])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_stream_may_be_cut_anywhere(page: Any, site: Site, topic: str, dialect: str) -> None:
    """Also in the middle of an event, a line or a character, and before the first byte."""
    texts = [f"{number}: ünï\n🙂 {'x' * 40}" for number in range(12)]
    site.publish(topic, "before")
    site.publish(topic, *texts)
    site.gate.plan(topic, *(Pass(bytes_max) for bytes_max in (1, 40, 101, 0, 163, 250, 251, 252, 300)))
    name, cursor = ("topic", "lastEventID") if dialect == "0.x" else ("match", "last_event_id")
    ledger = listen(page, dialect, f"{site.gate.url}?{name}={topic}&{cursor}=earliest")
    ledger.wait_for_text(texts[-1])
    site.publish(topic, "last")
    ledger.wait_for_text("last")
    assert ledger.texts() == ["before", *texts, "last"]
    ids = [entry["id"] for entry in ledger.heard()]
    assert len(set(ids)) == len(ids)
    assert ledger.read()["gaps"] == []


@IN_CHROMIUM
@pytest.mark.parametrize("share", [True, False], ids=["shared", "alone"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_selectors_of_each_dialect_work_in_the_url_and_as_topics(
    page: Any, site: Site, topic: str, dialect: str, share: bool
) -> None:
    old = dialect == "0.x"
    pattern = f"{topic}/books/{{id}}" if old else {"urlpattern": f"{topic}/books/:id"}
    parameter = "topic" if old else "match"
    exact = f"https://example.com{topic}/a"
    ledgers = {
        "of the URL": listen(page, "of the URL", f"{site.gate.url}?{parameter}={exact}", share=share),
        "as a topic": listen(page, "as a topic", site.gate.url, [exact], protocol=dialect, share=share),
        "both": listen(page, "both", f"{site.gate.url}?{parameter}={exact}", [pattern], share=share),
    }
    for ledger in ledgers.values():
        ledger.wait_until_open()
    site.publish(exact, "exact")
    site.publish(f"{topic}/books/7", "book")
    site.publish(f"{topic}/books/7/pages", "none")
    site.publish(exact, "last")
    for ledger in ledgers.values():
        ledger.wait_for_text("last")
    ledgers["both"].wait_for_text("book")
    assert ledgers["of the URL"].texts() == ["exact", "last"]
    assert ledgers["as a topic"].texts() == ["exact", "last"]
    # Two streams have no common order.
    assert sorted(ledgers["both"].texts()) == ["book", "exact", "last"]
    queries = [arrival.query for arrival in site.gate.arrived(exact)[-3:]]
    assert all((parameter in query) for query in queries)


@IN_CHROMIUM
def test_everything_is_heard_by_a_star(page: Any, site: Site, topic: str) -> None:
    every, one = listen(page, "every", site.gate.url, "*"), listen(page, "one", site.gate.url, topic)
    for ledger in (every, one):
        ledger.wait_until_open()
    assert site.try_to_publish("two topics", (f"{topic}/x", topic), {})
    site.publish(f"{topic}/other", "other")
    site.publish(topic, "last")
    for ledger in (every, one):
        ledger.wait_for_text("last")
    assert every.texts() == ["two topics", "other", "last"]
    assert one.texts() == ["two topics", "last"]


@pytest.mark.parametrize("share", [True, False], ids=["shared", "alone"])
def test_a_large_event_arrives_whole(page: Any, site: Site, topic: str, share: bool) -> None:
    ledger = listen(page, f"large {share}", site.gate.url, [topic], share=share)
    ledger.wait_until_open()
    text = "".join(f"{number} ü\n" for number in range(100_000))[:400_000]
    site.publish(topic, text, "small")
    ledger.wait_for_text("small")
    assert ledger.texts() == [text, "small"]


@IN_CHROMIUM
def test_an_event_beyond_all_bounds_is_told_and_does_not_end_it(page: Any, site: Site, topic: str) -> None:
    """It must not fill the memory of the page."""
    huge = b"id: urn:x:1\ndata: before\n\nid: urn:x:2\ndata: " + b"x" * 12_000_000 + b"\n\ndata: after\n\n"
    site.gate.plan(topic, Replace(huge))
    ledger = listen(page, "news", site.gate.url, [topic])
    ledger.wait_for_text("after")
    assert ledger.texts() == ["before", "after"]
    (refusal,) = ledger.read()["refusals"]
    assert refusal["status"] == 413
    site.gate.drop()
    ledger.wait_for("ledger.states.filter((state) => state === 'open').length === 2")
    assert site.gate.arrived(topic)[-1].cursor == "urn:x:2"


@IN_CHROMIUM
@pytest.mark.parametrize("share", [True, False], ids=["shared", "alone"])
def test_topics_come_and_go_without_a_loss(context: BrowserContext, site: Site, topic: str, share: bool) -> None:
    page = site.open(context)
    first, second = f"{topic}/first", f"{topic}/second"
    ledger = listen(page, "news", site.gate.url, [first], share=share)
    ledger.wait_until_open()
    with site.traffic((first,), (second,), (first, second), pause=0.005) as traffic:
        for _ in range(3):
            ledger.wait_for_more()
            page.evaluate("(topic) => { subscriptions.news.add(topic) }", second)
            ledger.wait_for_more(20)
            page.evaluate("(topic) => { subscriptions.news.remove(topic) }", second)
        ledger.wait_for_text(traffic.finish(first))
    heard = ledger.heard()
    of_first = {attempt.text for attempt in traffic.attempts if first in attempt.topics}
    of_second = [attempt.text for attempt in traffic.attempts if attempt.topics == (second,)]
    traffic.check([entry for entry in heard if entry["data"] in of_first], {first}, 0)
    order = {attempt.text: attempt.number for attempt in traffic.attempts}
    numbers = [order[entry["data"]] for entry in heard]
    assert numbers == sorted(set(numbers)), "in another order, or twice"
    assert len(set(of_second) & {entry["data"] for entry in heard}) >= 3
    assert page.evaluate("subscriptions.news.topics") == [first]


@IN_CHROMIUM
def test_a_topic_that_is_removed_is_heard_no_more(page: Any, site: Site, topic: str) -> None:
    """Not even what has come with the update whose listener removes it."""
    kept, removed = f"{topic}/kept", f"{topic}/removed"
    body = "event: petasos-cursor\nid: urn:x:0\ndata: multiplex\n\nevent: petasos-cursor\nid: urn:x:0\ndata: live\n\n"
    for number, name in enumerate([removed, removed, kept, removed, kept], 1):
        body += f"topic: {name}\nid: urn:x:{number}\ndata: {number}\n\n"
    site.gate.plan(kept, Replace(body.encode()))
    # In one turn: the events come at once.
    page.evaluate(
        """([url, kept, removed]) => {
            listen("removing", url, [kept, removed], { lastEventId: "urn:x:0" });
            subscriptions.removing.on("message", () => { subscriptions.removing.remove(removed) });
        }""",
        [site.gate.url, kept, removed],
    )
    ledger = Ledger(page, "removing")
    ledger.wait_for_text("5")
    assert ledger.texts() == ["1", "3", "5"]


@IN_CHROMIUM
@pytest.mark.parametrize("share", [True, False], ids=["shared", "alone"])
def test_a_topic_that_is_added_is_heard_from_then_on(page: Any, site: Site, topic: str, share: bool) -> None:
    ledger = listen(page, f"news {share}", site.gate.url, [f"{topic}/first"], share=share)
    ledger.wait_until_open()
    site.publish(f"{topic}/first", "first")
    ledger.wait_for_text("first")
    site.publish(f"{topic}/second", "long before", "before")
    page.evaluate("([name, topic]) => { subscriptions[name].add(topic) }", [ledger.name, f"{topic}/second"])
    site.gate.wait_for(f"{topic}/second", 1)
    wait_until(lambda: not site.publish(f"{topic}/second", "now") and "now" in ledger.texts())
    assert set(ledger.texts()) == {"first", "now"}


def test_a_page_of_another_origin_hears_private_updates_by_cookie_and_is_told_of_gaps(
    context: BrowserContext, site: Site, topic: str
) -> None:
    page = site.open(context, origin=site.origin)
    page.goto(f"{site.origin}/login?topic={topic}")
    page.goto(site.page_url(origin=site.origin))
    page.wait_for_function("window.isReady")
    known = listen(page, "known", site.gate.url, [topic], credentials="include")
    stranger = listen(page, "stranger", site.gate.url, [topic], credentials="omit")
    lost = listen(page, "lost", site.gate.url, [topic], lastEventId="urn:of:nobody", credentials="include")
    for ledger in (known, stranger, lost):
        ledger.wait_until_open()
    site.publish(topic, "secret", private="on")
    site.publish(topic, "open")
    for ledger in (known, stranger, lost):
        ledger.wait_for_text("open")
    assert known.texts() == ["secret", "open"]
    assert stranger.texts() == ["open"]
    (gap,) = lost.read()["gaps"]
    assert gap["asked"] == "urn:of:nobody"
    assert gap["answered"] != "urn:of:nobody"
    assert known.read()["gaps"] == stranger.read()["gaps"] == []
