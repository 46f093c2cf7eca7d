"""Publishing changes of SQLAlchemy's models, once they are committed.

A change is what a flush has written: an insert, an update of columns, a delete. All changes of one row in one
transaction are one update, which is made just before the commit; ``transactions`` knows which changes are rolled back.
Statements that write many rows by themselves load no objects, so they cause no update: ``session.execute(update(…))``,
``bulk_insert_mappings``, and what the database does itself, such as ``ON DELETE CASCADE``.

No column is published that the application has not named: a row may hold the hash of a password.
"""

from __future__ import annotations

import logging
import re
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from string import Formatter
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, get_args, overload

from flask import render_template

from . import transactions
from .committed import WaitingUpdate
from .contexts import in_context
from .drafts import Draft
from .errors import InvalidUpdateError, describe
from .publishing import Delivery
from .state import MercureSSEState
from .topics import topic as make_topic

if TYPE_CHECKING:
    from .extension import MercureSSE

Change = Literal["insert", "update", "delete"]
"""What has happened to a row."""

CHANGES: Final[tuple[Change, ...]] = get_args(Change)

Model = TypeVar("Model", bound=type[Any])


class Broadcasts:
    """``mercure.broadcasts``: called with a model, or as a decorator of one, it has changes of its rows published."""

    def __init__(self, extension: MercureSSE) -> None:
        self._extension = extension

    @overload
    def __call__(
        self,
        model: Model,
        /,
        *,
        topic: Any = None,
        on: Iterable[Change] = CHANGES,
        data: Any = None,
        template: Any = None,
        private: Any = False,
        type: Any = None,
    ) -> Model: ...

    @overload
    def __call__(
        self,
        /,
        *,
        topic: Any = None,
        on: Iterable[Change] = CHANGES,
        data: Any = None,
        template: Any = None,
        private: Any = False,
        type: Any = None,
    ) -> Callable[[Model], Model]: ...

    def __call__(
        self,
        model: Any = None,
        /,
        *,
        topic: Any = None,
        on: Iterable[Change] = CHANGES,
        data: Any = None,
        template: Any = None,
        private: Any = False,
        type: Any = None,
    ) -> Any:
        """Publish each committed change of the rows of a model, and of its subclasses.

        Args:
            model: a mapped class, an abstract one or a mixin. Without it, the result is a decorator.
            topic: a text with names of attributes in braces, whose values are put in as by :meth:`MercureSSE.topic`,
                such as ``"/books/{id}"`` or ``"/shops/{shop.id}"``; a function of the object; or several of these, the
                canonical topic first. None: the object's ``__mercure_sse_topic__``.
            on: the changes that are published.
            data: what an insert or an update publishes: a tuple of names of attributes, or a function of the object.
                None: what ``__mercure_sse_data__`` of the object returns. HTML, such as an action of
                :mod:`flask_mercure_sse.turbo`, is sent as it is. A delete publishes the primary key, such as
                ``{"id": 7}``. A dict says it for each change: ``{"insert": …, "delete": …}``.
            template: the name of a template to publish instead, or a dict of them. It has the object as ``item`` and
                under the name of its class, such as ``book`` or ``order_line``, and ``change``.
            private: as in :meth:`MercureSSE.publish`, or a function of the object.
            type: the type of the event, or a dict of them. None: that of the data's class (:meth:`MercureSSE.event`),
                else the change, so ``"insert"``, ``"update"`` or ``"delete"``; ``""``: none, as ``onmessage`` of an
                ``EventSource`` needs; True: the topic.

        A second call with the same model and the same topic takes the place of the first.

        Raises:
            TypeError: ``model`` is no class.
            ValueError: an argument cannot be used; the message names it and says what to write.

        >>> from flask import Flask
        >>> from flask_mercure_sse import MercureSSE
        >>> from sqlalchemy import Column, Integer, Text, create_engine
        >>> from sqlalchemy.orm import DeclarativeBase, Session
        >>> class Base(DeclarativeBase):
        ...     pass
        >>> mercure = MercureSSE(Flask(__name__))
        >>> @mercure.broadcasts(topic="/books/{id}", data=("id", "title"))
        ... class Book(Base):
        ...     __tablename__ = "books"
        ...     id = Column(Integer, primary_key=True)
        ...     title = Column(Text)
        >>> engine = create_engine("sqlite://")
        >>> Base.metadata.create_all(engine)
        >>> with Session(engine) as session, mercure.capture() as updates:
        ...     session.add(Book(title="Walden"))
        ...     session.commit()
        >>> updates[0].topic, updates[0].type, updates[0].data
        ('/books/1', 'insert', '{"id": 1, "title": "Walden"}')
        """
        changes: frozenset[Any] = frozenset([on] if isinstance(on, str) else on)
        options = _Options(topic, changes, data, template, private, type)

        def register(model: Any) -> Any:
            _register(self._extension, model, options)
            return model

        return register if model is None else register(model)


