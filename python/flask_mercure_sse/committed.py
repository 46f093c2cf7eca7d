"""Publishing once a session commits.

Plain values are taken when the application publishes. An object or a function is asked just before the commit, when
everything is flushed: a new row has its id then.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from . import transactions
from .drafts import Draft, numbered
from .errors import MercureError, describe, may_pass
from .publishing import Delivery
from .update import Update


def publish(delivery: Delivery, session: Any, draft: Draft) -> str:
    """Publish an update once the session commits, and return its id now.

    Raises:
        TypeError: ``session`` is no session of SQLAlchemy, or the topic is none.
        InvalidUpdateError: what is known of the update breaks a rule.
    """
    return _register(session, WaitingUpdate(delivery, draft))


def publish_all(delivery: Delivery, session: Any, drafts: Iterable[Draft]) -> list[str]:
    """The same with several updates, which are all checked first."""
    waiting = numbered(drafts, lambda draft: WaitingUpdate(delivery, draft))
    return [_register(session, each) for each in waiting]


def _register(session: Any, waiting: WaitingUpdate) -> str:
    transactions.after_commit(session, waiting)
    return waiting.id


class WaitingUpdate:
    """An update that waits for a commit.

    Raises:
        InvalidUpdateError, TypeError: what is known of the update breaks a rule.
    """

    subject = None
    """It is never merged with another."""

    def __init__(self, delivery: Delivery, draft: Draft) -> None:
        self._delivery, self._draft = delivery, draft.with_id()
        self._update: Update | None = None
        if self._draft.is_final:
            self._update = self._draft.update()
        else:
            self._draft.check()
        self.id = str(self._update.id if self._update else self._draft.id)

    @property
    def is_taken(self) -> bool:
        return self._update is not None

    def take(self) -> None:
        """Ask the object or the function for topic and data."""
        if self._update is None:
            self._update = self._draft.update()

    def merged_into(self, later: Any) -> Any:
        return later

    def publish(self, failed: set[str]) -> None:
        log, hub = self._delivery.state.app.logger, self._delivery.url or ""
        try:
            self.take()
        except Exception as error:
            log.error("an update was not published after the commit: %s", describe(error))
        if self._update is None:
            return
        update, topic = self._update, self._update.topic
        if transactions.INTERRUPTED in failed:
            log.error("the update on topic %r was dropped after the commit: the one before was interrupted", topic)
            return
        if hub in failed:
            self._postpone(update)
            return
        try:
            # An AsyncSession commits in the thread of the event loop, which must not wait.
            self._delivery.send(update, background=True if _is_in_event_loop() else None)
        except Exception as error:
            reason = describe(error)
            if isinstance(error, MercureError) and may_pass(error):
                # A commit waits for an unavailable hub once, not once for each update.
                failed.add(hub)
                if self._is_sent_again:
                    log.warning(
                        "the update on topic %r is sent again in the background, after the commit: %s", topic, reason
                    )
                    self._delivery.send(update, background=True)
                    return
            log.error("the update on topic %r was not published after the commit: %s", topic, reason)
        except BaseException as error:
            # A time-out of gevent, or the end of the process: the caller of commit() receives it.
            reason = describe(error)
            log.error("the update on topic %r may not have been published after the commit: %s", topic, reason)
            raise

    @property
    def _is_sent_again(self) -> bool:
        """Whether an update that may pass later waits in a queue. A hub with its log in memory has none."""
        return self._delivery.state.settings.after_commit_retry and not self._delivery.is_immediate

    def _postpone(self, update: Update) -> None:
        """Handle an update of a commit in which the hub has failed the one before."""
        if self._is_sent_again:
            # Behind that update, so that the order stays.
            self._delivery.send(update, background=True)
            return
        self._delivery.state.app.logger.error(
            "the update on topic %r was dropped after the commit: the hub failed the one before", update.topic
        )


def _is_in_event_loop() -> bool:
    # Importing it takes long, and there is no loop before somebody else has done so.
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
