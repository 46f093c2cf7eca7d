"""Round after round on one log: faults, then calm, then the verdict."""

from __future__ import annotations

import dataclasses
import json
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from clients import Request
from torture.ledger import MISSED, Ledger, Verdict
from torture.nodes import Node
from torture.plan import ENDS_OF_A_NODE, LONGEST, Round, round_of
from torture.stage import Heal, Stage
from torture.tally import Tally
from torture.traffic import EVERYTHING, SUBSCRIBE, Publisher, Subscriber, replay

LOOK_SECONDS = 0.03
CALM_SECONDS = 60.0
"""What has not happened so long after the last fault is a breach."""
PUBLISHERS = 3
REFUSALS_ARE_FINAL = ("memory", "durable")
"""Logs that promise that no refused update is stored."""
EVIDENCE_MAX = 10
"""Breaches whose evidence is kept, for each log."""


class Breach(Exception):
    """A promise that was not kept, so that the round cannot go on. Its arguments: the kind, and what was seen."""


class Campaign:
    """``report`` is called now and then with the tally. ``ends``: set, it ends after the round that runs."""

    def __init__(
        self,
        log: str,
        seed: int,
        binary: str,
        directory: Path,
        report: Callable[[Tally], None],
        *,
        rate: float = 20.0,
        longest: float = LONGEST,
    ) -> None:
        self.log, self.seed, self.binary, self.directory = log, seed, binary, directory
        self.report, self.rate, self.longest = report, rate, longest
        self.tally = Tally(log)
        self.ends = threading.Event()
        self.evidence = 0

    def run(self, seconds: float, first: int = 0, rounds: int | None = None) -> Tally:
        """Ends after the round in which the time is up, or after so many rounds."""
        began = time.monotonic()
        number = first
        while not self.is_over(began, seconds, number - first, rounds):
            shutil.rmtree(self.directory / "now", ignore_errors=True)
            (self.directory / "now").mkdir(parents=True)
            play = Play(self, self.directory / "now")
            try:
                while not self.is_over(began, seconds, number - first, rounds):
                    plan = round_of(self.seed, self.log, number, self.longest)
                    number += 1
                    is_clean = play.round(plan)
                    self.tally.seconds = time.monotonic() - began
                    self.report(self.tally)
                    if not is_clean:
                        break
            finally:
                play.close()
            # After a breach, the next round begins with new servers.
        return self.tally

    def is_over(self, began: float, seconds: float, done: int, rounds: int | None) -> bool:
        return self.ends.is_set() or time.monotonic() - began >= seconds or (rounds is not None and done >= rounds)

    def keep(self, plan: Round, verdict: Verdict, arrivals: dict[str, list[str]], ledger: Ledger) -> None:
        """The evidence of a breach."""
        self.evidence += 1
        if self.evidence > EVIDENCE_MAX:
            return
        place = self.directory / f"breach-{plan.number}"
        shutil.copytree(self.directory / "now", place, dirs_exist_ok=True)
        story = {
            "again": f"make torture SEED={self.seed} LOGS={self.log} ROUND={plan.number}",
            "plan": dataclasses.asdict(plan),
            "breaches": verdict.breaches,
            "examples": verdict.examples,
            "arrivals": arrivals,
            "attempts": [dataclasses.asdict(attempt) for attempt in ledger.judged],
        }
        (place / "story.json").write_text(json.dumps(story, indent=1))


