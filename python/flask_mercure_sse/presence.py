"""Flask signals that tell who subscribes to the embedded hub and who leaves."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from typing import TYPE_CHECKING, Any, Final

from blinker import Namespace

from .events import Parser

if TYPE_CHECKING:
    from flask import Flask

    from ._native import Hub
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
        self._process: int | None = None
        self._lock = threading.Lock()

    def ensure(self, state: MercureSSEState) -> None:
        """Begin, unless it has begun in this process or nobody listens. Subscriptions that follow are told of."""
        app = state.app
        if self._process == os.getpid() or not state.hub_subscriptions:
            return
        if not (subscriber_connected.has_receivers_for(app) or subscriber_disconnected.has_receivers_for(app)):
            return
        with self._lock:
            if self._process == os.getpid():
                return
            self._process = os.getpid()
            hub = state.embedded_hub()
            events = socket.socket(fileno=hub.watch_subscriptions())
            thread = threading.Thread(target=_run, args=(app, hub, events), name="mercure-presence", daemon=True)
            thread.start()


def _run(app: Flask, _hub: Hub, events: socket.socket) -> None:
    parser = Parser()
    events.setblocking(True)
    with events, contextlib.suppress(OSError):
        while part := events.recv(_PART_BYTES):
            for event in parser.feed(part):
                _send(app, event.json())


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
