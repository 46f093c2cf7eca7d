"""Pauses between attempts to reach a hub that is unavailable, or that ends connections as soon as it accepts them."""

from __future__ import annotations

import random
from typing import Final

_DOUBLINGS_MAX: Final = 30
"""More doublings than any cap needs, and few enough for a float."""


class Backoff:
    """Pauses that double with each failure in a row, up to a cap.

    Each pause is up to half longer, at random, so that many clients of one hub do not reconnect at the same moment.

    >>> backoff = Backoff()
    >>> [0.5 <= backoff.next(0.5, 30) <= 0.75, 1 <= backoff.next(0.5, 30) <= 1.5, backoff.failures]
    [True, True, 2]
    """

    def __init__(self) -> None:
        self.failures = 0
        """Failures in a row, since the last success."""

    def next(self, first: float, most: float) -> float:
        """Count a failure and return the pause after it, in seconds.

        Args:
            first: seconds after the first failure.
            most: the cap in seconds, before the random part is added.
        """
        pause = min(first * 2.0 ** min(self.failures, _DOUBLINGS_MAX), most)
        self.failures += 1
        return pause * random.uniform(1, 1.5)

    def succeed(self) -> None:
        """Begin again with the first pause, because the hub has sent or accepted something."""
        self.failures = 0
