"""The elements that connect a page with the hub: ``mercure_turbo_stream`` and ``mercure_datastar_stream`` in templates.

A private stream has a token of its own in the page, for its topics and no others, which the client sends in a header.
It is not in a cookie, for three reasons: a browser has one cookie for all pages, so a page with other topics would take
it away from this one; a template cannot set a cookie that the application sets otherwise; and no cookie reaches a hub
on another site. Where the cookie of the current user (``user_topics``) grants the topics, the element needs no token.
"""

from __future__ import annotations

from typing import Any, Final

from flask import Flask, after_this_request, has_request_context, request, request_finished
from markupsafe import Markup
from werkzeug.wrappers import Response

from . import caches

TURBO: Final = "mercure-turbo-stream"
DATASTAR: Final = "mercure-datastar-stream"

_HAS_TOKEN: Final = "flask_mercure_sse.token_in_page"
"""The key under which the environment of a request says that a token is in the page."""

_FINISHED: Final = "flask_mercure_sse.finished"
"""The key under which the environment of a request says, once the headers are sent, whether they keep the response
from shared caches."""


def prepare(app: Flask) -> None:
    """Keep the pages of an application that have a token from shared caches."""
    request_finished.connect(_finish, app)


def stream_tag(name: str, url: str, token: str | None) -> Markup:
    """The element. With a token, the response must not be kept by caches that several users share.

    Raises:
        RuntimeError: the page with the token is streamed, and its headers, which are sent, let shared caches keep it.

    >>> stream_tag(TURBO, "/.well-known/mercure?topic=a&topic=b", None)
    Markup('<mercure-turbo-stream src="/.well-known/mercure?topic=a&amp;topic=b" hidden></mercure-turbo-stream>')
    """
    attributes: dict[str, Any] = {"src": str(url)}
    if token is not None:
        attributes["token"] = token
        if has_request_context():
            _note_token(name)
    written = Markup("").join(Markup(' {}="{}"').format(*pair) for pair in attributes.items())
    return Markup("<{0}{1} hidden></{0}>").format(name, written)


def _note_token(name: str) -> None:
    if _FINISHED not in request.environ:
        request.environ[_HAS_TOKEN] = True
        # Now, for the functions of the application that read the header; and once more after them, in _finish.
        after_this_request(caches.keep_from_shared)
    elif not request.environ[_FINISHED]:
        raise RuntimeError(
            f"{name.replace('-', '_')}(private=True): the page has a token, and its headers are sent before its "
            "template is rendered. Have the view set Cache-Control: private, or render_template() in place of "
            "stream_template()."
        )


def _finish(_app: Flask, response: Response, **_: Any) -> None:
    if request.environ.pop(_HAS_TOKEN, False):
        # A function that runs after each request may have set the headers of all pages.
        caches.keep_from_shared(response)
    request.environ[_FINISHED] = caches.is_kept_from_shared(response)
