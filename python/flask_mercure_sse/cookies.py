"""Which hosts a cookie reaches."""

from __future__ import annotations

import ipaddress
import re
from typing import Final


def shared_domain(hub: str, application: str) -> str | None:
    """The domain of a cookie that the application sets for the hub; None: the application's own host.

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
"""Domains under which others have theirs: browsers refuse cookies for them. The list of all has thousands of lines;
these are the shapes of most."""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
