"""Which hub the application uses, and where its log is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from .. import host_log
from ..errors import from_native
from ..settings import NAME_A_HUB, NO_HUB_NAMED
from ..state import MercureSSEState
from .finding import Finding


def check(state: MercureSSEState) -> Finding:
    """Say which hub is used and why."""
    settings, embedded, app = state.settings, state.embedded, state.app
    if app.testing:
        return Finding(
            "warning",
            "hub",
            "the application is in testing mode, so this is not what it uses in production",
            "run this command with the configuration of production",
        )
    if not embedded.is_used:
        if settings.names_hub:
            return Finding("ok", "hub", f"elsewhere, at {settings.external_url}")
        return Finding(
            "warning",
            "hub",
            f"elsewhere, at {settings.external_url}: the default, because {NO_HUB_NAMED}",
            NAME_A_HUB,
        )
    if settings.hub:
        return Finding("ok", "hub", "embedded in the application (MERCURE_HUB)")
    if settings.hub_transport is not None:
        return Finding("ok", "hub", "embedded in the application (MERCURE_HUB_TRANSPORT)")
    return Finding(
        "warning",
        "hub",
        f"embedded because of the debug mode; without it, the application uses a hub at {settings.external_url}",
        "set MERCURE_HUB = True if the hub is to be embedded in production, too, or MERCURE_HUB_URL",
    )


def check_log(state: MercureSSEState, processes: int) -> Iterator[Finding]:
    """Check the log of the embedded hub. Starts the hub in this process, unless that would disturb another one.

    Args:
        processes: of the server.
    """
    try:
        transport = state.embedded.shared_transport
    except ValueError as error:
        yield Finding("problem", "log", str(error), "name a directory of the user, such as host:///run/app")
        return
    scheme = (transport or "memory").partition(":")[0]
    if scheme == "memory":
        found = "in the memory of each process, so a restart loses it and each process is a hub of its own"
        change = "remove MERCURE_HUB_TRANSPORT=memory:, and the processes of this host share a log"
        if state.settings.hub_transport is None:
            change = "set MERCURE_HUB_TRANSPORT, such as host:///run/app"
            if not state.app.testing:
                found += f": {_why_in_memory(state)}"
        yield Finding("problem" if processes > 1 else "warning", "log", found, change)
        return
    assert transport is not None
    where = _without_password(transport)
    if scheme == "durable":
        if processes > 1:
            yield Finding(
                "problem",
                "log",
                f"{where} is for one process, and the server has {processes}",
                "set MERCURE_HUB_TRANSPORT = host:///DIRECTORY, redis://…, nats://… or postgres://…",
            )
        else:
            # Only one process may have it open.
            yield Finding("ok", "log", f"{where}, for one process")
        return
    began = time.monotonic()
    try:
        state.embedded.running().start()
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error) if isinstance(error, ValueError) else str(from_native(error))
        if scheme == "host":
            change = (
                "run this command as the user of the application, or name a directory that belongs to that user alone"
            )
        else:
            change = "start its server, or correct MERCURE_HUB_TRANSPORT"
        yield Finding("problem", "log", f"{where}: {reason}", change)
        return
    yield Finding("ok", "log", f"{where}, opened in {(time.monotonic() - began) * 1000:.0f} ms")


def _why_in_memory(state: MercureSSEState) -> str:
    try:
        host_log.url(state.app)
    except OSError as error:
        return str(error)
    return "its place could not be used"


def _without_password(transport: str) -> str:
    """The URL of a log without user, password and parameters.

    >>> _without_password("redis://user:secret@one:6379,two:6379/0?password=secret")
    'redis://one:6379,two:6379/0'
    """
    parts = urlsplit(transport)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" if "//" in transport else f"{parts.scheme}:{parts.path}"
