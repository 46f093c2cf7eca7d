"""What a browser's own ``EventSource`` gets while the embedded hub cannot answer. It gives up for ever after an error
status, so it gets a stream that ends at once and says when to come back.

The hub does the same for its own refusals (``crates/server/src/http/event_source.rs``).
"""

from __future__ import annotations

import random
from typing import Final

from flask import Request, Response

PAUSE_SECONDS: Final = 5
"""A browser comes back after one to two times this long, and not together with all others."""


def is_event_source(request: Request) -> bool:
    """Whether a browser's own ``EventSource`` has sent the request, as far as its headers tell.

    >>> from flask import Flask
    >>> headers = {"Accept": "text/event-stream", "Cache-Control": "no-cache", "User-Agent": "Mozilla/5.0"}
    >>> with Flask("app").test_request_context(headers=headers) as context:
    ...     is_event_source(context.request)
    True
    """
    headers = request.headers
    return (
        request.method == "GET"
        and headers.get("Accept") == "text/event-stream"
        and headers.get("Cache-Control") == "no-cache"
        and headers.get("User-Agent", "").startswith("Mozilla/")
        and "Authorization" not in headers
    )


def come_back(reason: str) -> Response:
    """The answer. The reason stands in a comment, where the tools of developers show it."""
    millis = round(PAUSE_SECONDS * 1000 * (1 + random.random()))
    body = f"retry: {millis}\n: {' '.join(reason.split())}\n"
    return Response(body, content_type="text/event-stream", headers={"Cache-Control": "no-store"})
