"""Flask signals that tell who subscribes to the embedded hub and who leaves."""

from __future__ import annotations

import contextlib
import socket
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

from blinker import Namespace

from . import forks
from .events import Parser

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
        """Begin, unless it has begun in this process or nobody listens. Subscriptions that follow are told of."""
        app = state.app
        forks.check()
        if self._has_begun or not state.hub_subscriptions:
            return
        if not (subscriber_connected.has_receivers_for(app) or subscriber_disconnected.has_receivers_for(app)):
            return
        with self._lock:
            if self._has_begun:
                return
            events = socket.socket(fileno=state.running_hub().watch_subscriptions())
            arguments = (weakref.ref(app), events)
            threading.Thread(target=_run, args=arguments, name="mercure-presence", daemon=True).start()
            self._has_begun = True


def _run(application: weakref.ref[Flask], events: socket.socket) -> None:
    """Until the hub ends, which an application takes with it that nobody uses any more."""
    parser = Parser()
    events.setblocking(True)
    with events, contextlib.suppress(OSError):
        while part := events.recv(_PART_BYTES):
            for event in parser.feed(part):
                app = application()
                if app is None:
                    return
                _send(app, event.json())
                # While it waits, it keeps nothing alive.
                del app


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
        except Exception:
            app.logger.exception("a receiver of %s failed", signal.name)