class Play:
    """Servers and clients, for as many rounds as there is no breach."""

    def __init__(self, campaign: Campaign, directory: Path) -> None:
        self.campaign, self.log, self.tally = campaign, campaign.log, campaign.tally
        self.stage = Stage(campaign.log, campaign.binary, directory)
        self.ledger, self.never = Ledger(), threading.Event()
        self.listed = ""
        """The answer of the node that was asked last for its list of subscriptions."""
        chance = random.Random(f"{campaign.seed}/{campaign.log}/clients")
        self.marking = Publisher("m", self.stage.urls, self.ledger, chance, 1.0)
        try:
            self.marker = self.mark("start")
        except BaseException:
            self.stage.close()
            raise
        self.ledger.judge({}, {})
        choices = [random.Random(chance.random()) for _ in range(PUBLISHERS + 6)]
        self.stage.publishers = [
            Publisher(f"p{number}", self.stage.urls, self.ledger, choices.pop(), campaign.rate)
            for number in range(PUBLISHERS)
        ]
        through, direct = self.stage.urls, self.stage.direct_urls
        self.stage.subscribers = [
            Subscriber("s0", EVERYTHING, through, choices.pop(), self.marker),
            Subscriber("s1", EVERYTHING, through, choices.pop(), self.marker),
            Subscriber("s2", EVERYTHING, direct, choices.pop(), self.marker),
            Subscriber("s3, who comes and goes", EVERYTHING, through, choices.pop(), self.marker, visits=100),
            Subscriber("s4, of p0", "p0", through, choices.pop(), self.marker),
            Subscriber("s5, of p0", "p0", direct, choices.pop(), self.marker),
        ]
        for thread in [*self.stage.publishers, *self.stage.subscribers]:
            thread.start()

    def round(self, plan: Round) -> bool:
        """False: something is wrong, which is in the tally."""
        ended: list[float] = []
        for node in self.stage.nodes:
            node.ended_at = None
        verdict, arrivals, before = Verdict(), dict[str, list[str]](), self.marker
        try:
            self.suffer(plan)
            self.recover()
            self.marker = self.mark(str(plan.number))
            self.wait(self.all_have_the_marker, "not delivered")
            arrivals = {each.name: each.take(self.marker) for each in self.stage.subscribers}
            if self.log == "memory":
                ended = [node.ended_at for node in self.stage.nodes if node.ended_at is not None]
            is_final = self.log in REFUSALS_ARE_FINAL and not (plan.has("disk hangs") and plan.has(*ENDS_OF_A_NODE))
            topics = {each.name: each.topic for each in self.stage.subscribers}
            verdict = self.ledger.judge(arrivals, topics, max(ended, default=None), is_final)
            self.compare(before, arrivals, is_lossy=bool(ended), verdict=verdict)
            self.wait(self.all_are_listed, "subscriptions", lambda: self.listed)
        except Breach as breach:
            verdict.add(*breach.args)
            arrivals = arrivals or {each.name: list(each.arrivals) for each in self.stage.subscribers}
        for problem in self.stage.problems():
            verdict.add("a node failed", problem)
        self.tally.add(verdict)
        for subscriber in self.stage.subscribers:
            self.tally.streams += subscriber.streams
            subscriber.streams = 0
        self.tally.longest_outage = max(self.tally.longest_outage, self.ledger.longest_outage)
        if verdict.breaches:
            self.campaign.keep(plan, verdict, arrivals, self.ledger)
            return False
        for node in self.stage.nodes:
            # Only a round with a breach needs its log.
            node.log.write_bytes(b"")
        return True

    def suffer(self, plan: Round) -> None:
        """Lets all faults of the plan begin and end."""
        self.ledger.resume()
        for publisher in self.stage.publishers:
            publisher.goes_on.set()
        began = time.monotonic()
        waiting = list(plan.faults)
        healing: list[tuple[float, Heal]] = []
        while waiting or healing or time.monotonic() - began < self.campaign.longest / 2:
            now = time.monotonic() - began
            while waiting and waiting[0].at <= now:
                fault = waiting.pop(0)
                heal = self.stage.inflict(fault)
                if heal is not None:
                    self.tally.faults[fault.kind] += 1
                    healing.append((now + fault.lasts, heal))
            for due in [each for each in healing if each[0] <= now]:
                healing.remove(due)
                due[1]()
            self.pause()

    def recover(self) -> None:
        """Until all publishers have paused and all nodes are ready."""
        began = time.monotonic()
        for publisher in self.stage.publishers:
            publisher.goes_on.clear()
        self.wait(lambda: all(node.is_settled() for node in self.stage.nodes), "not ready")
        self.tally.longest_recovery = max(self.tally.longest_recovery, time.monotonic() - began)
        self.wait(lambda: all(each.is_idle.is_set() for each in self.stage.publishers), "publishers get no answer")

    def mark(self, name: str) -> str:
        """Publishes an update that each subscriber gets, until it is acknowledged. Returns its id."""
        deadline = time.monotonic() + CALM_SECONDS
        for attempt in self.attempts(deadline):
            id = f"{name}:{attempt}"
            if self.marking.publish(id, (EVERYTHING, "p0")) == 200:
                return id
        raise Breach("not ready", "no update is acknowledged")

    def attempts(self, deadline: float) -> Iterator[int]:
        number = 0
        while time.monotonic() < deadline:
            yield number
            number += 1
            self.pause()

    def all_have_the_marker(self) -> bool:
        return all(self.marker in each.arrivals for each in self.stage.subscribers)

    def all_are_listed(self) -> bool:
        """Whether each node lists the subscriptions that there are, and no other."""
        wanted = sorted(each.topic for each in self.stage.subscribers)
        for url in self.stage.direct_urls():
            try:
                answer = Request("GET", f"{url}/subscriptions", SUBSCRIBE, timeout=5)
            except OSError as error:
                self.listed = f"{url}: {error}"
                return False
            self.listed = f"{url}: {answer.status} {answer.body.decode()}"
            if answer.status != 200:
                return False
            if sorted(each["topic"] for each in json.loads(answer.body)["subscriptions"]) != wanted:
                return False
        return True

    def compare(self, before: str, arrivals: dict[str, list[str]], is_lossy: bool, verdict: Verdict) -> None:
        """Each node's history since the last round must be what the subscribers have received."""
        live = max((ids for ids in arrivals.values()), key=len)
        if is_lossy:
            live = live[len(live) - live[::-1].index(MISSED) - 1 :] if MISSED in live else live
        for node in self.stage.nodes:
            try:
                replayed = self.replay(node, before)
            except (OSError, EOFError) as error:
                verdict.add("replay differs", f"{node.name}: {error}")
                continue
            self.tally.replayed += len(replayed)
            if replayed != live:
                place = next((n for n, (a, b) in enumerate(zip(replayed, live, strict=False)) if a != b), "the end")
                verdict.add("replay differs", f"{node.name}: from {place} on, of {len(replayed)} and {len(live)}")

    def replay(self, node: Node, before: str) -> list[str]:
        """What a node has kept. One that was told to end while it was paused may end now, so it is asked again."""
        deadline = time.monotonic() + CALM_SECONDS
        while True:
            try:
                return replay(node.direct_url, before, self.marker)
            except (OSError, EOFError):
                if time.monotonic() > deadline:
                    raise
            self.pause()

    def wait(self, is_so: Callable[[], bool], breach: str, seen: Callable[[], str] = str) -> None:
        deadline = time.monotonic() + CALM_SECONDS
        while not is_so():
            if time.monotonic() > deadline:
                raise Breach(breach, f"{CALM_SECONDS:.0f} seconds after the last fault. {seen()}")
            self.pause()

    def pause(self) -> None:
        self.stage.look()
        self.never.wait(LOOK_SECONDS)

    def close(self) -> None:
        self.stage.close()
        self.marking.disconnect()
