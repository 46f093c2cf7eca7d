"""The hub inside this process: when it is used, its settings, its start and its connections."""

from __future__ import annotations

import atexit
import os
import secrets
import socket
import threading
import time
import weakref
from typing import Final

from flask import Flask

from . import forks
from ._native import Hub, InvalidUpdate
from .errors import from_native
from .greenlets import is_cooperative, wait_aside
from .host_log import is_short, url
from .keys import Keys, Role
from .presence import Watch
from .settings import Settings
from .worker import WorkerWatch

_UNKNOWN: Final = "unknown"
"""The URL of the host's log has not been looked for."""


class EmbeddedHub:
    """The hub of one application. It is made at first use, and starts anew in a forked process."""

    def __init__(self, app: Flask, settings: Settings, keys: Keys) -> None:
        self.app = app
        self._settings, self._keys = settings, keys
        self.cors_origins: tuple[str, ...] = ()
        """Origins whose pages may use the hub, besides the application's own. To be set before the first use."""
        self.watch = Watch()
        """Sends the signals of :mod:`flask_mercure_sse.presence`."""
        self.worker_watch = WorkerWatch(self._end_passed)
        """Ends the streams of passed clients in time."""
        self._host_url: str | None = _UNKNOWN
        self._hub: Hub | None = None
        self._hub_keys: dict[Role, str | bytes] = {}
        self._started_in: int | None = None
        self._used_in: int | None = None
        self.is_stopped = False
        """Whether the hub has ended with the process."""
        self.after_fork()
        forks.register(self)
        _all.add(self)

    def after_fork(self) -> None:
        # Another thread of the parent may have held the lock.
        self._lock = threading.Lock()

    @property
    def is_used(self) -> bool:
        """Whether the application uses this hub, and not one elsewhere.

        Asked for each time: ``app.debug`` and ``app.testing`` are often set after the extension is made. MERCURE_HUB
        wins over all. Otherwise: in testing mode the hub is used even if a hub URL is given, so that no test publishes
        to the hub of production. In debug mode, and with MERCURE_HUB_TRANSPORT, it is used unless a hub URL is given.
        """
        settings = self._settings
        if settings.hub is not None:
            return settings.hub
        if self.app.testing:
            return True
        return (self.app.debug or settings.hub_transport is not None) and not isinstance(settings.hub_url, str)

    @property
    def stands_in(self) -> bool:
        """Whether the hub takes the place of the one of the settings: in debug and testing mode."""
        return self.is_used and not self._settings.hub

    @property
    def shared_transport(self) -> str | None:
        """The URL of the hub's log. None: the log is in the memory of this process.

        Without MERCURE_HUB_TRANSPORT, the processes of the host share a log. In testing mode the log is in memory,
        unless MERCURE_HUB is true and MERCURE_HUB_TRANSPORT is given: no test writes into the log of production.

        Raises:
            ValueError: MERCURE_HUB_TRANSPORT is ``host:``, and this system has no place for such a log.
        """
        given = self._settings.hub_transport
        if self.app.testing and not (self._settings.hub and given):
            return None
        if given is None or is_short(given):
            return self._host_transport(given)
        return None if given.startswith("memory:") else given

    def _host_transport(self, given: str | None) -> str | None:
        if self._host_url is _UNKNOWN:
            try:
                self._host_url = url(self.app, given or "host:")
            except OSError as error:
                if given is not None:
                    raise ValueError(
                        f"MERCURE_HUB_TRANSPORT: the processes of this host cannot share a log: {error}. Name a "
                        "directory of the application's user, such as host:///run/app"
                    ) from None
                self._host_url = None
                self.app.logger.warning(
                    "The embedded Mercure hub has its log in the memory of this process, because the processes of this "
                    "host cannot share one: %s. Name a directory: MERCURE_HUB_TRANSPORT=host:///run/app",
                    error,
                )
        return self._host_url

    def hub(self) -> Hub:
        """The hub, made if need be. Making it starts nothing.

        Raises:
            ValueError: the hub cannot use a setting; the message names it.
        """
        with self._lock:
            if self._hub is None:
                settings = self._settings
                # Without a key of the application, a random one signs the application's own requests.
                publisher = self._keys.find("publisher") or secrets.token_hex(32)
                subscriber = self._keys.find("subscriber") or secrets.token_hex(32)
                try:
                    self._hub = Hub(
                        publisher_key=publisher,
                        subscriber_key=subscriber,
                        anonymous=settings.hub_allow_anonymous,
                        subscriptions=settings.hub_subscriptions,
                        publish=settings.hub_allow_publish,
                        keep_alive=settings.hub_keepalive_interval,
                        retry=settings.hub_retry_interval,
                        history_max=settings.hub_reconciliation_length,
                        cookie_name=settings.authz_cookie_name,
                        cors_origins=self.cors_origins,
                        cors_loopback_credentials=True,
                        public_url=settings.embedded_url(self.app.config),
                        transport=self.shared_transport,
                    )
                except InvalidUpdate as error:
                    raise ValueError(f"the embedded Mercure hub cannot start: {error}") from None
                self._hub_keys = {"publisher": publisher, "subscriber": subscriber}
            return self._hub

    def running(self) -> Hub:
        """The hub, started. Under gevent, other greenlets run while the hub waits for its log.

        Raises:
            ValueError: the hub cannot use a setting.
            OSError: the log is unavailable (LogUnavailable), or the process has no room for the hub (NoRoom).
            RuntimeError: the log cannot be used (HubFailed), or the hub has been stopped (HubStopped).
        """
        hub = self.hub()
        self._used_in = os.getpid()
        if self.shared_transport is not None and self._started_in != os.getpid():
            if is_cooperative():
                wait_aside(hub.start)
            self._started_in = os.getpid()
        return hub

    def connect(self, *, may_pass_client: bool = False) -> socket.socket:
        """Open a connection to the hub, for one HTTP request. The caller closes it.

        Args:
            may_pass_client: for a stream, the hub sends the head of the answer and then waits for the client's socket,
                or for word that it does not come: see :mod:`flask_mercure_sse.handover`.

        Raises:
            MercureError: see :func:`flask_mercure_sse.errors.from_native` for the subclasses.
        """
        try:
            if self._settings.hub_subscriptions:
                self.watch.ensure(self)
            return socket.socket(fileno=self.running().connect(may_pass_client=may_pass_client))
        except (OSError, RuntimeError) as error:
            raise from_native(error) from None

    def metrics(self) -> str | None:
        """The metrics of the hub, as ``Hub.metrics``. None: it does not run in this process.

        Under gevent, other greenlets run while the hub looks at its log.
        """
        return None if self._hub is None else wait_aside(self._hub.metrics)

    def _end_passed(self) -> None:
        if self._hub is not None and not self.is_stopped:
            self._hub.end_passed()

    def stop(self) -> None:
        """End all streams and the hub, if it runs in this process. Subscribers get what they were sent, and come back
        to another process. Returns after five seconds at the latest."""
        self.is_stopped = True
        # The engine of a parent belongs to the parent.
        if self._hub is not None and self._used_in == os.getpid():
            self._hub.stop()

    def open_subscription_events(self) -> socket.socket:
        """Open a stream of the hub's subscription events, in SSE format. The caller closes it.

        Raises:
            OSError, RuntimeError: as :meth:`running`.
        """
        return socket.socket(fileno=self.running().watch_subscriptions())

    def key(self, role: Role) -> str | bytes:
        """The key with which the hub was made. A random one, if the application had none."""
        self.hub()
        return self._hub_keys[role]

    def key_if_made(self, role: Role) -> str | bytes | None:
        """The same; None: the hub has not been made yet."""
        return self._hub_keys.get(role)


_all: Final[weakref.WeakSet[EmbeddedHub]] = weakref.WeakSet()


STOP_SECONDS: Final = 5.0
"""How long the hubs of a process may delay its end, and one of them beyond. A hub takes milliseconds, unless the store
of its log does not answer."""


def _at_exit() -> None:
    began = time.monotonic()
    for each in list(_all):
        if time.monotonic() - began < STOP_SECONDS:
            each.stop()


# At import, so that it runs after everything that publishes at the end of the process.
atexit.register(_at_exit)
