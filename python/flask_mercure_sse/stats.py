"""Counters of an application and of its embedded hub."""

from __future__ import annotations

from dataclasses import dataclass

from .state import MercureSSEState


@dataclass(frozen=True)
class Stats:
    """Counters of one application in one process, as ``mercure.stats()``.

    >>> Stats(published=3, dropped=1).published
    3
    """

    published: int = 0
    """Updates that a hub has accepted, in the background or not."""
    failed: int = 0
    """Updates for which ``publish()`` raised an error."""
    queued: int = 0
    """Updates that wait in the background queues now."""
    retried: int = 0
    """Failed attempts in the background, after which an update was sent again."""
    refused: int = 0
    """Updates in the background that a hub has refused for good."""
    dropped: int = 0
    """Updates in the background that were given up: the queue was full, the hub did not accept them in several
    attempts, or the process ended."""
    hub: dict[str, float] | None = None
    """The metrics of the embedded hub without labels, by their names in ``docs/metrics.md``, such as
    ``petasos_deliveries_total``. None: the hub does not run in this process."""


def stats(state: MercureSSEState) -> Stats:
    """See :meth:`flask_mercure_sse.MercureSSE.stats`."""
    counters, metrics = state.counters, state.embedded.metrics()
    hub = None if metrics is None else _values(metrics)
    return Stats(**counters.results, queued=counters.queued, hub=hub)


def _values(metrics: str) -> dict[str, float]:
    """The metrics without labels. Every other line of the text is a comment, or has labels in braces."""
    lines = (line.split() for line in metrics.splitlines() if not line.startswith("#") and "{" not in line)
    return {name: float(value) for name, value in lines}