@dataclass(frozen=True, repr=False)
class _Options:
    """The arguments of one call, checked."""

    topic: Any
    on: frozenset[Change]
    data: Any
    template: Any
    private: Any
    type: Any

    def __post_init__(self) -> None:
        """Raises ValueError: an argument cannot be used."""
        if not self.on or self.on - set(CHANGES):
            raise ValueError('broadcasts: on: write some of "insert", "update" and "delete"')
        if self.data is not None and self.template is not None:
            raise ValueError("broadcasts: give data or template, and not both: a dict says what each change publishes")
        for each in self.topics:
            if not isinstance(each, str) and not callable(each):
                raise ValueError("broadcasts: topic: write a text or a function of the object")
            if isinstance(each, str):
                names = _names(each)
                if any(not _NAME.fullmatch(name) for name in names):
                    raise ValueError('broadcasts: topic: write names of attributes in braces, such as "/books/{id}"')
                make_topic(each, **dict.fromkeys(names, "x"))
        for name in ("data", "template", "type"):
            given = getattr(self, name)
            if isinstance(given, Mapping) and set(given) - set(CHANGES):
                raise ValueError(f'broadcasts: {name}: a dict has "insert", "update" and "delete" as keys')
        for change in self.on:
            data, template = self.of_change("data", change), self.of_change("template", change)
            if not (data is None or callable(data) or _is_names(data)):
                raise ValueError(
                    'broadcasts: data: write a tuple of names of attributes, such as ("id", "title"), or a function'
                )
            if not (template is None or isinstance(template, str)):
                raise ValueError("broadcasts: template: write the name of a template")

    @property
    def topics(self) -> tuple[Any, ...]:
        """The topics, canonical first; none: the object has its own."""
        if self.topic is None:
            return ()
        return tuple(self.topic) if isinstance(self.topic, (list, tuple)) else (self.topic,)

    def of_change(self, name: Literal["data", "template", "type"], change: Change) -> Any:
        """An argument, as it is for one change."""
        given = getattr(self, name)
        if isinstance(given, Mapping):
            return given.get(change)
        # What a new row shows is nothing that a deleted row could.
        return None if change == "delete" and name in ("data", "template") else given


_NAME: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def _names(template: str) -> list[str]:
    return [name for _, name, _, _ in Formatter().parse(template) if name is not None]


def _is_names(data: Any) -> bool:
    return isinstance(data, (tuple, list)) and all(isinstance(each, str) for each in data)


_KEPT: Final = "_flask_mercure_sse_broadcasts"
"""The attribute of a model that has its broadcasts. Each class has its own, so that subclasses do not share it."""


