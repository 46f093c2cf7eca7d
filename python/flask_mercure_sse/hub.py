"""The names that flask-mercure-sse 0.4 had in this module. New code imports them from :mod:`flask_mercure_sse`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ._native import Hub, expand_subscription_topic
from .blueprint import hub_blueprint
from .topics import as_topic

__all__ = ["Hub", "format_subscriptions_response", "get_subscription_id", "hub_blueprint"]


def get_subscription_id(topic: Any, sub: Any = None) -> str:
    """The path of the subscriptions to a topic in protocol 0.x, or of one subscriber's.

    Args:
        sub: the id of the subscriber, or an object that has it as ``id``; None: all subscribers.

    Raises:
        ValueError: a subscriber without a topic.

    >>> get_subscription_id("/books/1", "urn:uuid:1")
    '/.well-known/mercure/subscriptions/%2Fbooks%2F1/urn%3Auuid%3A1'
    """
    return expand_subscription_topic(None if topic is None else as_topic(topic), getattr(sub, "id", sub))


def format_subscriptions_response(
    id: str, subscriptions: Iterable[tuple[str, Mapping[str, Any]]], last_event_id: str
) -> dict[str, Any]:
    """The document that lists subscriptions in protocol 0.x.

    Args:
        id: the path of the document.
        subscriptions: pairs of a topic and its subscribers by id, which are objects with ``id`` and ``payload``.
        last_event_id: the id of the newest update.

    >>> format_subscriptions_response("/.well-known/mercure/subscriptions", [], "earliest")["subscriptions"]
    []
    """
    listed = [(topic, subscriber) for topic, subscribers in subscriptions for subscriber in subscribers.values()]
    return {
        "@context": "https://mercure.rocks/",
        "id": id,
        "type": "Subscriptions",
        "lastEventID": last_event_id,
        "subscriptions": [
            {
                "id": get_subscription_id(topic, subscriber),
                "type": "Subscription",
                "topic": topic,
                "subscriber": subscriber.id,
                "active": True,
                "payload": subscriber.payload,
            }
            for topic, subscriber in listed
        ],
    }
