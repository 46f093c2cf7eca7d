"""The address of the hub in pages, where it is made of the request: which hosts it may have, and whether the proxy
passes scheme and host on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import urljoin, urlsplit

from werkzeug.exceptions import HTTPException

from ..state import MercureSSEState
from . import cookie
from .finding import Finding

_FOREIGN: Final = "https://foreign.invalid"
"""The origin of a host that no application has (RFC 2606)."""

_LINK: Final = re.compile(r'<([^<>"\s]+)>\s*;\s*rel="?mercure"?')
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


def check_hosts(state: MercureSSEState) -> Finding | None:
    """Check that a client cannot choose the host in hub URLs. None: it cannot."""
    try:
        hub = cookie.hub_of(state, _FOREIGN)
    except HTTPException:
        return None
    if urlsplit(hub).hostname != urlsplit(_FOREIGN).hostname:
        return None
    return Finding(
        "warning",
        "host",
        "hub URLs have the host of the request, whatever it is, and any client can send any host",
        "set TRUSTED_HOSTS, SERVER_NAME or MERCURE_PUBLIC_HUB_URL: see docs/how-to/hosts.md",
    )


def check_proxy(links: Iterable[str], hub: str) -> Finding | None:
    """Compare the address of an embedded hub with the one that it names itself. None: it names the same, or none.

    Args:
        links: the header fields ``Link`` of its answer.
        hub: its URL as browsers see it.

    >>> check_proxy(['<http://a.example/hub>; rel="mercure"'], "https://a.example/hub").level
    'problem'
    >>> check_proxy(['</hub>; rel="mercure"'], "https://a.example/hub") is None
    True
    """
    named = next((found[1] for link in links if (found := _LINK.search(link))), None)
    if named is None:
        return None
    # MERCURE_PUBLIC_HUB_URL may be a path.
    named = urljoin(hub, named)
    here, there = urlsplit(hub), urlsplit(named)
    if (here.scheme, there.scheme) == ("https", "http"):
        return Finding(
            "problem",
            "scheme",
            f"pages over https would open {named}, and browsers block http in them: the application does not get the "
            "scheme that browsers use",
            "let the proxy set X-Forwarded-Proto, and the server believe it (gunicorn: --forwarded-allow-ips; others: "
            "ProxyFix with x_proto=1), or set MERCURE_PUBLIC_HUB_URL",
        )
    if _host(hub) != _host(named):
        return Finding(
            "warning",
            "host",
            f"pages would open {named}: the application does not get the host that browsers use",
            "let the proxy set Host (nginx: proxy_set_header Host $http_host), or set MERCURE_PUBLIC_HUB_URL",
        )
    return None


def _host(url: str) -> str:
    """Host and port, in lower case, without the port of the scheme."""
    parts = urlsplit(url)
    return parts.netloc.lower().removesuffix(_DEFAULT_PORTS.get(parts.scheme, ""))