def _register(extension: MercureSSE, model: Any, options: _Options) -> None:
    from sqlalchemy import event, inspect

    if not isinstance(model, type):
        raise TypeError(f"broadcasts: give a model, a class, and not a {type(model).__name__}")
    shown = [change for change in ("insert", "update") if change in options.on]
    for change in shown:
        if options.of_change("data", change) is None and options.of_change("template", change) is None:
            if hasattr(model, "__mercure_sse_data__"):
                continue
            raise ValueError(
                f"broadcasts({model.__name__}): say what an {change} publishes, with data, template or "
                "__mercure_sse_data__: not all columns are for everybody"
            )
    if not options.topics and not hasattr(model, "__mercure_sse_topic__"):
        raise ValueError(f"broadcasts({model.__name__}): give a topic, or let the model have __mercure_sse_topic__")
    broadcast = _Broadcast(extension, model, options)
    kept: list[_Broadcast] | None = vars(model).get(_KEPT)
    if kept is not None:
        kept[:] = [each for each in kept if each.is_alive and not each.is_replaced_by(broadcast)]
        kept.append(broadcast)
        return
    kept = [broadcast]
    setattr(model, _KEPT, kept)
    noted = f"{_KEPT}: {model.__module__}.{model.__qualname__}"
    transactions.listen()
    _listen_for_bulk_statements()

    def after_insert(_mapper: Any, _connection: Any, item: Any) -> None:
        _record(kept, "insert", item)

    # SQLAlchemy also sends the events of updates for an object of which no column has changed.
    def before_update(_mapper: Any, _connection: Any, item: Any) -> None:
        # Afterwards, a value that the database has computed is no change any more, but a value to be loaded.
        inspect(item).info[noted] = _is_modified(item)

    def after_update(_mapper: Any, _connection: Any, item: Any) -> None:
        # A listener after this one may have changed the object, too.
        if inspect(item).info.pop(noted, False) or _is_modified(item):
            _record(kept, "update", item)

    def before_delete(_mapper: Any, _connection: Any, item: Any) -> None:
        # Once the row is gone, nothing can be loaded any more.
        _record(kept, "delete", item)

    for listener in (after_insert, before_update, after_update, before_delete):
        event.listen(model, listener.__name__, listener, propagate=True)


@cache
def _listen_for_bulk_statements() -> None:
    from sqlalchemy import event
    from sqlalchemy.orm import Session

    event.listen(Session, "do_orm_execute", _warn_of_bulk_statement)


def _warn_of_bulk_statement(executed: Any) -> None:
    """In debug mode: warn of a statement that writes rows of a broadcast model without objects, so without updates."""
    if not (executed.is_insert or executed.is_update or executed.is_delete) or executed.bind_mapper is None:
        return
    for model in executed.bind_mapper.class_.__mro__:
        for broadcast in vars(model).get(_KEPT, ()):
            state = broadcast.state
            if state is not None and state.app.debug:
                state.warn_once(
                    f"bulk statement: {model.__name__}",
                    f"a statement writes rows of {model.__name__} without their objects, so broadcasts() publishes "
                    "nothing: change objects of the session, or publish what has changed with after_commit=",
                )


def _session(item: Any) -> Any:
    from sqlalchemy.orm import object_session

    return object_session(item)


def _is_modified(item: Any) -> bool:
    session = _session(item)
    return session is not None and session.is_modified(item, include_collections=False)


def _record(broadcasts: list[_Broadcast], change: Change, item: Any) -> None:
    session = _session(item)
    for broadcast in broadcasts:
        state = broadcast.state
        if session is not None and state is not None:
            waiting = _WaitingChange(broadcast, state, change, item)
            if change == "delete":
                waiting.take()
            transactions.after_commit(session, waiting)


