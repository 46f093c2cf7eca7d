"""Pages with the client, each with a ledger for each of its subscriptions; updates without end; and the comparison."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, TimeoutError

from clients import PATIENCE
from waiting import wait_until

PAGE = """
<!doctype html><title>page</title>
{{ mercure_client() }}
<script type="module">
import { subscribe } from "petasos-client";

const ledgers = window.ledgers = {}, subscriptions = window.subscriptions = {};

// A frame may have none.
const storage = (() => { try { return sessionStorage; } catch { return {}; } })();

// Options that are functions are told by a word: each is one that a page would write.
const tokens = {
  fetched: async () => {
    const answer = await fetch("/token", { cache: "no-store" });
    if (!answer.ok) throw new Error(`no token: ${answer.status}`);
    return answer.text();
  },
  silent: () => new Promise(() => {}),
  stuck: () => (window.asked = (window.asked ?? 0) + 1) === 1 ? new Promise(() => {}) : tokens.fetched(),
  thrown: () => { throw new Error("no token today"); },
};

window.listen = (name, url, topics, options = {}) => {
  const kept = options.cursor === "session" ? `ledger ${name}` : null;
  const ledger = ledgers[name] = { heard: [], gaps: [], states: [], refusals: [], began: Date.now() };
  if (kept && storage[kept]) ledger.heard = JSON.parse(storage[kept]);
  const subscription = subscriptions[name] = subscribe(url, topics, {
    // So that no test waits long.
    backoff: { initial: 100, max: 1000 },
    ...options,
    ...(options.token in tokens ? { token: tokens[options.token] } : {}),
    onEvent: (event) => {
      ledger.heard.push({ id: event.id, type: event.type, data: event.data, at: Date.now() });
      if (kept) storage[kept] = JSON.stringify(ledger.heard);
    },
    onGap: (gap) => { ledger.gaps.push(gap); },
    onState: (state) => { ledger.states.push(state); },
    onRefusal: (refusal) => { ledger.refusals.push({ ...refusal, at: Date.now() }); },
  });
  return subscription.state;
};

