"""Publishing an update each time a signal is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from blinker import Signal

from .state import Publisher, current_state


def publish_signal(
    signal: Signal,
    topic: Any = None,
    data: Any = None,
    signal_name_as_type: bool = False,
    signal_kwargs_as_data: bool = False,
    marshaler: Callable[[Any], Any] | None = None,
    callback: Callable[[dict[str, Any]], Any] | None = None,
    sse: Publisher | None = None,
    **publish_kwargs: Any,
) -> None:
    """Publish an update each time ``signal`` is sent.

    Args:
        topic: the topic; by default the signal's name.
        data: the data; a dict, if ``signal_kwargs_as_data`` is set.
        signal_name_as_type: whether the event's type is the signal's name.
        signal_kwargs_as_data: whether the signal's keyword arguments are added to the data.
        marshaler: called with the data, returns the data to publish.
        callback: called with the keyword arguments of ``publish``, in a dict. It may change the dict, or return False:
            then nothing is published.
        sse: the extension; by default that of the current application.
        publish_kwargs: further arguments of :meth:`flask_mercure_sse.MercureSSE.publish`.

    A dict that the sender has as ``__mercure_publish__`` updates the arguments for that sender only.

    Raises:
        RuntimeError: there is neither ``sse`` nor an application context.

    >>> from blinker import Signal
    >>> from flask import Flask
    >>> from flask_mercure_sse import MercureSSE
    >>> mercure = MercureSSE(Flask(__name__))
    >>> paid = Signal()
    >>> publish_signal(paid, topic="orders", signal_kwargs_as_data=True, sse=mercure)
    >>> with mercure.capture() as updates:
    ...     _ = paid.send(order=7)
    >>> updates[0].json()
    {'order': 7}
    """
    extension = sse or current_state().instance
    # An anonymous signal has no name.
    name = getattr(signal, "name", None)

    def on_signal(sender: Any, **signal_kwargs: Any) -> None:
        content = dict(data or {}, **signal_kwargs) if signal_kwargs_as_data else data
        if marshaler is not None:
            content = marshaler(content)
        publication: dict[str, Any] = {"topic": topic, "data": content, **publish_kwargs}
        if signal_name_as_type:
            publication["type"] = name
        publication.update(getattr(sender, "__mercure_publish__", None) or {})
        if callback is not None and callback(publication) is False:
            return
        if publication.get("topic") in (None, ""):
            publication["topic"] = name
        extension.publish(**publication)

    # blinker keeps weak references by default, and nothing else keeps this function.
    signal.connect(on_signal, weak=False)
