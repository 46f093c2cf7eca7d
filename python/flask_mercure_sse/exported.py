"""The counters of an application and of its embedded hub, exported through ``prometheus_client``.

The application's own are counters of that package, and not numbers that are read at a scrape: in its multiprocess mode,
any worker answers for all, and only such counters can be added up.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from .counters import RESULTS
from .embedded import EmbeddedHub
from .state import MercureSSEState

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import CollectorRegistry


def export(state: MercureSSEState, registry: CollectorRegistry | None) -> None:
    """See :meth:`flask_mercure_sse.MercureSSE.register_metrics`."""
    try:
        from prometheus_client import REGISTRY, Counter, Gauge
    except ImportError:
        raise ImportError("register_metrics() needs prometheus_client: pip install prometheus-client") from None
    into = registry or REGISTRY
    updates = Counter(
        "flask_mercure_updates",
        "What became of the application's updates: published by a hub, failed with an error, sent again, refused by a "
        "hub or dropped in the background",
        ["result"],
        registry=into,
    )
    queued = Gauge(
        "flask_mercure_updates_queued",
        "Updates that wait in the background queues",
        registry=into,
        multiprocess_mode="livesum",
    )
    now = state.counters.results
    by_result = {result: updates.labels(result) for result in RESULTS}
    for result, counter in by_result.items():
        counter.inc(now[result])
    queued.set(state.counters.queued)
    state.counters.watch(lambda result, count: by_result[result].inc(count), queued.inc)
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        into.register(_Hub(state.embedded))


class _Hub:
    """The metrics of an embedded hub, read at each scrape. A hub that does not run in this process has none."""

    def __init__(self, embedded: EmbeddedHub) -> None:
        self._embedded = embedded

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that the hub is not asked when it is registered."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """The metrics at this moment."""
        from prometheus_client.parser import text_string_to_metric_families

        return text_string_to_metric_families(self._embedded.metrics() or "")
