"""Caches that several users share: whether they keep a response, and how they are kept from it."""

from __future__ import annotations

from datetime import datetime, timezone

from werkzeug.wrappers import Response


def is_shared(response: Response, now: float) -> bool:
    """Whether a shared cache may keep a response and give it to other users.

    Args:
        now: seconds of the Unix clock.

    >>> is_shared(Response(headers={"Cache-Control": "max-age=60"}), 0)
    True
    >>> is_shared(Response(headers={"Cache-Control": "private", "CDN-Cache-Control": "max-age=60"}), 0)
    True
    """
    if _permissions(response):
        return True
    control = response.cache_control
    if control.public or control.s_maxage is not None:
        return True
    if "private" in control or "no-store" in control or "no-cache" in control:
        return False
    if control.max_age is not None:
        return control.max_age > 0
    return response.expires is not None and response.expires > datetime.fromtimestamp(now, timezone.utc)


def keep_from_shared(response: Response) -> Response:
    """Have no shared cache keep a response, whatever its headers have said, and return the response.

    >>> keep_from_shared(Response(headers={"Cache-Control": "public, max-age=60"})).headers["Cache-Control"]
    'max-age=60, private'
    """
    control = response.cache_control
    control.private, control.public, control.s_maxage = True, False, None
    for name in _permissions(response):
        del response.headers[name]
    return response


def is_kept_from_shared(response: Response) -> bool:
    """Whether the headers of a response forbid that a shared cache keeps it."""
    control = response.cache_control
    return ("private" in control or "no-store" in control) and not _permissions(response)


def _permissions(response: Response) -> set[str]:
    """The names of the headers by which shared caches may keep a response, whatever its ``Cache-Control`` says."""
    return {name for name, value in response.headers if _is_for_shared_caches(name) and not _forbids(value)}


def _is_for_shared_caches(name: str) -> bool:
    """Whether a header speaks to shared caches alone, which then ignore ``Cache-Control``.

    ``CDN-Cache-Control`` (RFC 9213) also has a name for each CDN, such as ``Cloudflare-CDN-Cache-Control``.
    """
    name = name.lower()
    return name in ("surrogate-control", "x-accel-expires") or name.endswith("cdn-cache-control")


def _forbids(value: str) -> bool:
    """Whether the value of such a header says that the response is not to be kept. nginx reads 0 and ``off``."""
    return bool({each.strip().lower() for each in value.split(",")} & {"no-store", "private", "0", "off"})
