"""Publishing when an SQLAlchemy session commits. Only this module and ``models`` import SQLAlchemy, when they are first
used.

An update belongs to the transaction that is open when it is published. An update of a savepoint is dropped if the
savepoint is rolled back, and passed on to the enclosing transaction when the savepoint is released.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import cache
from typing import Any, Final, Protocol

_KEY: Final = "flask_mercure_sse"


class Waiting(Protocol):
    """An update that waits for a commit."""

    @property
    def is_taken(self) -> bool:
        """Whether it is known what is published."""

    def take(self) -> None:
        """Take what is published, from objects as they are now. What it raises stops the commit."""

    @property
    def subject(self) -> Any:
        """What can be hashed and stands for what the update tells of, if several updates of one transaction about it
        become one. None: the update stays as it is."""

    def merged_into(self, later: Any) -> Waiting | None:
        """The one update in place of this one and of a later one with the same subject. None: nothing is published."""

    def publish(self, failed: set[str]) -> None:
        """Publish the update. Must not raise an Exception, because the commit has happened.

        Args:
            failed: the hubs that have failed during this commit, to which the update's own hub is added if it fails.
        """


INTERRUPTED: Final = "interrupted"
"""Is among the failed hubs if an exception has interrupted sending: no further update of this commit is sent to any
hub."""


class _Pending:
    """The updates that wait for the transactions of one session."""

    def __init__(self) -> None:
        self.updates: dict[Any, list[Waiting]] = {}
        """The updates of each transaction that has some.

        Each flush ends a transaction, so its end costs nothing if it has no updates."""
        self.committed: list[Any] = []
        self.is_committing = False
        """Whether the outermost transaction is about to commit: what a flush brings from now on is taken at once."""

    @property
    def untaken(self) -> list[Waiting]:
        return [waiting for own in self.updates.values() for waiting in own if not waiting.is_taken]

    def add(self, transaction: Any, *updates: Waiting) -> None:
        self.updates.setdefault(transaction, []).extend(updates)

    def settle(self) -> None:
        """Merge the updates about the same subject and take all updates, just before the commit of all of them."""
        self._merge()
        for waiting in self.untaken:
            waiting.take()

    def _merge(self) -> None:
        merged: dict[Any, tuple[Any, Waiting]] = {}
        each = ((transaction, waiting) for transaction, own in self.updates.items() for waiting in own)
        for number, (transaction, waiting) in enumerate(each):
            subject = number if waiting.subject is None else waiting.subject
            earlier = merged.get(subject)
            one = waiting if earlier is None else earlier[1].merged_into(waiting)
            if one is None:
                del merged[subject]
            else:
                merged[subject] = (transaction, one)
        # The order of the transactions stays.
        self.updates = {transaction: [] for transaction in self.updates}
        for transaction, one in merged.values():
            self.add(transaction, one)


def after_commit(session: Any, waiting: Waiting) -> None:
    """Publish an update once the session's transaction has been committed, and never if that is rolled back or closed.

    What is published is taken just before the commit, after a flush.

    Args:
        session: a ``Session``, a ``scoped_session`` (also that of Flask-SQLAlchemy) or an ``AsyncSession``.

    Raises:
        TypeError: ``session`` is no session of SQLAlchemy.
    """
    try:
        from sqlalchemy.orm import Session, scoped_session
    except ImportError:
        raise TypeError("after_commit: give a session of SQLAlchemy, which is not installed") from None
    if isinstance(session, scoped_session) or hasattr(session, "registry"):
        session = session()
    session = getattr(session, "sync_session", session)
    if not isinstance(session, Session):
        raise TypeError(f"after_commit: give a session of SQLAlchemy, not a {type(session).__name__}")
    listen()
    # Without a transaction, the update would wait for the next transaction of the session.
    transaction = session.get_nested_transaction() or session.get_transaction() or session.begin()
    pending: _Pending = session.info.setdefault(_KEY, _Pending())
    if any(each is transaction for each in pending.committed):
        # A listener of the commit publishes.
        waiting.take()
    pending.add(transaction, waiting)


def prepare() -> None:
    """Begin to listen, if SQLAlchemy has been imported: it takes no listener while it sends an event."""
    if "sqlalchemy.orm" in sys.modules:
        listen()


@cache
def listen() -> None:
    """Listen to all sessions, before all other listeners: one that raises hides the event from the listeners after
    it."""
    from sqlalchemy import event
    from sqlalchemy.orm import Session

    event.listen(Session, "before_commit", _before_commit, insert=True)
    event.listen(Session, "after_flush_postexec", _after_flush, insert=True)
    event.listen(Session, "after_commit", _on_commit, insert=True)
    event.listen(Session, "after_transaction_end", _on_end, insert=True)


# SQLAlchemy sends the events for savepoints, too.
def _before_commit(session: Any) -> None:
    if session.get_nested_transaction() is not None:
        return
    pending: _Pending = session.info.setdefault(_KEY, _Pending())
    if pending.untaken:
        # New rows get their ids.
        session.flush()
        pending.settle()
    # The commit itself flushes next. Before that, other listeners may change rows.
    pending.is_committing = True


def _after_flush(session: Any, _: Any) -> None:
    pending: _Pending | None = session.info.get(_KEY)
    if pending is not None and pending.is_committing:
        pending.settle()


def _on_commit(session: Any) -> None:
    # Noted even if there is no update yet: a later listener of this event may publish one.
    pending: _Pending = session.info.setdefault(_KEY, _Pending())
    nested = session.get_nested_transaction()
    pending.committed.append(nested or session.get_transaction())
    if nested is None and pending.untaken:
        # A savepoint was still open when the commit began. What rows have loaded can be read now, and not later; an
        # update that cannot be taken says why when it is published.
        with suppress(Exception):
            pending.settle()


def _on_end(session: Any, transaction: Any) -> None:
    pending: _Pending | None = session.info.get(_KEY)
    if pending is None:
        return
    is_committed = any(each is transaction for each in pending.committed)
    # A transaction that joins its parent without a savepoint commits and rolls back with its parent.
    is_part = transaction.parent is not None and not transaction.nested
    pending.committed = [each for each in pending.committed if each is not transaction]
    if transaction.parent is None:
        pending.is_committing = False
    own = pending.updates.pop(transaction, None)
    if own is None:
        return
    if (is_committed and transaction.parent is not None) or is_part:
        pending.add(transaction.parent, *own)
    elif is_committed:
        _publish_all(own)


def _publish_all(updates: list[Waiting]) -> None:
    failed: set[str] = set()
    interruption: BaseException | None = None
    for waiting in updates:
        try:
            waiting.publish(failed)
        except BaseException as error:
            # No further update is sent, and each remaining one is still logged.
            interruption = interruption or error
            failed.add(INTERRUPTED)
    if interruption is not None:
        raise interruption
