"""CORS: whether pages of another origin may use the hub, asked as EventSource, ``fetch`` and htmx ask."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from werkzeug.datastructures import Headers

from ..state import MercureSSEState
from .finding import Finding
from .wire import OpenStream, ask, origin_of

_PREFLIGHTS: Final = {
    "fetch": "authorization,last-event-id",
    "htmx": "hx-current-url,hx-request,hx-target,last-event-id",
}
"""The header fields for which a preflight asks, beside those that need none."""

_TOPIC: Final = "flask-mercure-sse/doctor"

_Asker = Callable[[MercureSSEState, str, str, dict[str, str]], Headers]
"""Sends a request to a hub's URL, with a method and header fields, and returns the fields of the answer."""


def check(state: MercureSSEState, hub: str, origin: str, *, in_process: bool) -> Finding:
    """Check the access of pages of an origin.

    Args:
        hub: the public URL of the hub.
        in_process: ask the application of this process; otherwise ask the URL.
    """
    if origin == origin_of(hub):
        return Finding("ok", "CORS", f"{origin} is the hub's own origin")
    asker = _ask_application if in_process else _ask_url
    try:
        refused, without_cookies = _refused(asker, state, hub, origin)
    except (OSError, http.client.HTTPException) as error:
        return Finding("problem", "CORS", f"no answer from {hub}: {type(error).__name__}", "see the other lines")
    if refused:
        change = (
            f"petasos: --cors-origins {origin}; python -m flask_mercure_sse.server: the same"
            if not state.embedded.is_used
            else "serve the pages and the hub under one origin: the embedded hub has the origin of its "
            "application. Or run the hub on its own, with --cors-origins"
        )
        return Finding("problem", "CORS", f"the hub refuses pages of {origin}: {', '.join(refused)}", change)
    if without_cookies:
        return Finding(
            "warning",
            "CORS",
            f"pages of {origin} may use the hub without cookies only: private updates need tokens in URLs",
            f"list the origin beside the *: --cors-origins {origin}",
        )
    return Finding("ok", "CORS", f"EventSource, fetch and htmx of {origin} may use the hub, with cookies")


def _refused(asker: _Asker, state: MercureSSEState, hub: str, origin: str) -> tuple[list[str], bool]:
    """Names the clients that are refused, and says whether cookies are."""
    headers = asker(state, hub, "GET", {"Origin": origin, "Accept": "text/event-stream"})
    refused = [] if _allows(headers, origin) else ["EventSource"]
    without_cookies = headers.get("Access-Control-Allow-Credentials") != "true"
    for who, names in _PREFLIGHTS.items():
        preflight = {
            "Origin": origin,
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": names,
        }
        headers = asker(state, hub, "OPTIONS", preflight)
        allowed = {name.strip().lower() for name in (headers.get("Access-Control-Allow-Headers") or "").split(",")}
        # "*" does not cover Authorization.
        missing = [name for name in names.split(",") if name not in allowed]
        if not _allows(headers, origin) or (missing and ("*" not in allowed or "authorization" in missing)):
            refused.append(who)
    return refused, without_cookies


def _allows(headers: Headers, origin: str) -> bool:
    return headers.get("Access-Control-Allow-Origin") in (origin, "*")


def _ask_application(state: MercureSSEState, hub: str, method: str, headers: dict[str, str]) -> Headers:
    parts = urlsplit(hub)
    # What the application adds to answers, such as flask-cors, is in them.
    client = state.app.test_client(use_cookies=False)
    answer = client.open(
        parts.path,
        base_url=f"{parts.scheme}://{parts.netloc}",
        query_string=_query(state),
        method=method,
        headers=headers,
    )
    with answer:
        return answer.headers


def _ask_url(state: MercureSSEState, hub: str, method: str, headers: dict[str, str]) -> Headers:
    url = f"{hub}?{_query(state)}"
    if method == "OPTIONS":
        return Headers(ask(url, headers, method)[0].headers.items())
    with OpenStream(url, headers) as stream:
        head = stream.head()
    if head is None:
        raise TimeoutError
    return Headers(head.headers.items())


def _query(state: MercureSSEState) -> str:
    return f"{'match' if state.settings.protocol == '1.0' else 'topic'}={_TOPIC}"
