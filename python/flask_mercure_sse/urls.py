"""The URLs of an application's hub: its address, that of a subscription, and the paths of the subscriptions API."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote, urlsplit

from ._native import expand_subscription_topic, expand_subscriptions_path
from .hosts import base_url
from .state import MercureSSEState
from .tokens import check_dialect
from .topics import Selector, URLPattern, as_topic, as_topics
from .values import HUB_PATH


def hub_base_url(state: MercureSSEState, public: bool = True) -> str:
    """See :meth:`flask_mercure_sse.MercureSSE.hub_base_url`."""
    settings, embedded = state.settings, state.embedded
    if public and isinstance(settings.public_hub_url, str) and not embedded.stands_in:
        return settings.public_hub_url
    if embedded.is_used:
        return base_url(is_mounted=True) + HUB_PATH
    # The application's own tokens never go to a host that a client has named: this is the URL for browsers only.
    if public and True in (settings.public_hub_url, settings.hub_url):
        return base_url(is_mounted=False) + HUB_PATH
    return settings.external_url


def subscribe_url(
    state: MercureSSEState,
    base: str,
    selected: list[str],
    subscriber_jwt: str | None = None,
    cursor: str | None = None,
) -> str:
    """The URL that subscribes to topics on the hub at ``base``.

    Args:
        cursor: the id of the event after which the stream begins.

    Raises:
        ValueError: the dialect has no such selector, or no tokens in URLs.
    """
    fields = [f"{_parameter(state.settings.protocol, topic)}={quote(topic, safe='')}" for topic in selected]
    if subscriber_jwt:
        if state.settings.protocol == "1.0":
            raise ValueError("protocol 1.0 has no tokens in URLs: use set_authz_cookie(), or send a header")
        fields.append(f"authorization={quote(subscriber_jwt, safe='')}")
    if cursor is not None:
        fields.append(f"{_CURSOR_PARAMETERS[state.settings.protocol]}={quote(cursor, safe='')}")
    return f"{base}?{'&'.join(fields)}"


_CURSOR_PARAMETERS: Final = {"0.x": "lastEventID", "1.0": "last_event_id"}
"""The query parameter that has the cursor."""


def _parameter(protocol: str, topic: str) -> str:
    """The query parameter that selects a topic."""
    check_dialect(topic, protocol)
    if protocol == "1.0":
        return "match_urlpattern" if isinstance(topic, URLPattern) else "match"
    return "topic"


def selected_topics(state: MercureSSEState, topics: Any, with_subscriptions: bool) -> list[str]:
    """The topics of a subscription, with those of the subscription events of these topics if they are asked for.

    Raises:
        ValueError: a topic is empty. A hub would open the stream, and it would stay silent.
    """
    selected = as_topics(topics)
    if "" in selected:
        raise ValueError("topics: a topic is empty: write the topic to which the page subscribes")
    if not with_subscriptions:
        return selected
    events = [subscription_topic(state, topic) for topic in selected]
    if state.settings.protocol == "0.x":
        # Every hub publishes an event on the topic of one subscriber; petasos on that of all subscribers, too.
        events = [Selector(f"{topic}/{{subscriber}}") for topic in events]
    return selected + events


def subscription_topic(state: MercureSSEState, topic: Any, subscriber: Any = None) -> str:
    """See :meth:`flask_mercure_sse.MercureSSE.subscription_topic`."""
    name, subscriber = as_topic(topic), getattr(subscriber, "id", subscriber)
    path = subscriptions_path(state, name, subscriber)
    return path if subscriber or state.settings.protocol == "0.x" else URLPattern(f"{path}/:subscriber")


def subscriptions_path(state: MercureSSEState, topic: str | None, subscriber: str | None) -> str:
    """The path of the subscriptions API, as tokens name it: of all subscriptions, of a topic's, or of one subscriber's.

    Raises:
        ValueError: a subscriber without a topic.
    """
    if state.settings.protocol == "0.x":
        return expand_subscription_topic(topic, subscriber)
    match_type = "urlpattern" if isinstance(topic, URLPattern) else "exact"
    path = expand_subscriptions_path(topic, subscriber, match_type)
    base = HUB_PATH if state.embedded.is_used else urlsplit(state.settings.external_url).path
    return base + path.removeprefix(HUB_PATH)


def links(state: MercureSSEState, topic: Any) -> list[str]:
    """The ``Link`` headers of a resource (section "Discovery"). topic: its canonical URL; None: the hub alone."""
    headers = [f'<{hub_base_url(state)}>; rel="mercure"']
    if topic is not None:
        # The topic is an address, not a parameter: only characters that would end it are encoded.
        url = quote(as_topic(topic), safe="!#$%&'()*+,/:;=?@[]~{}")
        headers.append(f'<{url}>; rel="self"')
    return headers