const given = {{ subscriptions | tojson }};
window.firstUrl = given[0]?.url;
for (const { name, url, topics, options } of given) listen(name, url, topics ?? undefined, options);
window.isReady = true;
</script>
<a id="elsewhere" href="/elsewhere">elsewhere</a>
"""


def listen(page: Page, name: str, url: str, topics: list[Any] | None = None, **options: Any) -> Ledger:
    """Subscribes in a page that is loaded. Options that are functions are words: see the page."""
    page.evaluate(
        "([name, url, topics, options]) => { listen(name, url, topics ?? undefined, options); }",
        [name, url, topics, options],
    )
    return Ledger(page, name)


class Ledger:
    """What one subscription of a page has been told."""

    def __init__(self, page: Page, name: str = "news") -> None:
        self.page, self.name = page, name

    def read(self) -> dict[str, Any]:
        ledger: dict[str, Any] = self.page.evaluate("(name) => ledgers[name]", self.name)
        return ledger

    def heard(self) -> list[dict[str, Any]]:
        heard: list[dict[str, Any]] = self.page.evaluate("(name) => ledgers[name].heard", self.name)
        return heard

    def texts(self) -> list[str]:
        return [entry["data"] for entry in self.heard()]

    def wait_for(self, condition: str, argument: object = None) -> None:
        """Until an expression of ``ledger``, ``subscription`` and ``argument`` is true."""
        try:
            self.page.wait_for_function(_function(condition), arg=[self.name, argument])
        except TimeoutError:
            state = self.page.evaluate("(name) => subscriptions[name].state", self.name)
            raise AssertionError(f"waited in vain for {condition}, {argument}: {state}, {self.read()}") from None

    def holds(self, condition: str, argument: object = None) -> bool:
        """Whether an expression of ``ledger``, ``subscription`` and ``argument`` is true."""
        return bool(self.page.evaluate(_function(condition), [self.name, argument]))

    def wait_until_open(self) -> None:
        self.wait_for("subscription.state === 'open'")

    def wait_for_text(self, text: str) -> None:
        self.wait_for("ledger.heard.some((entry) => entry.data === argument)", text)

    def wait_for_more(self, count: int = 5) -> None:
        before = self.page.evaluate("(name) => ledgers[name].heard.length", self.name)
        self.wait_for("ledger.heard.length >= argument", before + count)


def _function(condition: str) -> str:
    known = "ledger = ledgers[name], subscription = subscriptions[name]"
    return f"([name, argument]) => {{ const {known}; return Boolean({condition}); }}"


@dataclass
class Attempt:
    """An update that was sent to the hub."""

    number: int
    text: str
    topics: tuple[str, ...]
    id: str
    at: float
    """When it was sent, in milliseconds since 1970."""
    is_acknowledged: bool = False
    """If it is not, the hub may have published it or not."""


class Traffic(threading.Thread):
    """Publishes in turn to each of some combinations of topics, each update until it is acknowledged."""

    def __init__(
        self,
        publish: Callable[[str, tuple[str, ...], dict[str, str]], bool],
        topics: Iterable[tuple[str, ...]],
        pause: float = 0.01,
        **fields: str,
    ) -> None:
        """publish(text, topics, fields): whether the hub has acknowledged it. fields: of each update."""
        super().__init__(daemon=True)
        self.name, self.fields = f"urn:uuid:{uuid.uuid4()}", fields
        self.publish, self.topics, self.pause = publish, itertools.cycle(topics), pause
        self.stopped = threading.Event()
        self.attempts: list[Attempt] = []
        self.start()

    def run(self) -> None:
        for number in itertools.count():
            topics = next(self.topics)
            for attempt in itertools.count():
                if self.stopped.wait(self.pause):
                    return
                if self.send(f"{number}.{attempt}", topics):
                    break

    def send(self, text: str, topics: tuple[str, ...]) -> bool:
        attempt = Attempt(len(self.attempts), text, topics, f"{self.name}:{text}", time.time() * 1000)
        self.attempts.append(attempt)
        attempt.is_acknowledged = self.publish(text, topics, {**self.fields, "id": attempt.id})
        return attempt.is_acknowledged

    def stop(self) -> None:
        self.stopped.set()
        self.join(PATIENCE)
        assert not self.is_alive()

    def __enter__(self) -> Traffic:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def finish(self, *all_topics: str) -> str:
        """Stops, and publishes a last update to all topics, so that a ledger which has it has all others. Its text."""
        self.stop()
        assert self.send("the end", tuple(all_topics))
        return "the end"

    def wait_for_more(self, count: int = 10) -> None:
        """Until so many more updates were sent."""
        before = len(self.attempts)
        wait_until(lambda: len(self.attempts) >= before + count, "the traffic goes on")

    def after(self, cursor: str) -> int:
        """The number of the first update after a cursor that the hub has told since the traffic began, or before."""
        return next((attempt.number + 1 for attempt in self.attempts if attempt.id == cursor), 0)

    def number_of(self, entry: dict[str, Any]) -> int:
        """Of an entry of a ledger."""
        return next(attempt.number for attempt in self.attempts if attempt.id == entry["id"])

    def check(self, heard: list[dict[str, Any]], topics: Iterable[str], first: int, end: int | None = None) -> None:
        """A subscription of exact topics has heard everything from one number on (and before another), in order, and
        each once."""
        topics = set(topics)
        expected = [attempt for attempt in self.attempts[first:end] if topics.intersection(attempt.topics)]
        texts = [entry["data"] for entry in heard]
        known = set(texts)
        lost = [attempt.number for attempt in expected if attempt.is_acknowledged and attempt.text not in known]
        assert lost == [], f"lost {len(lost)} of {len(expected)}, between {first} and {expected[-1].number}"
        twice = [text for text in known if texts.count(text) > 1] if len(known) < len(texts) else []
        assert twice == [], "heard twice"
        by_text = {attempt.text: attempt for attempt in expected}
        foreign = [text for text in texts if text not in by_text]
        assert foreign == [], f"not published to {topics}, or before the cursor, {first}"
        assert texts == [attempt.text for attempt in expected if attempt.text in known], "in another order"
        assert [entry["id"] for entry in heard] == [by_text[text].id for text in texts]

    def check_so_far(self, heard: list[dict[str, Any]], topics: Iterable[str], first: int) -> None:
        """The same of a ledger that was read while updates came: it ends somewhere."""
        self.check(heard, topics, first, self.number_of(heard[-1]) + 1 if heard else first)


def cursor_of(url: str) -> str:
    """The cursor in a subscription URL. Empty: it has none."""
    query = parse_qs(urlsplit(url).query)
    return next((query[name][0] for name in ("lastEventID", "last_event_id") if name in query), "")
