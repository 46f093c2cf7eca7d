"""What belongs to one application: its settings, keys, tokens, hub and queues."""

from __future__ import annotations

import threading
from dataclasses import fields
from typing import Any, Final, Protocol

from flask import Flask, current_app

from . import forks
from .authorization import Authorization
from .background import BackgroundQueues
from .counters import Counters
from .embedded import EmbeddedHub
from .events import Events, Resolve
from .fresh import Fresh
from .keys import Keys
from .once import WarnOnce
from .settings import Settings, config_key
from .update import Update
from .values import parse_hub_url


class Publisher(Protocol):
    """The extension, as far as this module needs it."""

    def publish(self, *args: Any, **kwargs: Any) -> str:
        """Publish an update and return its id."""


class MercureSSEState:
    """The state of one application, as ``app.extensions["mercure_sse"]``.

    The settings can be read as attributes, as in 0.4.1: ``state.hub_url``. The keys, the publisher's token and
    ``hub_url`` can also be set. Secrets do not appear in its ``repr``.
    """

    def __init__(self, app: Flask, instance: Publisher, settings: Settings) -> None:
        self.app = app
        self.instance = instance
        """The extension."""
        self.settings = settings
        self.events = Events()
        """The events with a type: those of the extension."""
        self.users: Any = None
        """The functions that say who the current user is: see :mod:`flask_mercure_sse.users`."""
        self.warn_once = WarnOnce(app)
        self.keys = Keys(app, settings, self.warn_once)
        self.embedded = EmbeddedHub(app, settings, self.keys)
        self.authorization = Authorization(settings, self.keys, self.embedded, self.warn_once)
        self.captures: list[list[Update]] = []
        """Where updates go instead of a hub: see :meth:`flask_mercure_sse.MercureSSE.capture`. The last one counts."""
        self.counters = Counters()
        self.elsewhere: Fresh[Any] = Fresh()
        """The newest event id of a hub elsewhere: see :mod:`flask_mercure_sse.cursors`."""
        self._queues: BackgroundQueues | None = None
        self.after_fork()
        forks.register(self)

    def after_fork(self) -> None:
        # Another thread of the parent may have held the lock.
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<MercureSSEState of {self.app.name!r}>"

    def __getattr__(self, name: str) -> Any:
        # Only called for what is no attribute of the state itself. "settings" is missing while a copy is being made.
        if name == "settings" or name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.settings, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "hub_url":
            return self.settings.use_elsewhere(parse_hub_url(value))
        if name in _SETTINGS:
            raise AttributeError(f"{name} is read once, by init_app(): set {config_key(name)} in app.config before")
        return super().__setattr__(name, value)

    @property
    def queues(self) -> BackgroundQueues:
        """The queues that publish in the background, made at first use."""
        with self._lock:
            if self._queues is None:
                settings, log = self.settings, self.app.logger
                self._queues = BackgroundQueues(
                    settings.publish_queue_length, settings.publish_drain_seconds, log, self.counters
                )
            return self._queues

    @property
    def typed_events(self) -> Resolve | None:
        """What knows the events with a type. None: there are none."""
        return self.events.of_application(self.app)

    @property
    def is_embedded(self) -> bool:
        """Whether the application uses the hub in this process: see :attr:`EmbeddedHub.is_used`."""
        return self.embedded.is_used

    @property
    def subscriber_secret_key(self) -> str | bytes | None:
        """Signs and verifies subscribers' tokens."""
        return self.keys.find("subscriber")

    @subscriber_secret_key.setter
    def subscriber_secret_key(self, key: str | bytes | None) -> None:
        self.keys.set("subscriber", key)

    @property
    def publisher_secret_key(self) -> str | bytes | None:
        """Signs and verifies publishers' tokens."""
        return self.keys.find("publisher")

    @publisher_secret_key.setter
    def publisher_secret_key(self, key: str | bytes | None) -> None:
        self.keys.set("publisher", key)

    @property
    def publisher_jwt(self) -> str | None:
        """The token that publishes on an external hub."""
        return self.authorization.publisher_jwt

    @publisher_jwt.setter
    def publisher_jwt(self, jwt: str | None) -> None:
        self.authorization.set_publisher_jwt(jwt)


_SETTINGS: Final = frozenset(each.name for each in fields(Settings)) - {
    "subscriber_secret_key",
    "publisher_secret_key",
    "publisher_jwt",
    "hub_url",
}
"""The settings that cannot be set later."""


def current_state() -> MercureSSEState:
    """The state of the current application.

    Raises:
        RuntimeError: there is no application context, or the application has no extension.
    """
    state: MercureSSEState | None = current_app.extensions.get("mercure_sse")
    if state is None:
        raise RuntimeError(f"the application {current_app.name!r} has no MercureSSE: call init_app(app) first")
    return state
