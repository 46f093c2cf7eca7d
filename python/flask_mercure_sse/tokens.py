"""Tokens: their form, and their claims in both dialects of the protocol. No settings, no keys."""

from __future__ import annotations

import base64
import re
import time
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from typing import Any, Final
from urllib.parse import urlsplit

from flask import json

from ._native import sign_token
from .errors import TokenRefusedError
from .topics import Selector, URLPattern, as_topics

DETAIL_TYPE: Final = "https://mercure.rocks/authorization-detail"
"""The type of an authorization detail (RFC 9396) that a hub reads."""


class UnusableKeyError(ValueError):
    """A key cannot sign tokens: it is a public key."""


def check_token(token: Any) -> str:
    """A token as a header takes it, without the line end of the file that it was read from.

    >>> check_token("j.w.t\\n")
    'j.w.t'

    Raises:
        TokenRefusedError: it is no token, and no hub would take it. The message does not quote it.
    """
    stripped = token.strip() if isinstance(token, str) else ""
    if not _TOKEN.fullmatch(stripped):
        raise TokenRefusedError("jwt: write a token: letters, digits, dots, dashes and underscores; it was not sent")
    return stripped


_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""RFC 6750, section 2.1."""


def expiry(token: str) -> datetime | None:
    """When a token expires, as it says itself. Nothing is verified. None: it does not say.

    >>> expiry("eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjE3MDkyMDgwMDB9.c2lnbmF0dXJl")
    datetime.datetime(2024, 2, 29, 12, 0, tzinfo=datetime.timezone.utc)
    """
    try:
        return datetime.fromtimestamp(_part(token, 1)["exp"], timezone.utc)
    except (LookupError, TypeError, ValueError, OverflowError, OSError):
        return None


def why_refused(token: str) -> str:
    """Why a hub may have refused a token, as far as the token itself tells. Nothing is verified.

    >>> why_refused("eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjE3MDkyMDgwMDB9.c2lnbmF0dXJl")
    'the token has expired at 2024-02-29T12:00:00+00:00'
    """
    end = expiry(token)
    if end is not None and end <= datetime.now(timezone.utc):
        return f"the token has expired at {end.isoformat()}"
    header, claims = _part(token, 0), _part(token, 1)
    is_access_token = str(header.get("typ")).lower() in ("at+jwt", "application/at+jwt")
    if "authorization_details" in claims:
        if not is_access_token:
            return "the token has the claims of protocol 1.0, and its typ is not at+jwt"
        return (
            "the key, the issuer or the audience is not the hub's (MERCURE_JWT_ISSUER, MERCURE_JWT_AUDIENCE), or the "
            "hub takes no tokens of protocol 1.0 (MERCURE_PROTOCOL)"
        )
    if "mercure" in claims:
        if is_access_token:
            return "the token has the claim of protocol 0.x, and the typ of 1.0 (at+jwt)"
        return (
            "the key is not the hub's, or the hub takes no tokens of protocol 0.x (petasos takes them with --compat; "
            "MERCURE_PROTOCOL)"
        )
    return 'the token has neither the claim of protocol 0.x ("mercure") nor that of 1.0 ("authorization_details")'


def _part(token: str, index: int) -> dict[str, Any]:
    """The header (0) or the claims (1) of a token; empty if it has none that can be read."""
    try:
        part = token.split(".")[index]
        read = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, LookupError):
        return {}
    return read if isinstance(read, dict) else {}


def sign_legacy(key: str | bytes, grants: Mapping[str, Any], ttl: int) -> str:
    """Sign a token of protocol 0.x: the claim "mercure", and "exp" unless ``ttl``, in seconds, is 0.

    Raises:
        UnusableKeyError: the key is a public key.
        ValueError: a topic is a URL pattern, which 0.x does not have.
    """
    claim = dict(grants)
    for action in ("publish", "subscribe"):
        if claim.get(action) is not None:
            claim[action] = [check_dialect(topic, "0.x") for topic in as_topics(claim[action])]
    expiry = {"exp": int(time.time()) + ttl} if ttl else {}
    return _sign({"mercure": claim, **expiry}, key, "JWT")


def sign(key: str | bytes, grants: Mapping[str, Any], ttl: int, *, audience: str, issuer: str | None = None) -> str:
    """Sign an access token of protocol 1.0: a JWT (RFC 9068) with ``authorization_details`` (RFC 9396).

    Args:
        ttl: seconds until the token expires, above 0.
        audience: the hub's resource identifier.
        issuer: the issuer to which the hub has bound the key; None: the origin of the audience.

    Raises:
        UnusableKeyError: the key is a public key.
        ValueError: ``ttl`` is 0, or a grant is none of "publish", "subscribe" and "payload".
    """
    if not ttl:
        raise ValueError("tokens of protocol 1.0 expire: give a lifetime in seconds")
    payload = grants.get("payload")
    details = []
    for action, granted in grants.items():
        if action == "payload":
            continue
        if action not in ("publish", "subscribe"):
            raise ValueError(f"a token of protocol 1.0 grants publish and subscribe, not {action!r}")
        topics = as_topics(granted)
        if topics:
            detail = {"type": DETAIL_TYPE, "actions": [action], "topics": matchers(topics)}
            details.append({**detail, "payload": payload} if payload and action == "subscribe" else detail)
    origin = "{0.scheme}://{0.netloc}".format(urlsplit(audience))
    now = int(time.time())
    claims = {
        "iss": issuer or origin,
        "aud": audience,
        "sub": "flask",
        "client_id": issuer or origin,
        "iat": now,
        "exp": now + ttl,
        "jti": str(uuid.uuid4()),
        "authorization_details": details,
    }
    return _sign(claims, key, "at+jwt")


def _sign(claims: Mapping[str, Any], key: str | bytes, typ: str) -> str:
    text = json.dumps(claims)
    try:
        return sign_token(text, key, typ)
    except ValueError as error:
        # The claims are a JSON object, so the key is at fault.
        raise UnusableKeyError(str(error)) from None


def check_dialect(topic: str, protocol: str) -> str:
    """Return ``topic``, if the dialect has selectors of its kind.

    Raises:
        ValueError: a URL pattern in 0.x; a URI template or a prefix in 1.0.
    """
    if protocol == "0.x" and isinstance(topic, URLPattern):
        raise ValueError("URL patterns need protocol 1.0: set MERCURE_PROTOCOL, or write a URI template")
    if protocol == "1.0" and isinstance(topic, Selector) and topic != "*":
        raise ValueError("protocol 1.0 has no URI templates and no prefixes: write a URLPattern")
    return topic


def matchers(topics: Iterable[str]) -> list[dict[str, str]]:
    """Topics in the form of a token of protocol 1.0: exact topics, except URL patterns, and ``*`` for every topic.

    >>> matchers(["a", URLPattern("/books/:id")])
    [{'match': 'a'}, {'match': '/books/:id', 'match_type': 'urlpattern'}]
    """
    return [
        {"match": str(topic), "match_type": "urlpattern"} if isinstance(topic, URLPattern) else {"match": topic}
        for topic in (check_dialect(each, "1.0") for each in topics)
    ]
