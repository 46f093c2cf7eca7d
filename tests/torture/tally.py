"""Counts of a run on one log, as JSON from its process to the one that prints, and the table at the end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from torture.ledger import Verdict

BREACHES = ("lost", "doubled", "reordered", "invented", "refused, yet delivered", "wrong answers", "false alarms")
"""Kinds that the ledger finds."""


@dataclass
class Tally:
    log: str
    seconds: float = 0.0
    rounds: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    breaches: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    received: int = 0
    replayed: int = 0
    streams: int = 0
    lost_by_rule: int = 0
    longest_outage: float = 0.0
    longest_recovery: float = 0.0
    """Seconds from the end of a round's last fault until all nodes were ready, at most."""
    skipped: str = ""
    """Why nothing was run."""

    def add(self, verdict: Verdict) -> None:
        self.rounds += 1
        self.breaches += verdict.breaches
        self.acknowledged += verdict.acknowledged
        self.refused += verdict.refused
        self.unknown += verdict.unknown
        self.received += verdict.received
        self.lost_by_rule += verdict.lost_by_rule

    def to_json(self) -> str:
        return json.dumps(vars(self))

    @classmethod
    def from_json(cls, text: str) -> Tally:
        values = json.loads(text)
        return cls(**{**values, "faults": Counter(values["faults"]), "breaches": Counter(values["breaches"])})

    def line(self) -> str:
        """One line while it runs."""
        if self.skipped:
            return f"{self.log}: skipped: {self.skipped}"
        breaches = ", ".join(f"{count} {kind}" for kind, count in self.breaches.items()) or "no breach"
        return (
            f"{self.log}: {self.rounds} rounds, {self.faults.total()} faults, {self.acknowledged} acknowledged, "
            f"{self.received} received, {breaches}"
        )


def table(tallies: list[Tally]) -> str:
    """Markdown, one column for each log."""
    run = [tally for tally in tallies if not tally.skipped]
    counts = [(f"- {kind}", [each.faults[kind] for each in run]) for kind in _kinds(run)]
    breaches = [(kind, [each.breaches[kind] for each in run]) for kind in (*BREACHES, *_others(run))]
    rows: list[tuple[str, Sequence[int | str]]] = [
        ("minutes", [round(each.seconds / 60) for each in run]),
        ("rounds", [each.rounds for each in run]),
        ("faults", [each.faults.total() for each in run]),
        *counts,
        ("updates sent", [each.acknowledged + each.refused + each.unknown for each in run]),
        ("- answered 200", [each.acknowledged for each in run]),
        ("- refused (503, 507)", [each.refused for each in run]),
        ("- without an answer", [each.unknown for each in run]),
        ("streams opened", [each.streams for each in run]),
        ("updates received", [each.received for each in run]),
        ("updates replayed and compared", [each.replayed for each in run]),
        *breaches,
        ("lost as the log's rule allows", [each.lost_by_rule for each in run]),
        ("longest time without a 200, seconds", [f"{each.longest_outage:.1f}" for each in run]),
        ("longest wait until all nodes were ready, seconds", [f"{each.longest_recovery:.1f}" for each in run]),
    ]
    lines = ["| | " + " | ".join(each.log for each in run) + " |", "| --- |" + " ---: |" * len(run)]
    for name, values in rows:
        lines.append(
            "| " + " | ".join([name, *(f"{each:,}" if isinstance(each, int) else each for each in values)]) + " |"
        )
    lines += [each.line() for each in tallies if each.skipped]
    return "\n".join(lines)


def _kinds(tallies: list[Tally]) -> list[str]:
    return list(dict.fromkeys(kind for each in tallies for kind in sorted(each.faults)))


def _others(tallies: list[Tally]) -> list[str]:
    return sorted({kind for each in tallies for kind in each.breaches} - set(BREACHES))
