"""The elements that connect a page with the hub: ``mercure_turbo_stream`` and ``mercure_datastar_stream`` in templates.

A private stream has a token of its own in the page, for its topics and no others, which the client sends in a header.
It is not in a cookie, for three reasons: a browser has one cookie for all pages, so a page with other topics would take
it away from this one; a template cannot set a cookie that the application sets otherwise; and no cookie reaches a hub
on another site. Where the extension keeps the cookie of the current user (``user_topics``), the element needs no token.
"""

from __future__ import annotations

from typing import Any, Final

from flask import after_this_request, has_request_context
from markupsafe import Markup
from werkzeug.wrappers import Response

TURBO: Final = "mercure-turbo-stream"
DATASTAR: Final = "mercure-datastar-stream"


def stream_tag(name: str, url: str, token: str | None) -> Markup:
    """The element. With a token, the response must not be kept by caches that several users share.

    >>> stream_tag(TURBO, "/.well-known/mercure?topic=a&topic=b", None)
    Markup('<mercure-turbo-stream src="/.well-known/mercure?topic=a&amp;topic=b" hidden></mercure-turbo-stream>')
    """
    attributes: dict[str, Any] = {"src": str(url)}
    if token is not None:
        attributes["token"] = token
        if has_request_context():
            after_this_request(_keep_from_shared_caches)
    written = Markup("").join(Markup(' {}="{}"').format(*pair) for pair in attributes.items())
    return Markup("<{0}{1} hidden></{0}>").format(name, written)


def _keep_from_shared_caches(response: Response) -> Response:
    response.cache_control.private = True
    response.cache_control.public = False
    return response
