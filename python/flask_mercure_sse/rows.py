"""The row of an object as the database has it, while changes of the object are not flushed yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any


def primary_key(item: Any) -> dict[str, Any]:
    """The names and the values of the primary key."""
    return {name: getattr(item, name) for name in _key_names(item)}


def is_changed(item: Any, names: Iterable[str]) -> bool:
    """Whether the primary key or one of the columns and relationships with these names has a change that is not flushed
    yet. Other names are left out."""
    from sqlalchemy import inspect

    state = inspect(item)
    mapper, read = state.mapper, set(_key_names(item))
    for name in names:
        if name in mapper.relationships:
            columns = mapper.relationships[name].local_columns
            read |= {mapper.get_property_by_column(column).key for column in columns}
        read.add(name)
    return any(name in state.attrs and state.attrs[name].history.has_changes() for name in read)


@contextmanager
def stored(item: Any, connection: Any) -> Iterator[Any]:
    """Another object with what the database has of this one: one SELECT. None: there is no such row.

    It can load its related objects until the end of the block, so they are as before, too. The object itself may not
    know its old values: SQLAlchemy does not load a value that is only set.
    """
    from sqlalchemy import inspect
    from sqlalchemy.orm import Session

    # This mode leaves the transaction of the connection open.
    with Session(connection, autoflush=False, join_transaction_mode="rollback_only") as session:
        yield session.get(type(item), inspect(item).identity)


def is_gone(item: Any) -> bool:
    """Whether the row of an object of a session has been deleted by a statement or by another program: one SELECT."""
    from sqlalchemy import inspect
    from sqlalchemy.exc import InvalidRequestError

    state = inspect(item)
    try:
        state.session.refresh(item, _key_names(item))
    except InvalidRequestError:
        return True
    return False


def _key_names(item: Any) -> list[str]:
    from sqlalchemy import inspect

    mapper = inspect(item).mapper
    return [mapper.get_property_by_column(column).key for column in mapper.primary_key]
