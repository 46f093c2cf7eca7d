"""Which faults happen in a round: a pure function of the seed, the log and the number of the round.

The plan says when a fault begins and how long it lasts. The operating system decides what a process does at that
moment: two runs with one seed suffer the same faults, and need not take the same course."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

LOGS = ("memory", "durable", "host", "redis", "nats", "postgres")

EVERYWHERE = {
    "node killed": (0.0, 3.0),
    "node stopped": (0.0, 3.0),
    "node paused": (0.3, 9.0),
    "settings reloaded": (0.0, 0.0),
    "clients cut off": (0.0, 3.0),
    "clients' bytes held": (0.5, 8.0),
    "subscriber reads nothing": (1.0, 8.0),
    "burst of updates": (0.5, 2.0),
    "clock jumps": (0.5, 6.0),
}
"""Each kind of fault, and how many seconds it lasts at least and at most. A node that is killed or stopped is started
again after that time."""
DISK_FULL = {"disk full": (0.5, 6.0)}
DISK_HANGS = {"disk hangs": (0.5, 6.0)}
SEVERAL_NODES = {"node replaced": (0.0, 0.0)}
STORE = {
    "store killed": (0.0, 4.0),
    "store stopped": (0.0, 4.0),
    "store paused": (0.3, 8.0),
    "way to the store cut": (0.0, 6.0),
    "bytes to the store held": (0.5, 8.0),
}
KINDS: dict[str, dict[str, tuple[float, float]]] = {
    "memory": EVERYWHERE,
    "durable": {**EVERYWHERE, **DISK_FULL, **DISK_HANGS},
    "host": {**EVERYWHERE, **DISK_FULL, **SEVERAL_NODES},
    **{name: {**EVERYWHERE, **SEVERAL_NODES, **STORE} for name in ("redis", "nats", "postgres")},
}
NODES = {"memory": 1, "durable": 1, "host": 3, "redis": 3, "nats": 3, "postgres": 3}
ENDS_OF_A_NODE = ("node killed", "node stopped")
LONGEST = 10.0
"""Seconds in which the faults of a round begin."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong."""

    at: float
    """Seconds after the beginning of the round."""
    kind: str
    target: int
    """The number of the node or of the subscriber that it happens to. Stores and disks have none, and ignore it."""
    lasts: float
    """Seconds until it ends."""


@dataclass(frozen=True)
class Round:
    number: int
    faults: list[Fault] = field(default_factory=list)

    def has(self, *kinds: str) -> bool:
        return any(fault.kind in kinds for fault in self.faults)


def round_of(seed: int, log: str, number: int, longest: float = LONGEST) -> Round:
    """The plan of a round: one to four faults, which may overlap.

    A log in memory ends with its node, so at most one fault of a round ends it: the ledger then knows which updates a
    subscriber may miss."""
    chance = random.Random(f"{seed}/{log}/{number}")
    kinds = KINDS[log]
    faults: list[Fault] = []
    for _ in range(chance.choice((1, 2, 2, 3, 4))):
        kind = chance.choice(list(kinds))
        fault = Fault(
            at=round(chance.uniform(0, longest), 3),
            kind=kind,
            target=chance.randrange(NODES[log]),
            lasts=round(min(chance.uniform(*kinds[kind]), longest), 3),
        )
        is_second_end = kind in ENDS_OF_A_NODE and any(each.kind in ENDS_OF_A_NODE for each in faults)
        if not (log == "memory" and is_second_end):
            faults.append(fault)
    return Round(number, sorted(faults, key=lambda fault: fault.at))
