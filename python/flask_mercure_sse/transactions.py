"""Publishing when an SQLAlchemy session commits. SQLAlchemy is imported here, when it is first used, and nowhere else.

An update belongs to the transaction that is open when it is published. With a savepoint it is dropped when that is
rolled back, and passed on to the enclosing transaction when that is released.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

_KEY: Final = "flask_mercure_sse"

_Pending = list[tuple[Any, Callable[[], None]]]


def after_commit(session: Any, publish: Callable[[], None]) -> None:
    """Call ``publish`` once the session's transaction has been committed; never, if it is rolled back or closed.

    Args:
        session: a ``Session``, a ``scoped_session`` (also that of Flask-SQLAlchemy) or an ``AsyncSession``.
        publish: must not raise: the commit has happened.

    Raises:
        TypeError: it is no session of SQLAlchemy.
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
    # An update without a transaction would wait for whatever the session does next.
    transaction = session.get_nested_transaction() or session.get_transaction() or session.begin()
    pending: _Pending | None = session.info.get(_KEY)
    if pending is None:
        pending = session.info[_KEY] = []
        _listen(session, pending)
    pending.append((transaction, publish))


def _listen(session: Any, pending: _Pending) -> None:
    from sqlalchemy import event

    committed: list[Any] = []

    # Both events come for savepoints, too.
    def on_commit(session: Any) -> None:
        committed.append(session.get_nested_transaction() or session.get_transaction())

    def on_end(_session: Any, transaction: Any) -> None:
        is_committed = any(each is transaction for each in committed)
        # What joins the session's transaction without a savepoint of its own stands and falls with it.
        is_part = transaction.parent is not None and not transaction.nested
        committed[:] = [each for each in committed if each is not transaction]
        own = [publish for each, publish in pending if each is transaction]
        if (is_committed and transaction.parent is not None) or is_part:
            pending[:] = [(transaction.parent if each is transaction else each, publish) for each, publish in pending]
            return
        pending[:] = [(each, publish) for each, publish in pending if each is not transaction]
        if is_committed:
            for publish in own:
                publish()

    event.listen(session, "after_commit", on_commit)
    event.listen(session, "after_transaction_end", on_end)
