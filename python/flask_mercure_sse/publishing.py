"""Where updates go, now or with a commit: into a test's list, to the embedded hub, into a queue, to a hub elsewhere."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from . import client, transactions
from ._native import HubFailed, HubStopped, InvalidUpdate, LogFull, LogUnavailable, NoRoom
from .client import check_token
from .errors import HubError, InvalidUpdateError, MercureError, describe, from_native, may_pass
from .settings import check_url

if TYPE_CHECKING:
    from .settings import MercureSSEState
    from .update import Update


@dataclass(frozen=True, repr=False)
class Delivery:
    """The way of the updates of one call."""

    state: MercureSSEState
    url: str | None
    """None: the embedded hub."""
    jwt: str | None
    background: bool

    @classmethod
    def of(
        cls, state: MercureSSEState, jwt: str | None, hub_url: str | None, background: bool | None = None
    ) -> Delivery:
        """From what ``publish`` takes.

        Raises:
            TokenRefusedError: ``jwt`` is no token.
            InvalidUpdateError: ``hub_url`` is no URL.
        """
        try:
            url = check_url("hub_url", hub_url)
        except ValueError as error:
            raise InvalidUpdateError(str(error)) from None
        if url is None and not state.is_embedded:
            url = state.external_url
        return cls(
            state,
            url,
            check_token(jwt) if jwt else None,
            state.publish_background if background is None else background,
        )

    @property
    def waits(self) -> bool:
        """Whether sending waits for a hub elsewhere, or for the log of the embedded one."""
        is_elsewhere = self.url is not None or self.state.shared_transport is not None
        return is_elsewhere and not self.background and not self.state.captures

    def send(self, update: Update, background: bool | None = None) -> str:
        """Send an update and return its id.

        Raises:
            MercureError: the hub did not take it.
        """
        if self.state.captures:
            update = update.with_id()
            self.state.captures[-1].append(update)
            return str(update.id)
        if self.url is None and self.state.shared_transport is None:
            return self._append(update)
        if not (self.background if background is None else background):
            return self._append(update) if self.url is None else self._post(self.url, update)
        update = update.with_id()
        send = partial(self._append, update) if self.url is None else partial(self._post, self.url, update)
        self.state.queues.put(self.url or "", send, topic=update.topic)
        return str(update.id)

    def send_with(self, session: Any, update: Update) -> str:
        """Send it once the session commits; its id."""
        update = update.with_id()
        transactions.after_commit(session, partial(self._send_after_commit, update))
        return str(update.id)

    def _send_after_commit(self, update: Update, failed: set[str]) -> None:
        log, hub = self.state.app.logger, self.url or ""
        if hub in failed or transactions.INTERRUPTED in failed:
            # A commit waits for a hub that is away once, not once for each update.
            log.error(
                "the update on topic %r was dropped after the commit: the hub failed the one before", update.topic
            )
            return
        try:
            # In an event loop nothing may wait: an AsyncSession commits there.
            self.send(update, background=True if _is_in_event_loop() else None)
        except Exception as error:
            if isinstance(error, MercureError) and may_pass(error):
                failed.add(hub)
            reason = describe(error)
            log.error("the update on topic %r was not published after the commit: %s", update.topic, reason)
        except BaseException as error:
            # A time-out of gevent or the end of the process: the caller of commit() gets it.
            reason = describe(error)
            log.error("the update on topic %r may not have been published after the commit: %s", update.topic, reason)
            raise

    def _append(self, update: Update) -> str:
        """To the embedded hub."""
        try:
            hub, arguments = self.state.running_hub(), update.arguments()
            if self.state.shared_transport is None or not client.is_cooperative():
                return hub.publish(**arguments)
            return _outcome(socket.socket(fileno=hub.submit(**arguments)))
        except (InvalidUpdate, OSError, RuntimeError) as error:
            raise from_native(error) from None

    def _post(self, url: str, update: Update) -> str:
        token = self.jwt or self.state.publisher_jwt
        if not token:
            raise MercureError(
                "publishing needs a token: set MERCURE_PUBLISHER_JWT, MERCURE_PUBLISHER_SECRET_KEY or SECRET_KEY"
            )
        form, timeouts = "application/x-www-form-urlencoded", self.state.timeouts
        answer = client.request("POST", url, token=token, body=update.form(), content_type=form, timeouts=timeouts)
        answer.raise_for_status()
        return _event_id(answer)


def _outcome(waiting: socket.socket) -> str:
    """The id that an update has got. Waiting for it leaves other greenlets alone.

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


def _event_id(answer: client.Answer) -> str:
    """The id that a hub answers: one line of text. A page of whatever stands in front of a hub is none."""
    text = answer.body.decode(errors="replace").strip()
    if not text or "<" in text or "\n" in text or "\ufffd" in text:
        problem = "the answer holds no id: the update may not have been published; is MERCURE_HUB_URL right?"
        raise HubError(problem, status=answer.status)
    return text


def _is_in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
