"""Who is subscribed: the hub's list of active subscriptions."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from flask import json

from .http.answer import Answer, request
from .state import MercureSSEState
from .topics import as_topic
from .urls import subscriptions_path


def list_subscriptions(state: MercureSSEState, topic: Any = None, subscriber: str | None = None) -> dict[str, Any]:
    """See :meth:`flask_mercure_sse.MercureSSE.get_subscriptions`."""
    settings, authorization = state.settings, state.authorization
    path = subscriptions_path(state, None if topic is None else as_topic(topic), subscriber)
    if state.embedded.is_used:
        url, through = "http://localhost" + path, state.embedded.connect()
    else:
        url, through = settings.external_url + path[path.index("/subscriptions") :], None
        path = urlsplit(url).path
    key = authorization.own_key("subscriber") or authorization.key("subscriber")
    token = authorization.sign("subscriber", key, {"subscribe": [path]})
    answer = request("GET", url, token=token, through=through, timeouts=settings.timeouts)
    if answer.status == 404 and subscriber is not None:
        if settings.protocol == "1.0":
            return {"id": path, "type": "subscriptions", "subscriptions": []}
        return {"@context": "https://mercure.rocks/", "id": path, "type": "Subscriptions", "subscriptions": []}
    if answer.status == 404:
        raise answer.error("the hub lists no subscriptions: they are switched off, or MERCURE_HUB_URL is wrong")
    answer.raise_for_status()
    return _parse(answer)


def is_connected(state: MercureSSEState, topic: Any, payload_filter: dict[str, Any]) -> bool:
    """See :meth:`flask_mercure_sse.MercureSSE.is_connected`."""
    active = [each for each in list_subscriptions(state, topic)["subscriptions"] if each.get("active", True)]
    return any(_matches(each.get("payload"), payload_filter) for each in active)


def _parse(answer: Answer) -> dict[str, Any]:
    try:
        document = json.loads(answer.body)
    except ValueError:
        document = None
    listed = document.get("subscriptions", []) if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(listed, list) or not all(isinstance(e, dict) for e in listed):
        raise answer.error("the answer is no subscription document: is MERCURE_HUB_URL right?")
    if document.get("type") in ("Subscription", "subscription"):
        return document
    return {**document, "subscriptions": listed}


def _matches(payload: Any, wanted: dict[str, Any]) -> bool:
    if not wanted:
        return True
    return isinstance(payload, dict) and all(
        name in payload and payload[name] == value for name, value in wanted.items()
    )
