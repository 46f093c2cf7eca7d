"""What was published and what arrived, and the verdict on a round.

The rules, for each subscriber:

- An update that was answered 200 arrives once. (``lost``, ``doubled``)
- All subscribers receive the same updates in the same order. An update that was answered before another one was sent
  comes before it. (``reordered``)
- Nothing arrives that nobody published, or that the hub has rejected for good. (``invented``)
- An update that was answered 503, or whose answer did not arrive, may arrive once. An update that was answered 507 must
  not arrive, and one that was answered 503 neither, where the log promises that. (``refused, yet delivered``)
- A reconnecting subscriber is told that it may have missed updates (``Last-Event-ID: earliest``) where the log was in
  memory and its node has ended, and nowhere else. (``false alarms``; a loss without that answer counts as ``lost``)

The ledger does no I/O and starts no thread. Its methods may be called from several threads."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

MISSED = ""
"""Stands in a subscriber's arrivals where the hub said that updates may be missing. No update has this id."""
FORGOTTEN = 600.0
"""Seconds after which an update without an answer cannot arrive any more: every server has dropped it by then."""


@dataclass
class Attempt:
    """One request that publishes an update, which has an id of its own."""

    id: str
    topics: tuple[str, ...]
    sent: float
    """Seconds of the monotonic clock."""
    answered: float | None = None
    status: int | None = None
    """None: no answer has come, or the connection ended before."""
    is_counted: bool = False
    """It is of an earlier round, and may still arrive."""


@dataclass
class Verdict:
    """What is wrong with a round, and the numbers of updates in it."""

    breaches: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    received: int = 0
    """All arrivals at all subscribers."""
    lost_by_rule: int = 0
    """Acknowledged updates that no subscriber has, which the log's own rule allows."""

    def add(self, breach: str, example: str, count: int = 1) -> None:
        self.breaches[breach] += count
        self.examples.setdefault(breach, example)


