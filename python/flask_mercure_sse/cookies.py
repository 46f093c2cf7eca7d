"""The cookie that carries a subscriber's token: which hosts it reaches, for how long, and how it is deleted."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Final, TypeVar, cast
from urllib.parse import SplitResult, urljoin, urlsplit

from flask import Response as FlaskResponse
from flask import current_app, has_request_context, request
from flask.typing import ResponseReturnValue
from werkzeug.wrappers import Response

from .hosts import request_host
from .state import MercureSSEState
from .urls import hub_base_url

AnyResponse = TypeVar("AnyResponse", bound=Response)


def as_response(returned: ResponseReturnValue) -> FlaskResponse:
    """The response of what a view may return, such as a text. A response is that response, also one of Werkzeug's own,
    which has all that a view needs of it.

    Raises:
        TypeError: a view may not return it.
        RuntimeError: it is no response, and there is no application context.
    """
    return cast(FlaskResponse, returned) if isinstance(returned, Response) else current_app.make_response(returned)


def set_cookie(
    state: MercureSSEState,
    response: AnyResponse,
    token: str,
    *,
    lasts_as_its_token: bool,
    secure: bool | None,
    options: dict[str, Any],
) -> AnyResponse:
    """Add the cookie to a response and return the response.

    Args:
        lasts_as_its_token: whether the cookie lasts for MERCURE_JWT_TTL and MERCURE_AUTHZ_COOKIE_GRACE; otherwise it
            lasts until the browser ends.
        secure: whether the cookie is sent over TLS only; None: as the hub's URL says.
        options: arguments of Flask's ``set_cookie``. They win.
    """
    attributes = scope(state, secure)
    ttl = state.settings.jwt_ttl
    if lasts_as_its_token and ttl and "expires" not in options:
        # Without its cookie, a page whose token has ended would be let in as anonymous, and would hear nothing private
        # any more without an error. With an expired token, the hub refuses the page (401), which can then renew it.
        attributes["max_age"] = ttl + state.settings.authz_cookie_grace
    response.set_cookie(state.settings.authz_cookie_name, token, **{**attributes, **options})
    return response


def delete_cookie(
    state: MercureSSEState, response: AnyResponse, *, secure: bool | None, options: dict[str, Any]
) -> AnyResponse:
    """Have the browser delete the cookie, and return the response. Takes what :func:`set_cookie` took."""
    attributes = {**scope(state, secure), **options, "max_age": 0, "expires": 0}
    response.set_cookie(state.settings.authz_cookie_name, "", **attributes)
    return response


def scope(state: MercureSSEState, secure: bool | None) -> dict[str, Any]:
    """The attributes that have the cookie sent to the hub and to nothing else."""
    hub, host, page = _hosts(state)
    domain = shared_domain(host, page)
    if not _is_reached(host, page):
        state.warn_once(
            "cookie",
            f"no cookie of {page!r} reaches the Mercure hub at {host!r}: they share no domain of their own. Use "
            "authentified_hub_url(), or give the hub a name in the application's domain.",
        )
    if secure is None:
        # Browsers accept a cookie with this prefix only if it is secure; on localhost also without TLS.
        secure = hub.scheme == "https" or state.settings.authz_cookie_name.startswith("__Secure-")
    return {"httponly": True, "samesite": "Strict", "path": hub.path or "/", "domain": domain, "secure": secure}


def reaches_hub(state: MercureSSEState) -> bool:
    """Whether browsers send a cookie of the current request's host to the hub."""
    _, host, page = _hosts(state)
    return _is_reached(host, page)


def _is_reached(host: str, page: str) -> bool:
    return not page or host == page or shared_domain(host, page) is not None


def _hosts(state: MercureSSEState) -> tuple[SplitResult, str, str]:
    """The hub's URL for browsers, its host, and the host of the request; empty: there is no request."""
    page_url = f"{request.scheme}://{request_host()}/" if has_request_context() else ""
    # The hub's URL may lack its scheme and host: they are the page's then.
    hub = urlsplit(urljoin(page_url, hub_base_url(state)))
    return hub, (hub.hostname or "").rstrip("."), (urlsplit(page_url).hostname or "").rstrip(".")


def shared_domain(hub: str, application: str) -> str | None:
    """The domain of a cookie that the application sets for the hub. None: a cookie for the application's own host.

    Args:
        hub, application: their host names; empty: not known.

    >>> shared_domain("hub.example.com", "app.example.com"), shared_domain("hub.co.uk", "app.co.uk")
    ('example.com', None)
    """
    if hub == application or _is_address(hub) or _is_address(application):
        return None
    if not application:
        return hub if "." in hub else None
    shared: list[str] = []
    for ours, theirs in zip(reversed(hub.split(".")), reversed(application.split(".")), strict=False):
        if ours != theirs:
            break
        shared.insert(0, ours)
    domain = ".".join(shared)
    return domain if len(shared) > 1 and not _PUBLIC_SUFFIX.fullmatch(domain) else None


_PUBLIC_SUFFIX: Final = re.compile(
    r"(?:ac|co|com|edu|gob|gov|net|nom|org|or|ne|go)\.[a-z]{2}"
    r"|(?:github|gitlab)\.io|(?:netlify|vercel|web|run)\.app|(?:pages|fly|workers)\.dev"
    r"|(?:herokuapp|onrender|appspot)\.com|(?:azurewebsites|cloudfront)\.net"
)
"""Domains in which different owners have their domains: browsers refuse cookies for them. The public suffix list has
thousands of lines; these patterns cover most."""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
