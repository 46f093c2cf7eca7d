"""A hub elsewhere: whether it can be reached, takes the application's tokens, which dialects it speaks, and who else
reads along."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Final
from urllib.parse import quote

from ..errors import MercureError
from ..state import MercureSSEState
from ..values import is_absolute
from . import clock, plain
from .finding import Finding
from .trial import Trial, reason
from .wire import PATIENCE, OpenStream

_PARAMETERS: Final = {"0.x": "topic", "1.0": "match"}


def check(state: MercureSSEState) -> Iterator[Finding]:
    """Subscribe in both dialects, and publish to itself, without the proxy of browsers."""
    hub, trial = state.settings.external_url, Trial.new(state)
    spoken: dict[str, int] = {}
    dates = []
    for dialect, parameter in _PARAMETERS.items():
        # Without a token: the dialect of a token must be that of its request.
        try:
            with OpenStream(f"{hub}?{parameter}={quote(trial.topic, safe='')}", {}) as stream:
                head = stream.head()
        except (OSError, http.client.HTTPException) as error:
            yield Finding(
                "problem",
                "hub elsewhere",
                f"no answer from {hub}: {error or type(error).__name__}",
                "start the hub, or correct MERCURE_HUB_URL",
            )
            return
        if head is None:
            yield Finding("problem", "hub elsewhere", f"no answer from {hub} within {PATIENCE:g} s", "is it a hub?")
            return
        spoken[dialect] = head.status
        dates.append(head.get("Date"))
    yield _dialects(state, hub, spoken)
    yield from _encryption(state)
    anonymous = _anonymous(state, hub, spoken)
    if anonymous is not None:
        yield anonymous
    found = clock.check(dates[0], datetime.now(timezone.utc))
    if found is not None:
        yield found
    # A hub that asks for a token refuses a request without one before it looks at the dialect.
    yield _round_trip(hub, trial, _dialect_advice(state) if spoken[state.settings.protocol] == 401 else "")


def _dialects(state: MercureSSEState, hub: str, spoken: dict[str, int]) -> Finding:
    # A hub refuses parameters of a dialect that it does not speak. If it asks for a token, it may refuse all alike.
    known = [dialect for dialect, status in spoken.items() if status in (200, 401)]
    own = state.settings.protocol
    if spoken[own] == 200:
        return Finding("ok", "hub elsewhere", f"{hub} speaks {' and '.join(known)}; everybody may subscribe")
    if spoken[own] == 401:
        return Finding("ok", "hub elsewhere", f"{hub} answers; subscribers need a token, which is tried next")
    if not known:
        return Finding(
            "problem",
            "hub elsewhere",
            f"{hub} answers {spoken[own]}, so it is no hub",
            "correct MERCURE_HUB_URL",
        )
    change = "set MERCURE_PROTOCOL = " + repr(known[0])
    if own == "0.x":
        change += ", or start petasos with --compat"
    return Finding("problem", "hub elsewhere", f"{hub} speaks {known[0]}, and the application {own}", change)


def _encryption(state: MercureSSEState) -> Iterator[Finding]:
    settings = state.settings
    public = settings.public_hub_url if is_absolute(settings.public_hub_url) else None
    for setting, url in (("MERCURE_HUB_URL", settings.external_url), ("MERCURE_PUBLIC_HUB_URL", public)):
        found = plain.check(setting, str(url)) if url else None
        if found is not None:
            yield found


def _anonymous(state: MercureSSEState, hub: str, spoken: dict[str, int]) -> Finding | None:
    """An application that grants topics to users has updates that not everybody may read."""
    if spoken[state.settings.protocol] != 200 or state.users is None or state.users.topics is None:
        return None
    return Finding(
        "warning",
        "anonymous",
        f"{hub} needs no token to subscribe, and this application grants topics to users (user_topics): everybody can "
        "read each of their updates that is not published with private=True",
        "publish them with private=True. If no page needs updates without a token, start petasos without --anonymous, "
        "or the hub in Python with --no-allow-anonymous",
    )


def _of_1_0(state: MercureSSEState) -> str:
    """What else a hub compares in protocol 1.0."""
    if state.settings.protocol == "0.x":
        return ""
    return f"; tokens are for {state.authorization.audience} (MERCURE_JWT_AUDIENCE): the hub must have that identifier"


def _dialect_advice(state: MercureSSEState) -> str:
    """What else to change after a refused token, if the hub may not speak the application's dialect."""
    if state.settings.protocol == "0.x":
        return (
            "; if the key is the same, the hub takes no tokens of 0.x: start petasos with --compat, or set "
            "MERCURE_PROTOCOL = '1.0'"
        )
    return "; or the hub takes tokens of 0.x only: set MERCURE_PROTOCOL = '0.x'"


def _round_trip(hub: str, trial: Trial, dialect_advice: str) -> Finding:
    """
    Args:
        dialect_advice: what a refused subscriber may have to change besides the key.
    """
    name = "round trip"
    try:
        with OpenStream(trial.url(hub), trial.headers()) as stream:
            head = stream.head()
            if head is not None and head.status in (401, 403):
                return Finding(
                    "problem",
                    name,
                    f"the hub refuses the application's subscribers ({head.status})",
                    "give both the same key: MERCURE_SUBSCRIBER_SECRET_KEY here, and the hub's subscriber key"
                    + _of_1_0(trial.state)
                    + dialect_advice,
                )
            if head is None or head.status != 200:
                status = "no answer" if head is None else f"the answer is {head.status}"
                return Finding("problem", name, f"no stream: {status}", "look into the log of the hub")
            event_id = trial.publish("flask mercure doctor")
            if stream.wait_for(event_id.encode(), PATIENCE):
                kind = "a private update" if trial.token else "an update"
                return Finding("ok", name, f"{kind} was published and has arrived")
    except (MercureError, ValueError) as error:
        return Finding(
            "problem",
            name,
            f"nothing can be published: {reason(error)}",
            "give both the same key: MERCURE_PUBLISHER_SECRET_KEY here, and the hub's publisher key; or a "
            "MERCURE_PUBLISHER_JWT for every topic",
        )
    except (OSError, http.client.HTTPException) as error:
        return Finding("problem", name, f"the connection broke: {type(error).__name__}", "look into the log of the hub")
    return Finding("problem", name, "an update was published and does not arrive", "look into the log of the hub")