class Ledger:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.attempts: dict[str, Attempt] = {}
        self.settled: set[str] = set()
        """Ids that were judged in the last rounds, to tell a late repetition from an invention."""
        self.older: set[str] = set()
        self.judged: list[Attempt] = []
        """The attempts of the last verdict, as evidence."""
        self.last_answer = time.monotonic()
        self.longest_outage = 0.0

    def send(self, id: str, topics: tuple[str, ...]) -> Attempt:
        attempt = Attempt(id, topics, time.monotonic())
        with self.lock:
            self.attempts[id] = attempt
        return attempt

    def answer(self, attempt: Attempt, status: int) -> None:
        attempt.answered, attempt.status = time.monotonic(), status
        if status == 200:
            with self.lock:
                self.longest_outage = max(self.longest_outage, attempt.answered - self.last_answer)
                self.last_answer = attempt.answered

    def resume(self) -> None:
        """Publishers begin again: the time in which they paused is no outage."""
        self.last_answer = time.monotonic()

    def judge(
        self,
        arrivals: dict[str, list[str]],
        topics: dict[str, str],
        ended_at: float | None = None,
        is_refusal_final: bool = False,
    ) -> Verdict:
        """The verdict on the arrivals since the last one. No request may be under way.

        ``arrivals`` and ``topics``: by the name of a subscriber, its ids in order, and its topic. ``ended_at``: when a
        node ended that had the log in memory. ``is_refusal_final``: an update that was answered 503 must
        not be in the log."""
        with self.lock:
            attempts = dict(self.attempts)
        self.judged = list(attempts.values())
        verdict = Verdict()
        clean = {name: self._once(name, ids, attempts, verdict) for name, ids in arrivals.items()}
        if ended_at is None:
            for name, ids in arrivals.items():
                if MISSED in ids:
                    verdict.add("false alarms", f"{name} was told of a loss", ids.count(MISSED))
        delivered = {id for ids in clean.values() for id in ids}
        self._completeness(arrivals, clean, topics, attempts, delivered, ended_at, verdict)
        self._order(clean, attempts, verdict)
        self._outcomes(attempts, delivered, is_refusal_final, verdict)
        self._forget(attempts, delivered)
        return verdict

    def _once(self, name: str, ids: list[str], attempts: dict[str, Attempt], verdict: Verdict) -> list[str]:
        """What arrived without repetitions and inventions, which are counted."""
        clean: dict[str, None] = {}
        for id in ids:
            if id == MISSED:
                continue
            verdict.received += 1
            if id in clean or id in self.settled or id in self.older:
                verdict.add("doubled", f"{id} at {name}")
            elif id not in attempts:
                verdict.add("invented", f"{id} at {name}")
            else:
                clean[id] = None
        return list(clean)

    def _completeness(
        self,
        arrivals: dict[str, list[str]],
        clean: dict[str, list[str]],
        topics: dict[str, str],
        attempts: dict[str, Attempt],
        delivered: set[str],
        ended_at: float | None,
        verdict: Verdict,
    ) -> None:
        acknowledged = {id for id, attempt in attempts.items() if attempt.status == 200}
        may_be_gone = {id for id in acknowledged | delivered if ended_at is not None and attempts[id].sent <= ended_at}
        for name, ids in clean.items():
            missing = {id for id in acknowledged | delivered if topics[name] in attempts[id].topics}.difference(ids)
            if MISSED in arrivals[name]:
                missing -= may_be_gone
                # Up to where its stream ended, nothing may be missing in between.
                told = [
                    arrivals[each] for each in arrivals if topics[each] == topics[name] and MISSED in arrivals[each]
                ]
                longest = max((each[: each.index(MISSED)] for each in told), key=len)
                own = arrivals[name][: arrivals[name].index(MISSED)]
                missing |= set(longest[: len(own)]).difference(own)
            if missing:
                verdict.add("lost", f"{min(missing)} at {name}", len(missing))
        verdict.lost_by_rule = len((acknowledged & may_be_gone) - delivered)

    def _order(self, clean: dict[str, list[str]], attempts: dict[str, Attempt], verdict: Verdict) -> None:
        longest = max(clean.values(), key=len, default=[])
        place = {id: number for number, id in enumerate(longest)}
        for name, ids in clean.items():
            common = [id for id in ids if id in place]
            for before, after in pairwise(common):
                if place[after] < place[before]:
                    verdict.add("reordered", f"{after} after {before} at {name}")
        newest: Attempt | None = None
        for id in longest:
            attempt = attempts[id]
            if newest is not None and attempt.status == 200 and (attempt.answered or 0) < newest.sent:
                verdict.add("reordered", f"{id} was answered before {newest.id} was sent")
            if newest is None or attempt.sent > newest.sent:
                newest = attempt

    def _outcomes(
        self, attempts: dict[str, Attempt], delivered: set[str], is_refusal_final: bool, verdict: Verdict
    ) -> None:
        for id, attempt in attempts.items():
            if attempt.is_counted:
                if id in delivered and _is_final(attempt, is_refusal_final):
                    verdict.add("refused, yet delivered", f"{id} was answered {attempt.status}")
            elif attempt.status == 200:
                verdict.acknowledged += 1
            elif attempt.status is None:
                verdict.unknown += 1
            elif attempt.status in (503, 507):
                verdict.refused += 1
                if id in delivered and _is_final(attempt, is_refusal_final):
                    verdict.add("refused, yet delivered", f"{id} was answered {attempt.status}")
            else:
                verdict.add("wrong answers", f"{id} was answered {attempt.status}")
                if id in delivered:
                    verdict.add("invented", f"{id} was answered {attempt.status}")

    def _forget(self, attempts: dict[str, Attempt], delivered: set[str]) -> None:
        """Keeps the attempts that may still arrive, which are not counted again."""
        now = time.monotonic()
        settled = {id for id, attempt in attempts.items() if id in delivered or attempt.status == 200}
        self.older, self.settled = self.settled, settled
        with self.lock:
            for id, attempt in attempts.items():
                attempt.is_counted = True
                if id in settled or now - attempt.sent > FORGOTTEN:
                    del self.attempts[id]


def _is_final(refused: Attempt, is_refusal_final: bool) -> bool:
    """Whether its answer promises that it is not in the log. A full log has not taken it."""
    return refused.status == 507 or (refused.status == 503 and is_refusal_final)
