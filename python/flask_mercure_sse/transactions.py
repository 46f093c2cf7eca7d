"""Publishing when an SQLAlchemy session commits. Only this module imports SQLAlchemy, when it is first used.

An update belongs to the transaction that is open when it is published. An update of a savepoint is dropped if the
savepoint is rolled back, and passed on to the enclosing transaction when the savepoint is released.
"""

from __future__ import annotations

import sys
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
        self.updates: list[tuple[Any, Waiting]] = []
        self.committed: list[Any] = []


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
    _listen()
    # Without a transaction, the update would wait for the next transaction of the session.
    transaction = session.get_nested_transaction() or session.get_transaction() or session.begin()
    pending: _Pending = session.info.setdefault(_KEY, _Pending())
    if any(each is transaction for each in pending.committed):
        # A listener of the commit publishes.
        waiting.take()
    pending.updates.append((transaction, waiting))


def prepare() -> None:
    """Begin to listen, if SQLAlchemy has been imported: it takes no listener while it sends an event."""
    if "sqlalchemy.orm" in sys.modules:
        _listen()


@cache
def _listen() -> None:
    """Listen to all sessions, before all other listeners: one that raises hides the event from the listeners after
    it."""
    from sqlalchemy import event
    from sqlalchemy.orm import Session

    event.listen(Session, "before_commit", _before_commit, insert=True)
    event.listen(Session, "after_commit", _on_commit, insert=True)
    event.listen(Session, "after_transaction_end", _on_end, insert=True)


# SQLAlchemy sends the events for savepoints, too.
def _before_commit(session: Any) -> None:
    pending: _Pending | None = session.info.get(_KEY)
    if pending is None or session.get_nested_transaction() is not None:
        return
    untaken = [waiting for _, waiting in pending.updates if not waiting.is_taken]
    if untaken:
        # New rows get their ids.
        session.flush()
        for waiting in untaken:
            waiting.take()


def _on_commit(session: Any) -> None:
    # Noted even if there is no update yet: a later listener of this event may publish one.
    pending: _Pending = session.info.setdefault(_KEY, _Pending())
    pending.committed.append(session.get_nested_transaction() or session.get_transaction())


def _on_end(session: Any, transaction: Any) -> None:
    pending: _Pending | None = session.info.get(_KEY)
    if pending is None:
        return
    is_committed = any(each is transaction for each in pending.committed)
    # A transaction that joins its parent without a savepoint commits and rolls back with its parent.
    is_part = transaction.parent is not None and not transaction.nested
    pending.committed = [each for each in pending.committed if each is not transaction]
    if (is_committed and transaction.parent is not None) or is_part:
        pending.updates = [
            (transaction.parent if each is transaction else each, waiting) for each, waiting in pending.updates
        ]
        return
    own = [waiting for each, waiting in pending.updates if each is transaction]
    pending.updates = [(each, waiting) for each, waiting in pending.updates if each is not transaction]
    if is_committed:
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
