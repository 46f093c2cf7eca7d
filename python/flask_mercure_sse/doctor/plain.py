"""Tokens and updates over plain HTTP: nothing to say on this machine and in a private network, and a warning beyond."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from .finding import Finding


def addresses(host: str) -> list[str]:
    """The addresses of a host. Empty: it is not known."""
    try:
        return sorted({str(found[4][0]) for found in socket.getaddrinfo(host, None)})
    except OSError:
        return []


def check(setting: str, url: str, resolve: Callable[[str], Iterable[str]] | None = None) -> Finding | None:
    """Whether the URL of a hub leads over plain HTTP to a public address. None: it does not, or no address is known.

    Args:
        setting: which one has the URL.
        resolve: finds the addresses of a host; None: :func:`addresses`.

    >>> check("MERCURE_HUB_URL", "http://hub.example/hub", lambda host: ["8.8.8.8"]).level
    'warning'
    >>> check("MERCURE_HUB_URL", "http://hub.example/hub", lambda host: ["10.0.0.1", "::1"]) is None
    True
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname:
        return None
    found = (resolve or addresses)(parts.hostname)
    public = [each for each in found if ipaddress.ip_address(each.partition("%")[0]).is_global]
    if not public:
        return None
    return Finding(
        "warning",
        "encryption",
        f"{setting} is {url}, over plain HTTP to the public address {public[0]}: everybody on the way can read the "
        "tokens and the updates",
        f"let the hub have TLS, by a proxy in front of it, and write https:// in {setting}",
    )
