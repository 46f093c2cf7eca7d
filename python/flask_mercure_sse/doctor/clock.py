"""Whether this machine and the one of the hub have the same time: tokens end by the clock of the hub."""

from __future__ import annotations

from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Final

from .finding import Finding

SECONDS_MAX: Final = 30.0
"""A larger difference is no delay of the network. Tokens of a minute would be cut by half."""


def check(date: str, now: datetime) -> Finding | None:
    """Compare the ``Date`` of an answer with the time here. None: it has no date.

    >>> check("Thu, 29 Feb 2024 12:00:00 GMT", datetime(2024, 2, 29, 12, 5, tzinfo=timezone.utc)).level
    'warning'
    """
    try:
        there = parsedate_to_datetime(date)
    except ValueError:
        return None
    if there.tzinfo is None:
        there = there.replace(tzinfo=timezone.utc)
    ahead = (now - there).total_seconds()
    if abs(ahead) <= SECONDS_MAX:
        return Finding("ok", "clock", "the same time here and there")
    order = "ahead of" if ahead > 0 else "behind"
    return Finding(
        "warning",
        "clock",
        f"this machine is {abs(ahead):.0f} s {order} the server: tokens begin and end at the wrong time",
        "let both synchronize their clocks (NTP)",
    )
