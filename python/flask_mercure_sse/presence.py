"""Flask signals that tell who subscribes to the embedded hub and who leaves."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, Final

from blinker import Namespace

from . import forks
from ._native import HubStopped, NoRoom
from .backoff import Backoff
from .events import Parser
from .greenlets import ends_this_thread

if TYPE_CHECKING:
    from flask import Flask

    from .settings import MercureSSEState

_signals: Final = Namespace()

subscriber_connected: Final = _signals.signal("mercure-subscriber-connected")
"""Sent with the application as sender, in its context and in a thread of its own, each time a subscription to the
embedded hub begins; one request has as many subscriptions as topics. Keyword arguments: ``topic``, ``subscriber`` (the
id of the connection), ``payload`` (of its token, or None), ``subscription`` (the whole document).

>>> from flask import Flask
>>> app = Flask(__name__)
>>> @subscriber_connected.connect_via(app)
... def greet(app, topic, payload, **extra):
...     print(topic, payload)
"""

subscriber_disconnected: Final = _signals.signal("mercure-subscriber-disconnected")
"""The same, when a subscription has ended."""

_PART_BYTES: Final = 64 * 1024

OPENING_SECONDS: Final = 10.0
"""How long the first subscriber waits until the hub watches: longer than a store takes to find the end of its log."""

PAUSE_MIN: Final = 0.5
PAUSE_MAX: Final = 30.0
"""Seconds before a watch that has ended is begun again: the pauses grow until an event comes, or a watch has lasted as
long as the longest of them. Each is up to half longer, at random."""


class Watch:
    """Sends the signals of one application, as soon as somebody listens to them."""

    def __init__(self) -> None:
        self.after_fork()
        forks.register(self)

    def after_fork(self) -> None:
        """The thread stays with the parent."""
        self._has_begun = False
        self._lock = threading.Lock()

    def ensure(self, state: MercureSSEState) -> None:
        """Begin, unless it has begun in this process or the signals have no receiver. Signals are sent for
        subscriptions that follow.

        Waits until the hub watches, OPENING_SECONDS at most; other greenlets go on.

        Raises:
            OSError, RuntimeError: the hub cannot start.
        """
        app = state.app
        forks.check()
        if self._has_begun or not state.hub_subscriptions:
            return
        if not (subscriber_connected.has_receivers_for(app) or subscriber_disconnected.has_receivers_for(app)):
            return
        with self._lock:
            if self._has_begun:
                return
            events = _open(state)
            arguments = (weakref.ref(app), events, _first_part(events))
            try:
                threading.Thread(target=_run, args=arguments, name="mercure-presence", daemon=True).start()
            except RuntimeError as error:
                events.close()
                raise NoRoom(f"raise the limit of threads: {error}") from None
            self._has_begun = True

    def end(self) -> None:
        """The thread has ended: the next subscription begins another."""
        self._has_begun = False


def _open(state: MercureSSEState) -> socket.socket:
    return socket.socket(fileno=state.running_hub().watch_subscriptions())


def _first_part(events: socket.socket) -> bytes:
    """The first bytes, which come once the hub watches. Empty if it does not, or takes longer than OPENING_SECONDS."""
    try:
        events.settimeout(OPENING_SECONDS)
        return events.recv(_PART_BYTES)
    except OSError:
        return b""


def _run(application: weakref.ref[Flask], events: socket.socket, first: bytes) -> None:
    """Until the hub ends, which an application takes with it that nobody uses any more."""
    end: BaseException | None = None
    try:
        _watch(application, events, first)
    except BaseException as error:
        # Such as the end of this greenlet: the next subscription begins another.
        end = error
    app = application()
    if app is not None:
        _state(app).watch.end()
    if isinstance(end, (KeyboardInterrupt, SystemExit)):
        raise end


def _watch(application: weakref.ref[Flask], events: socket.socket | None, first: bytes) -> None:
    backoff = Backoff()
    while True:
        began = time.monotonic()
        if events is not None and (_listen(application, events, first) or time.monotonic() - began >= PAUSE_MAX):
            backoff.succeed()
        app = application()
        if app is None:
            return
        pause = backoff.next(PAUSE_MIN, PAUSE_MAX)
        if backoff.failures == 1:
            app.logger.warning(
                "the embedded Mercure hub has ended the stream of its subscription events, and some may be missed: "
                "signals are sent again once it is open"
            )
        # A waiting thread must not keep the application alive.
        del app
        _sleep(pause)
        app = application()
        if app is None:
            return
        try:
            events, first = _open(_state(app)), b""
        except HubStopped:
            return
        except (OSError, RuntimeError):
            events = None
        del app


def _listen(application: weakref.ref[Flask], events: socket.socket, first: bytes) -> bool:
    """Send a signal for each event until the stream ends. Return whether there was an event."""
    parser, part, heard = Parser(), first, False
    with events, contextlib.suppress(OSError):
        events.setblocking(True)
        while part or (part := events.recv(_PART_BYTES)):
            for event in parser.feed(part):
                app = application()
                if app is None:
                    return heard
                heard = True
                _send(app, event.json())
                # A waiting thread must not keep the application alive.
                del app
            part = b""
    return heard


def _sleep(seconds: float) -> None:
    time.sleep(seconds)


def _state(app: Flask) -> MercureSSEState:
    state: MercureSSEState = app.extensions["mercure_sse"]
    return state


def _send(app: Flask, document: dict[str, Any]) -> None:
    signal = subscriber_connected if document["active"] else subscriber_disconnected
    with app.app_context():
        try:
            signal.send(
                app,
                topic=document.get("topic", document.get("match")),
                subscriber=document["subscriber"],
                payload=document.get("payload"),
                subscription=document,
            )
        except BaseException as error:
            # One receiver that fails does not keep later signals from the others.
            app.logger.exception("a receiver of %s failed", signal.name)
            if ends_this_thread(error):
                raise
