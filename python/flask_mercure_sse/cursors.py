"""The newest event id of a hub: the cursor with which a page asks for everything that is published after it.

A page that reads the cursor, then its data, and puts the cursor into the URL of its stream misses nothing that is
published while it loads. Nothing here fails: a page without a cursor is better than no page.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Final

from flask import Flask, has_request_context, json, request

from .errors import HubError, MercureError, describe, from_native
from .http.answer import Answer, Timeouts
from .http.answer import request as send
from .sse import is_event_id
from .state import MercureSSEState
from .urls import subscribe_url, subscriptions_path

NOW: Final = "now"
"""In place of an id: the newest id that the hub has at this moment."""

ASK_SECONDS: Final = 0.5
"""How long a page waits for a hub elsewhere. A hub takes milliseconds; a page without a cursor is still a page."""

_KEPT: Final = "flask_mercure_sse.last_event_id"
"""The key under which the environment of a request has the cursors that the request has read."""

_NOBODYS_TOPIC: Final = "flask-mercure-sse/last-event-id"
"""What is asked about: nothing is published there, and nobody subscribes to it, so that the answer is short."""


def last_event_id(state: MercureSSEState) -> str | None:
    """See :meth:`flask_mercure_sse.MercureSSE.last_event_id`."""
    if not has_request_context():
        return _newest(state)
    # In the environment and not in `g`, which a test may keep for several requests.
    kept: dict[Any, str | None] = request.environ.setdefault(_KEPT, {})
    if state not in kept:
        kept[state] = _newest(state)
    return kept[state]


def resolve(state: MercureSSEState, cursor: str | None) -> str | None:
    """The cursor of a URL: an id, or what :data:`NOW` stands for.

    Raises:
        ValueError: the text is no id.
    """
    if cursor is not None and not is_event_id(cursor):
        raise ValueError("last_event_id: write the id of an event: a text without control characters")
    return last_event_id(state) if cursor == NOW else cursor


def read_at_the_beginning(app: Flask, **_: Any) -> None:
    """Read the cursor before a view reads its data. A receiver of Flask's ``request_started``."""
    endpoint = request.endpoint or "static"
    if request.method != "OPTIONS" and not endpoint.endswith("static") and request.blueprint != "mercure_hub":
        last_event_id(app.extensions["mercure_sse"])


def _newest(state: MercureSSEState) -> str | None:
    """The newest id; "earliest" if the hub has none. None: the hub does not say; the reason is logged once."""
    try:
        if state.embedded.is_used:
            return _embedded(state)
        newest: Newest = state.elsewhere.get(lambda last: _ask(state, last))
        return newest.id
    except (MercureError, ValueError) as error:
        state.warn_once(
            "last_event_id",
            f"URLs of pages lack the newest event id, so updates may be lost while a page loads: {describe(error)}",
        )
        return None


def _embedded(state: MercureSSEState) -> str:
    try:
        return state.embedded.running().last_event_id()
    except (OSError, RuntimeError) as error:
        raise from_native(error) from None


@dataclass(frozen=True)
class Newest:
    """What a hub elsewhere has answered."""

    id: str
    way: int
    """The number of the way in which it has answered: see :func:`_ask`."""


def _ask(state: MercureSSEState, last: Newest | None) -> Newest:
    """Ask a hub elsewhere, in one of these ways. The one that has worked is tried first.

    1. A HEAD request with a blank cursor, which petasos answers with the id and subscribes nobody.
    2. The same without a token, if the hub refuses the application's token and lets everybody in.
    3. The list of the subscriptions to a topic that nobody has, which names the id on every hub.

    Raises:
        MercureError: the hub does not say it; the subclass says why.
    """
    deadline = time.monotonic() + ASK_SECONDS
    base = state.settings.external_url
    path = subscriptions_path(state, _NOBODYS_TOPIC, None)
    stream = subscribe_url(state, base, [_NOBODYS_TOPIC])
    listing = base + path[path.index("/subscriptions") :]
    token = _token(state, path)
    ways = [(1, "HEAD", stream, token), (2, "HEAD", stream, None), (3, "GET", listing, token)]
    if last is not None:
        ways.sort(key=lambda way: way[0] != last.way)
    refused: MercureError | None = None
    for number, method, url, presented in ways:
        if token is None and number != 2:
            continue
        given, remaining = state.settings.timeouts, max(deadline - time.monotonic(), 0.01)
        timeouts = Timeouts(min(given.connect, remaining), min(given.read, remaining))
        answer = send(method, url, token=presented, last_event_id="", timeouts=timeouts)
        found = answer.last_event_id or _in_document(answer)
        # A hub that does not know blank cursors may take one for an id that it has lost.
        if found and (method == "GET" or found != "earliest"):
            return Newest(found, number)
        refused = refused or _refusal(answer)
    raise refused or HubError("the hub says no event id: it neither answers a blank cursor nor lists subscriptions")


def _token(state: MercureSSEState, path: str) -> str | None:
    """A token that may read one list of subscriptions, which is empty, and nothing else. None: there is no key."""
    try:
        key = state.keys.find("subscriber")
        return state.authorization.sign("subscriber", key, {"subscribe": [path]}) if key else None
    except ValueError:
        # A public key cannot sign.
        return None


def _in_document(answer: Answer) -> str | None:
    if answer.status != 200:
        return None
    try:
        document = json.loads(answer.body)
    except ValueError:
        return None
    found = (document.get("last_event_id") or document.get("lastEventID")) if isinstance(document, dict) else None
    return found if found and is_event_id(found) else None


def _refusal(answer: Answer) -> MercureError | None:
    try:
        answer.raise_for_status()
    except MercureError as error:
        return error
    return None
