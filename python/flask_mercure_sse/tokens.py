"""The claims of tokens, in both dialects of the protocol."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from flask import json

from ._native import sign_token
from .topics import Selector, URLPattern, as_topics

DETAIL_TYPE: Final = "https://mercure.rocks/authorization-detail"


def sign_legacy(key: str | bytes, grants: Mapping[str, Any], ttl: int) -> str:
    """A 0.x token: the claim "mercure", and "exp" unless ``ttl`` is 0.

    Raises:
        ValueError: a topic is a URL pattern, which 0.x does not know.
    """
    claim = dict(grants)
    for action in ("publish", "subscribe"):
        if claim.get(action) is not None:
            claim[action] = [check_dialect(topic, "0.x") for topic in as_topics(claim[action])]
    expiry = {"exp": int(time.time()) + ttl} if ttl else {}
    return sign_token(json.dumps({"mercure": claim, **expiry}), key)


def sign(key: str | bytes, grants: Mapping[str, Any], ttl: int, *, audience: str, issuer: str | None = None) -> str:
    """A 1.0 access token: a JWT as RFC 9068 has it, with ``authorization_details`` (RFC 9396).

    Args:
        audience: the hub's resource identifier.
        issuer: who the hub knows the key to be of; by default the origin of the audience.

    Raises:
        ValueError: a token that would never expire, or something else than "publish", "subscribe" and "payload".
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
    return sign_token(json.dumps(claims), key, "at+jwt")


def check_dialect(topic: str, protocol: str) -> str:
    """Return the topic, if the dialect has selectors of its kind.

    Raises:
        ValueError: a URL pattern in 0.x; a URI template or a prefix in 1.0.
    """
    if protocol == "0.x" and isinstance(topic, URLPattern):
        raise ValueError("URL patterns need protocol 1.0: set MERCURE_PROTOCOL, or write a URI template")
    if protocol == "1.0" and isinstance(topic, Selector) and topic != "*":
        raise ValueError("protocol 1.0 has no URI templates and no prefixes: write a URLPattern")
    return topic


def matchers(topics: Iterable[str]) -> list[dict[str, str]]:
    """Topics as a token of protocol 1.0 names them. All are exact, except URL patterns, and ``*`` alone, which is every
    topic.

    >>> matchers(["a", URLPattern("/books/:id")])
    [{'match': 'a'}, {'match': '/books/:id', 'match_type': 'urlpattern'}]
    """
    return [
        {"match": str(topic), "match_type": "urlpattern"} if isinstance(topic, URLPattern) else {"match": topic}
        for topic in (check_dialect(each, "1.0") for each in topics)
    ]
