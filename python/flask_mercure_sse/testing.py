"""A test kit for applications: a real hub in the process of the test, and subscribers that wait for updates.

pytest finds the fixtures ``mercure_hub`` and ``mercure_subscriber`` by itself once the package is installed. A test
that needs no hub can use :meth:`flask_mercure_sse.MercureSSE.capture`.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Final

from flask import Flask

from ._native import Hub, Server
from .errors import MercureError
from .extension import MercureSSE
from .sse import Event
from .subscription import Subscription, subscribe
from .topics import as_topics
from .values import HUB_PATH

if TYPE_CHECKING:
    from types import TracebackType

KEY: Final = "the secret key of hubs in tests, which is known to all"
"""Signs and verifies the tokens of :class:`HubForTests`."""

__all__ = ["KEY", "HubForTests", "Subscriber", "subscriber"]


class HubForTests:
    """A hub that listens on a free port of this machine, as the standalone hub does. It speaks both dialects, and its
    log is in memory.

    >>> from flask import Flask
    >>> with HubForTests() as hub:
    ...     app = Flask(__name__)
    ...     app.config.update(hub.config)
    ...     mercure = MercureSSE(app)
    ...     with hub.subscriber("/books/{id}") as subscriber:
    ...         _ = mercure.publish("/books/1", "Walden")
    ...         subscriber.received(1)[0].data
    'Walden'
    """

    def __init__(self) -> None:
        self._hub = Hub(publisher_key=KEY, subscriber_key=KEY, cors_origins=["*"], cors_loopback_credentials=True)
        self._server = Server(self._hub)
        self.url: str = f"http://{self._server.host}:{self._server.port}{HUB_PATH}"
        """The URL of the hub."""
        self.config: dict[str, Any] = {
            "MERCURE_HUB": False,
            "MERCURE_HUB_URL": self.url,
            "MERCURE_PUBLISHER_SECRET_KEY": KEY,
            "MERCURE_SUBSCRIBER_SECRET_KEY": KEY,
            "MERCURE_JWT_AUDIENCE": "http://localhost" + HUB_PATH,
        }
        """For ``app.config.update()``, before ``MercureSSE(app)``."""
        app = Flask("flask_mercure_sse.testing")
        app.config.update(self.config)
        self._mercure = MercureSSE(app)

    def publish(self, topic: Any, data: Any = None, **options: Any) -> str:
        """Publish on this hub as :meth:`flask_mercure_sse.MercureSSE.publish` does, and return the id of the update."""
        return self._mercure.publish(topic, data, **options)

    def subscriber(self, topics: Any, **options: Any) -> Subscriber:
        """Subscribe to topics, with a token for private updates: see :func:`subscriber`.

        Args:
            options: further arguments of :meth:`flask_mercure_sse.MercureSSE.subscribe`.
        """
        return subscriber(self._mercure, topics, **options)

    def stop(self) -> None:
        """Stop the hub and end all streams. Idempotent."""
        self._server.stop(drain_seconds=1)

    def __enter__(self) -> HubForTests:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def subscriber(mercure: MercureSSE, topics: Any, **options: Any) -> Subscriber:
    """Subscribe to topics on the hub that an application uses, with a token for private updates on them.

    Every update that is published after this call is received. Selectors need no mark here. Subscription events are
    received only if one of the topics asks for them.

    Args:
        mercure: the extension of the application.
        topics: as in :meth:`flask_mercure_sse.MercureSSE.hub_url`.
        options: further arguments of :meth:`flask_mercure_sse.MercureSSE.subscribe`: ``last_event_id``, ``jwt`` and
            ``hub_url``.

    Raises:
        MercureError: the hub refuses the subscription, or cannot be reached.

    >>> from flask import Flask
    >>> app = Flask(__name__)
    >>> app.testing = True
    >>> mercure = MercureSSE(app)
    >>> with subscriber(mercure, "/books/{id}") as reader:
    ...     _ = mercure.publish("/books/1", "Walden", private=True)
    ...     reader.received(1)[0].data
    'Walden'
    """
    selected = as_topics(topics)
    asks = any(f"{HUB_PATH}/subscriptions" in topic for topic in selected)
    # Without the warning of unmarked selectors: a test may select every topic.
    subscription = subscribe(mercure.state, selected, **options)
    # An application waits for a hub that cannot be reached. A test would miss what is published meanwhile.
    subscription.open()
    return Subscriber(subscription, sees_subscriptions=asks)


def _is_subscription_event(event: Event) -> bool:
    return event.type in ("Subscription", "mercure") and f'"id":"{HUB_PATH}/subscriptions/' in event.data


class Subscriber:
    """Collects the events of a subscription, in a thread that starts when the subscriber is made."""

    def __init__(self, subscription: Subscription, sees_subscriptions: bool = False) -> None:
        """Begin to collect events.

        Args:
            sees_subscriptions: whether subscription events are collected, too. Subscribers to "*" receive them.
        """
        self._subscription, self._sees_subscriptions = subscription, sees_subscriptions
        self._events: list[Event] = []
        self._error: MercureError | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="mercure-subscriber", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for event in self._subscription:
                if not self._sees_subscriptions and _is_subscription_event(event):
                    continue
                with self._changed:
                    self._events.append(event)
                    self._changed.notify_all()
        except MercureError as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()

    @property
    def events(self) -> list[Event]:
        """The events that have arrived until now."""
        with self._changed:
            return list(self._events)

    def received(self, n: int, within: float = 5.0) -> list[Event]:
        """Wait until ``n`` events have arrived, at most ``within`` seconds, and return all that have arrived.

        To show that an update does not arrive, publish another one after it, and see that only that one has arrived.

        Raises:
            AssertionError: fewer than ``n`` have arrived; the message has them.
            MercureError: the hub has refused the subscription.
        """
        deadline = time.monotonic() + within
        with self._changed:
            self._changed.wait_for(
                lambda: len(self._events) >= n or self._error is not None, max(deadline - time.monotonic(), 0)
            )
            if len(self._events) < n and self._error is not None:
                raise self._error
            if len(self._events) < n:
                raise AssertionError(f"{len(self._events)} of {n} events within {within} s: {self._events}")
            return list(self._events)

    def close(self) -> None:
        """End the subscription. Idempotent."""
        self._subscription.close()
        self._thread.join()

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
