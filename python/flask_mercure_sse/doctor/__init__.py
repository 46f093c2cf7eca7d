"""``flask mercure doctor``: looks at the configuration of an application and at its running site, and says what will
not work and what to change.

It changes nothing. What it publishes is private and on a topic of its own. Each file checks one thing;
:func:`examine` puts them in order.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from flask import Flask
from werkzeug.exceptions import HTTPException

from ..state import MercureSSEState
from ..values import HUB_PATH
from . import address, cookie, elsewhere, hub, keys, machine, origins, server
from .finding import Finding, Level
from .site import Progress, Site
from .wire import origin_of

__all__ = ["Finding", "Level", "Options", "examine"]


@dataclass(frozen=True)
class Options:
    """What the command was told."""

    url: str | None = None
    """The site as browsers see it: its URL, or the URL of its hub."""
    origins: tuple[str, ...] = ()
    """Origins of pages that use the hub, besides the site's own."""
    server: str | None = None
    """The command that starts the WSGI server."""
    streams: int = 500
    """How many streams are expected."""
    seconds: float = 20.0
    """How long a silent stream is held. More than the default keep-alive of 15 s."""
    directory: Path = field(default_factory=Path.cwd)
    """Where the server is started."""


def examine(state: MercureSSEState, options: Options, progress: Progress = lambda seconds: None) -> Iterator[Finding]:
    """Check everything that can be checked, and yield what was found, in this order: the application, its server, the
    hub, the site.

    Args:
        progress: called while a stream is held.
    """
    with _quiet(state.app):
        try:
            yield from _examine(state, options, progress)
        except HTTPException as refusal:
            yield Finding(
                "problem",
                "host",
                f"the application refuses requests for the host of {options.url}: {refusal.description}",
                "add the host to TRUSTED_HOSTS, or correct the URL",
            )


def _examine(state: MercureSSEState, options: Options, progress: Progress) -> Iterator[Finding]:
    yield hub.check(state)
    processes = 1
    if state.embedded.is_used:
        found, unreadable = None, None
        try:
            found = server.find(options.server, os.environ, options.directory)
        except server.UnreadableError as error:
            unreadable = str(error)
        processes = found.processes if found is not None else 1
        yield from server.check(found, unreadable)
        yield from hub.check_log(state, processes)
    yield from keys.check(state, processes)
    if state.embedded.is_used:
        files = machine.check_open_files(processes, options.streams)
        if files is not None:
            yield files
    else:
        yield from elsewhere.check(state)
    hosts = address.check_hosts(state)
    if hosts is not None:
        yield hosts
    page, public = _addresses(state, options.url)
    # An embedded hub has the origin of its application.
    for each in [page] if page is not None else () if state.embedded.is_used else options.origins:
        yield cookie.check(state, each)
    for origin in options.origins:
        own = public or _own_url(state)
        yield origins.check(state, own, origin, in_process=options.url is None and state.embedded.is_used)
    if options.url is not None and public is not None:
        yield from Site(state, public, options.seconds, progress).check()


def _addresses(state: MercureSSEState, url: str | None) -> tuple[str | None, str | None]:
    """The origin of the application's pages, and the URL of the hub in them. None: not known."""
    if url is not None:
        page, path = origin_of(url), urlsplit(url).path
        return (page, page + path) if path.endswith(HUB_PATH) else (page, cookie.hub_of(state, page))
    name = state.app.config.get("SERVER_NAME")
    if not name:
        return None, None
    page = f"{state.app.config['PREFERRED_URL_SCHEME']}://{name}"
    return page, cookie.hub_of(state, page)


def _own_url(state: MercureSSEState) -> str:
    """The URL of the hub where the site's URL is not known."""
    return "http://localhost" + HUB_PATH if state.embedded.is_used else state.settings.external_url


@contextmanager
def _quiet(app: Flask) -> Iterator[None]:
    """Leave out of the application's log what the report says."""

    def is_error(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    app.logger.addFilter(is_error)
    try:
        yield
    finally:
        app.logger.removeFilter(is_error)
