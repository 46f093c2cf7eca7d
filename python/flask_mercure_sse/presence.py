"""Flask signals for each subscription to the embedded hub that begins or ends."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import weakref
from typing import Any, Final, Protocol

from blinker import Namespace
from flask import Flask

from . import forks
from ._native import HubStopped, NoRoom
from .backoff import Backoff
from .greenlets import ends_this_thread
from .sse import Parser

_signals: Final = Namespace()

subscriber_connected: Final = _signals.signal("mercure-subscriber-connected")
"""Sent when a subscription to the embedded hub begins. A request has one subscription for each of its topics.

The sender is the application. Receivers run in its context and in a thread of their own. Keyword arguments: ``topic``
(str), ``subscriber`` (str, the id of the connection), ``payload`` (of the token, or None), ``subscription`` (dict, the
whole document).

>>> from flask import Flask
>>> app = Flask(__name__)
>>> @subscriber_connected.connect_via(app)
... def greet(app, topic, payload, **extra):
...     print(topic, payload)
"""

subscriber_disconnected: Final = _signals.signal("mercure-subscriber-disconnected")
"""Sent when a subscription to the embedded hub has ended, with the same arguments as ``subscriber_connected``."""

_PART_BYTES: Final = 64 * 1024
"""How many bytes of the stream of subscription events are read at once."""

OPENING_SECONDS: Final = 10.0
"""How long the first subscriber waits until the hub watches. A store takes less time to find the end of its log."""

PAUSE_MIN: Final = 0.5
PAUSE_MAX: Final = 30.0
"""Seconds before a watch that has ended begins again. The pauses double until an event arrives, or a watch has lasted
for PAUSE_MAX. Each pause is up to half longer, at random."""


class Source(Protocol):
    """The embedded hub of an application, as far as a watch needs it."""

    app: Flask
    watch: Watch
    is_stopped: bool

    def open_subscription_events(self) -> socket.socket:
        """Open a stream of subscription events.

        Raises:
            OSError, RuntimeError: the hub cannot start, or has been stopped (HubStopped).
        """


class Watch:
    """Sends the signals of one application, from a thread that starts once the signals have a receiver."""

    def __init__(self) -> None:
        self.after_fork()
        forks.register(self)

    def after_fork(self) -> None:
        # The thread stays with the parent.
        self._has_begun = False
        self._lock = threading.Lock()

    def ensure(self, source: Source) -> None:
        """Begin, unless the watch has begun in this process or the signals have no receiver.

        Signals are sent for every subscription that begins after this call. Waits until the hub watches, at most for
        OPENING_SECONDS; under gevent, other greenlets run meanwhile.

        Raises:
            OSError, RuntimeError: the hub cannot start.
        """
        app = source.app
        forks.check()
        if self._has_begun:
            return
        if not (subscriber_connected.has_receivers_for(app) or subscriber_disconnected.has_receivers_for(app)):
            return
        with self._lock:
            if self._has_begun:
                return
            events = source.open_subscription_events()
            arguments = (weakref.ref(source), events, _first_part(events))
            try:
                threading.Thread(target=_run, args=arguments, name="mercure-presence", daemon=True).start()
            except RuntimeError as error:
                events.close()
                raise NoRoom(f"raise the limit of threads: {error}") from None
            self._has_begun = True

    def end(self) -> None:
        """Note that the thread has ended: the next subscription begins another."""
        self._has_begun = False


def _first_part(events: socket.socket) -> bytes:
    """The first bytes, which arrive once the hub watches. Empty: they did not arrive within OPENING_SECONDS."""
    try:
        events.settimeout(OPENING_SECONDS)
        return events.recv(_PART_BYTES)
    except OSError:
        return b""


# The thread holds the hub of an application by a weak reference, and none at all while it waits: an application that
# nothing else uses any more is collected, its hub ends, and the stream and the thread end with the hub.


def _run(reference: weakref.ref[Source], events: socket.socket, first: bytes) -> None:
    end: BaseException | None = None
    try:
        _watch(reference, events, first)
    except BaseException as error:
        # The end of this greenlet, for example: the next subscription begins another watch.
        end = error
    source = reference()
    if source is not None:
        source.watch.end()
    if isinstance(end, (KeyboardInterrupt, SystemExit)):
        raise end


def _watch(reference: weakref.ref[Source], events: socket.socket | None, first: bytes) -> None:
    backoff = Backoff()
    while True:
        began = time.monotonic()
        if events is not None and (_listen(reference, events, first) or time.monotonic() - began >= PAUSE_MAX):
            backoff.succeed()
        source = reference()
        if source is None or source.is_stopped:
            return
        pause = backoff.next(PAUSE_MIN, PAUSE_MAX)
        if backoff.failures == 1:
            source.app.logger.warning(
                "the embedded Mercure hub has ended the stream of its subscription events: signals are sent again once "
                "the stream is open, and some may be missed until then"
            )
        del source
        _sleep(pause)
        source = reference()
        if source is None:
            return
        try:
            events, first = source.open_subscription_events(), b""
        except HubStopped:
            return
        except (OSError, RuntimeError):
            events = None
        del source


def _listen(reference: weakref.ref[Source], events: socket.socket, first: bytes) -> bool:
    """Send a signal for each event until the stream ends. Return whether there was an event."""
    parser, part, heard = Parser(), first, False
    with events, contextlib.suppress(OSError):
        events.setblocking(True)
        while part or (part := events.recv(_PART_BYTES)):
            for event in parser.feed(part):
                source = reference()
                if source is None:
                    return heard
                heard = True
                _send(source.app, event.json())
                del source
            part = b""
    return heard


def _sleep(seconds: float) -> None:
    time.sleep(seconds)


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