class _Broadcast:
    """One call of ``broadcasts`` with one model."""

    def __init__(self, extension: MercureSSE, model: type[Any], options: _Options) -> None:
        # A model outlives the application of a test: it must not keep the application alive.
        self._extension = weakref.ref(extension)
        self.model, self.options = model, options

    @property
    def is_alive(self) -> bool:
        return self._extension() is not None

    @property
    def state(self) -> MercureSSEState | None:
        """The state of the current application. None: there is no application to publish with."""
        extension = self._extension()
        if extension is None:
            return None
        if extension.app is None:
            _warn_of_no_application(self.model.__name__)
            return None
        return extension.state

    def is_replaced_by(self, other: _Broadcast) -> bool:
        return self._extension() is other._extension() and self._place == other._place

    @property
    def _place(self) -> tuple[Any, ...]:
        # A function that is defined in another one is another object at each call.
        return tuple(getattr(each, "__code__", each) for each in self.options.topics)

    def draft(self, state: MercureSSEState, change: Change, item: Any) -> Draft:
        """What a change publishes. Functions of the application are called, and what they raise is passed on.

        Raises:
            InvalidUpdateError: a value cannot stand in a topic, or the update breaks a rule.
        """
        options = self.options
        type = options.of_change("type", change)

        def ask() -> tuple[Any, Any, Any]:
            private = options.private(item) if callable(options.private) else options.private
            return private, self._topics(item), self._data(change, item)

        private, topics, data = in_context(state.app, ask)
        if type is None:
            type = state.events.name_of(data) or change
        return Draft(topics, data, private, type=type, events=state.typed_events)

    def _topics(self, item: Any) -> Any:
        topics: list[Any] = []
        for each in self.options.topics:
            if callable(each):
                found = each(item)
                topics += found if isinstance(found, (list, tuple)) else [found]
                continue
            values = {name: attrgetter(name)(item) for name in _names(each)}
            try:
                topics.append(make_topic(each, **values))
            except ValueError as error:
                raise InvalidUpdateError(f"broadcasts({type(item).__name__}): {error}") from None
        return topics or item

    def _data(self, change: Change, item: Any) -> Any:
        template, data = self.options.of_change("template", change), self.options.of_change("data", change)
        if template is not None:
            names = {"item": item, _snake_case(type(item).__name__): item, "change": change}
            return render_template(template, **names)
        if callable(data):
            made = data(item)
            return str(made.__html__()) if hasattr(made, "__html__") else made
        if data is not None:
            return {name: getattr(item, name) for name in data}
        return _primary_key(item) if change == "delete" else item


@cache
def _warn_of_no_application(model: str) -> None:
    logging.getLogger(__package__).warning(
        "changes of %s are not published in this process: there is no application, call init_app(app)", model
    )


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _primary_key(item: Any) -> dict[str, Any]:
    from sqlalchemy import inspect

    mapper = inspect(item).mapper
    names = [mapper.get_property_by_column(column).key for column in mapper.primary_key]
    return {name: getattr(item, name) for name in names}


class _WaitingChange:
    """A change that waits for a commit: see :class:`flask_mercure_sse.transactions.Waiting`."""

    def __init__(self, broadcast: _Broadcast, state: MercureSSEState, change: Change, item: Any) -> None:
        from sqlalchemy import inspect

        self._broadcast, self._state, self._change, self._item = broadcast, state, change, item
        self._update: WaitingUpdate | None = None
        self._is_gone = False
        # Not the object: a row may be deleted and inserted again, by another one.
        self.subject = (broadcast, inspect(item).mapper.identity_key_from_instance(item))

    @property
    def _is_wanted(self) -> bool:
        return self._change in self._broadcast.options.on

    @property
    def is_taken(self) -> bool:
        return self._update is not None or self._is_gone or not self._is_wanted

    def take(self) -> None:
        from sqlalchemy import inspect

        # A bulk statement has deleted the row since: there is nothing to show.
        self._is_gone = self._change != "delete" and inspect(self._item).was_deleted
        if not self.is_taken:
            draft = self._broadcast.draft(self._state, self._change, self._item)
            update = WaitingUpdate(Delivery.from_arguments(self._state, None, None), draft)
            update.take()
            self._update = update

    def merged_into(self, later: _WaitingChange) -> _WaitingChange | None:
        if later._change == "delete":
            return None if self._change == "insert" else later
        change = self._change if self._change != "delete" else "update"
        if change == later._change:
            return later
        return _WaitingChange(later._broadcast, later._state, change, later._item)

    def publish(self, failed: set[str]) -> None:
        if not self.is_taken:
            try:
                self.take()
            except Exception as error:
                self._state.app.logger.error(
                    "a change of %s was not published after the commit: %s", type(self._item).__name__, describe(error)
                )
        if self._update is not None:
            self._update.publish(failed)
