"""Fixtures for pytest, which finds this module by the package's entry point: see :mod:`flask_mercure_sse.testing`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .extension import MercureSSE
    from .testing import HubForTests, Subscriber


@pytest.fixture
def mercure_hub() -> Iterator[HubForTests]:
    """A real hub in this process, on a free port: ``app.config.update(mercure_hub.config)``."""
    # Imported when it is used: pytest imports this module wherever the package is installed.
    from .testing import HubForTests

    with HubForTests() as hub:
        yield hub


@pytest.fixture
def mercure_subscriber(request: pytest.FixtureRequest) -> Iterator[Callable[..., Subscriber]]:
    """Opens subscribers, which are closed at the end of the test: ``mercure_subscriber(topics)`` on ``mercure_hub``, or
    ``mercure_subscriber(topics, mercure=mercure)`` on the hub of that extension."""
    from .testing import subscriber

    opened: list[Subscriber] = []

    def subscribe(topics: Any, mercure: MercureSSE | None = None, **options: Any) -> Subscriber:
        if mercure is None:
            opened.append(request.getfixturevalue("mercure_hub").subscriber(topics, **options))
        else:
            opened.append(subscriber(mercure, topics, **options))
        return opened[-1]

    # The hub ends after its subscribers.
    request.getfixturevalue("mercure_hub")
    yield subscribe
    for each in opened:
        each.close()
