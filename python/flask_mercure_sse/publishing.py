"""The way of an update to a hub: into the list of a test, to the embedded hub, into a queue, or over HTTP to a hub
elsewhere."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from ._native import HubFailed, HubStopped, InvalidUpdate, LogFull, LogUnavailable, NoRoom
from .errors import HubError, HubUnreachableError, InvalidUpdateError, MercureError, from_native
from .greenlets import is_cooperative
from .http.answer import Answer, request
from .settings import NAME_A_HUB, NO_HUB_NAMED
from .state import MercureSSEState
from .tokens import check_token
from .update import Update
from .values import check_url


@contextmanager
def capture(state: MercureSSEState) -> Iterator[list[Update]]:
    """See :meth:`flask_mercure_sse.MercureSSE.capture`."""
    updates: list[Update] = []
    state.captures.append(updates)
    try:
        yield updates
    finally:
        state.captures[:] = [each for each in state.captures if each is not updates]


@dataclass(frozen=True, repr=False)
class Delivery:
    """Where the updates of one call go."""

    state: MercureSSEState
    url: str | None
    """The URL of a hub elsewhere; None: the embedded hub."""
    jwt: str | None
    """The token for a hub elsewhere; None: the application's."""
    background: bool
    """Whether updates wait in a queue, so that the caller does not wait for the hub."""
    is_default: bool = False
    """Whether ``url`` is the default, because neither an argument nor a setting names a hub."""

    @classmethod
    def from_arguments(
        cls, state: MercureSSEState, jwt: str | None, hub_url: str | None, background: bool | None = None
    ) -> Delivery:
        """From the arguments of ``publish``. background: None: MERCURE_PUBLISH_BACKGROUND.

        Raises:
            TokenRefusedError: ``jwt`` is no token.
            InvalidUpdateError: ``hub_url`` is no URL.
        """
        try:
            url = check_url("hub_url", hub_url)
        except ValueError as error:
            raise InvalidUpdateError(str(error)) from None
        is_elsewhere = url is None and not state.embedded.is_used
        is_default = is_elsewhere and not state.settings.names_hub
        if is_elsewhere:
            url = state.settings.external_url
        in_background = state.settings.publish_background if background is None else background
        return cls(state, url, check_token(jwt) if jwt else None, in_background, is_default)

    @property
    def waits(self) -> bool:
        """Whether sending waits for a hub elsewhere, or for the log of the embedded hub."""
        return not self.is_immediate and not self.background and not self.state.captures

    @property
    def is_immediate(self) -> bool:
        """Whether sending appends to a log in memory."""
        return self.url is None and self.state.embedded.shared_transport is None

    def send(self, update: Update, background: bool | None = None) -> str:
        """Send an update and return its id. background: instead of the delivery's own.

        Raises:
            MercureError: the update was not published, or perhaps not; the subclass says so.
        """
        if self.state.captures:
            update = update.with_id()
            self.state.captures[-1].append(update)
            return str(update.id)
        if self.is_immediate or not (self.background if background is None else background):
            return self._count(update)
        update = update.with_id()
        self.state.queues.put(self.url or "", partial(self._send_now, update), topic=update.topic)
        return str(update.id)

    def _count(self, update: Update) -> str:
        """Send an update and count the outcome. The background queues count for themselves."""
        try:
            published = self._send_now(update)
        except MercureError:
            self.state.counters.add("failed")
            raise
        self.state.counters.add("published")
        return published

    def _send_now(self, update: Update) -> str:
        return self._append(update) if self.url is None else self._post(self.url, update)

    def _append(self, update: Update) -> str:
        """Publish on the embedded hub."""
        embedded = self.state.embedded
        try:
            hub, arguments = embedded.running(), update.arguments()
            if embedded.shared_transport is None or not is_cooperative():
                return hub.publish(**arguments)
            return _outcome(socket.socket(fileno=hub.submit(**arguments)))
        except (InvalidUpdate, OSError, RuntimeError) as error:
            raise from_native(error) from None

    def _post(self, url: str, update: Update) -> str:
        """Publish on a hub elsewhere."""
        token = self.jwt or self.state.authorization.publisher_jwt
        if not token:
            needs = "publishing needs a token: set MERCURE_PUBLISHER_JWT, MERCURE_PUBLISHER_SECRET_KEY or SECRET_KEY"
            raise MercureError(f"{needs} ({_no_hub_named(url)})" if self.is_default else needs)
        form, timeouts = "application/x-www-form-urlencoded", self.state.settings.timeouts
        try:
            answer = request("POST", url, token=token, body=update.form(), content_type=form, timeouts=timeouts)
        except HubUnreachableError as error:
            if not self.is_default:
                raise
            raise type(error)(f"{error} ({_no_hub_named(url)})") from error
        answer.raise_for_status()
        return _event_id(answer)


def _no_hub_named(url: str) -> str:
    return f"{NO_HUB_NAMED}, so the one at {urlsplit(url).netloc} is used: {NAME_A_HUB}"


def _outcome(waiting: socket.socket) -> str:
    """The id of an update that was handed to ``Hub.submit``. Under gevent, other greenlets run while it is waited for.

    Raises:
        OSError, RuntimeError: as ``Hub.publish``.
        HubError: the hub ended without an answer, so the update may or may not have been published.
    """
    waiting.setblocking(True)
    try:
        with waiting, waiting.makefile("rb") as answer:
            outcome, _, text = answer.read().decode().partition(" ")
    except OSError as error:
        outcome, text = "", f": {error}"
    if outcome == "ok":
        return text
    failure = _FAILURES.get(outcome)
    if failure is None:
        raise HubError(f"the embedded hub did not say whether the update was published{text}")
    raise failure(text)


_FAILURES: Final = {each.__name__: each for each in (HubFailed, HubStopped, LogFull, LogUnavailable, NoRoom)}


def _event_id(answer: Answer) -> str:
    """The id that a hub answers: one line of text. The page of a server in front of the hub is none."""
    text = answer.body.decode(errors="replace").strip()
    if not text or "<" in text or "\n" in text or "\ufffd" in text:
        raise answer.error("the answer holds no id: the update may not have been published; is MERCURE_HUB_URL right?")
    return text
