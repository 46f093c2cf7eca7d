"""The keys and tokens of the application: whether there are any, and how good they are. No value is shown."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Final

from ..authorization import SOON
from ..keys import Role
from ..state import MercureSSEState
from ..tokens import expiry
from ..values import weakness
from .finding import Finding


def check(state: MercureSSEState, processes: int) -> Iterator[Finding]:
    """Check the keys of both roles, the publisher's token and the lifetime of tokens.

    Args:
        processes: of the server.
    """
    settings: dict[str, list[Role]] = {}
    for role in _ROLES:
        settings.setdefault(state.keys.setting(role), []).append(role)
    for setting, roles in settings.items():
        yield _key(state, setting, roles, processes)
    token = state.authorization.given_publisher_jwt
    if token and not state.embedded.is_used:
        yield _publisher_jwt(token)
    if state.settings.jwt_ttl == 0:
        yield Finding(
            "warning",
            "tokens",
            "MERCURE_JWT_TTL is 0: a token that somebody has copied is valid for ever",
            "set a number of seconds, such as 86400",
        )


_ROLES: Final[tuple[Role, Role]] = ("subscriber", "publisher")


def _key(state: MercureSSEState, setting: str, roles: list[Role], processes: int) -> Finding:
    name, purpose = "keys", f"signs the tokens of {' and '.join(f'{role}s' for role in roles)}"
    try:
        key = state.keys.find(roles[0])
    except ValueError as error:
        return Finding("problem", name, f"the hub does not take {setting}", str(error))
    if not key:
        several = processes > 1 and state.embedded.is_used
        found = f"{setting} is not set, so there are no tokens of {' and '.join(f'{role}s' for role in roles)}"
        change = "set SECRET_KEY to the output of: openssl rand -hex 32"
        if roles == ["publisher"] and state.authorization.given_publisher_jwt:
            return Finding("ok", name, f"{setting} is not set; MERCURE_PUBLISHER_JWT publishes")
        return Finding("problem" if several or not state.embedded.is_used else "warning", name, found, change)
    reason = weakness(key)
    if reason is not None:
        return Finding("warning", name, f"{setting} {purpose} and is weak", reason)
    return Finding("ok", name, f"{setting} {purpose}")


def _publisher_jwt(token: str) -> Finding:
    end = expiry(token)
    if end is None:
        return Finding("ok", "publisher's token", "MERCURE_PUBLISHER_JWT does not expire")
    left = end - datetime.now(timezone.utc)
    change = 'make another: "flask mercure publisher-jwt", or "petasos token mint" with the keys of the hub'
    if left.total_seconds() <= 0:
        return Finding(
            "problem", "publisher's token", f"MERCURE_PUBLISHER_JWT has expired at {end.isoformat()}", change
        )
    ends_soon = Finding("warning", "publisher's token", f"MERCURE_PUBLISHER_JWT ends at {end.isoformat()}", change)
    return ends_soon if left <= SOON else Finding("ok", "publisher's token", f"valid until {end.isoformat()}")
