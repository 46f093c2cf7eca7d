"""Whether a page can use the hub: the scheme of the hub's URL, and the cookie that carries the token."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from werkzeug.exceptions import HTTPException

from ..cookies import scope, shared_domain
from ..state import MercureSSEState
from ..urls import hub_base_url
from .finding import Finding
from .wire import origin_of


def hub_of(state: MercureSSEState, page: str) -> str:
    """The URL of the hub in a page of the application.

    Args:
        page: the origin of the page, such as ``https://example.com``.

    Raises:
        HTTPException: the application refuses requests for this host.
    """
    with state.app.test_request_context(base_url=page + "/"):
        url = hub_base_url(state)
    if url.startswith("//"):
        return f"{urlsplit(page).scheme}:{url}"
    return page + url if url.startswith("/") else url


def check(state: MercureSSEState, page: str) -> Finding:
    """Check the cookie and the hub's URL for a page of that origin."""
    try:
        hub = hub_of(state, page)
        with state.app.test_request_context(base_url=page + "/"):
            attributes = scope(state, None)
    except HTTPException as refusal:
        return Finding(
            "problem",
            "cookie",
            f"the application refuses requests for {page}: {refusal.description}",
            "add the host to TRUSTED_HOSTS, or correct the URL",
        )
    name, page_parts, hub_parts = state.settings.authz_cookie_name, urlsplit(page), urlsplit(hub)
    page_host, hub_host = page_parts.hostname or "", hub_parts.hostname or ""
    if page_parts.scheme == "https" and hub_parts.scheme == "http" and not _is_loopback(hub_host):
        return Finding(
            "problem",
            "cookie",
            f"pages of {page} would open {hub}, and browsers block http in a page of https",
            "set MERCURE_PUBLIC_HUB_URL to the https URL of the hub",
        )
    if page_host != hub_host and shared_domain(hub_host, page_host) is None:
        return Finding(
            "warning",
            "cookie",
            f"no cookie of {page_host} reaches the hub at {hub_host}: private updates need tokens in URLs",
            "give the hub a name in the domain of the application, or a path of its site through the proxy",
        )
    if attributes["secure"] and hub_parts.scheme == "http" and not _is_loopback(hub_host):
        return Finding(
            "problem",
            "cookie",
            f"{name} is for https only, and the hub is at {hub}: browsers drop the cookie",
            "serve the site over https",
        )
    domain = attributes["domain"] or f"{page_host} only"
    secure = "Secure" if attributes["secure"] else "not Secure, because the hub's URL begins with http"
    found = f"{name}, Domain {domain}, Path {attributes['path']}, SameSite {attributes['samesite']}, {secure}"
    if page != origin_of(hub):
        found += "; scripts need withCredentials: true"
    return Finding("ok", "cookie", found)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
