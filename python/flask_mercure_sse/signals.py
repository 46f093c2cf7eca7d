"""Signals as event sources: each time one is sent, an update is published."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .settings import current_extension

if TYPE_CHECKING:
    from blinker import Signal

    from .extension import MercureSSE


def publish_signal(
    signal: Signal,
    topic: Any = None,
    data: Any = None,
    signal_name_as_type: bool = False,
    signal_kwargs_as_data: bool = False,
    marshaler: Callable[[Any], Any] | None = None,
    callback: Callable[[dict[str, Any]], Any] | None = None,
    sse: MercureSSE | None = None,
    **publish_kwargs: Any,
) -> None:
    """Publish an update each time ``signal`` is sent.

    Args:
        topic: the topic; by default the signal's name.
        data: the data, a dict if signal_kwargs_as_data adds the signal's keyword arguments to it.
        signal_name_as_type: whether the event's type is the signal's name.
        signal_kwargs_as_data: whether the signal's keyword arguments are the data.
        marshaler: turns the data into what is published.
        callback: receives the publication, the keyword arguments of ``publish`` as a dict; may change it, or return
            False to publish nothing.
        sse: the extension; by default that of the current application.
        publish_kwargs: what else ``publish`` takes.

    A sender's ``__mercure_publish__`` (a dict) updates the publication of that sender only.

    Raises:
        RuntimeError: neither ``sse`` nor an application context.
    """
    extension = sse or current_extension()
    # An anonymous signal has none.
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

    # blinker keeps weak references by default, and nobody else keeps this function.
    signal.connect(on_signal, weak=False)
