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
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from itertools import zip_longest
from operator import attrgetter
from string import Formatter
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, get_args, overload

from flask import render_template

from . import rows, transactions
from .changes import Places, WaitingChange
from .contexts import in_context
from .drafts import Draft
from .errors import InvalidUpdateError
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
            TypeError: ``model`` is no class, or SQLAlchemy is not installed.
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
    if not isinstance(model, type):
        raise TypeError(f"broadcasts: give a model, a class, and not a {type(model).__name__}")
    try:
        from sqlalchemy import event, inspect
    except ImportError:
        raise TypeError("broadcasts: give a model of SQLAlchemy, which is not installed") from None
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
    broadcast = Broadcast(extension, model, options)
    kept: list[Broadcast] | None = vars(model).get(_KEPT)
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
    def before_update(_mapper: Any, connection: Any, item: Any) -> None:
        # Afterwards, a value that the database has computed is no change any more, but a value to be loaded.
        was = [each.places_before(item, connection) for each in kept] if _is_modified(item) else None
        inspect(item).info[noted] = was

    def after_update(_mapper: Any, _connection: Any, item: Any) -> None:
        # A listener after this one may have changed the object, too.
        was = inspect(item).info.pop(noted, None)
        if was is not None or _is_modified(item):
            _record(kept, "update", item, was=was)

    def before_delete(_mapper: Any, connection: Any, item: Any) -> None:
        # Once the row is gone, nothing can be loaded any more.
        _record(kept, "delete", item, connection)

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


def _record(
    broadcasts: list[Broadcast],
    change: Change,
    item: Any,
    connection: Any = None,
    was: list[Places | None] | None = None,
) -> None:
    session = _session(item)
    for each, places in zip_longest(broadcasts, was or ()):
        state = each.state
        if session is not None and state is not None:
            waiting = WaitingChange(each, state, change, item, places)
            if change == "delete":
                waiting.take_delete(connection)
            transactions.after_commit(session, waiting)


class Broadcast:
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

    def is_replaced_by(self, other: Broadcast) -> bool:
        return self._extension() is other._extension() and self._place == other._place

    @property
    def _place(self) -> tuple[Any, ...]:
        return tuple(map(_identity, self.options.topics))

    @property
    def _texts(self) -> list[str]:
        return [each for each in self.options.topics if isinstance(each, str)]

    def places_before(self, item: Any, connection: Any) -> Places | None:
        """Where the row was before the changes that are not flushed yet. None: where it is now, or nobody knows: a
        function would have to be asked about the row that is no more."""
        topics, state = self._texts, self.state
        if not topics or "delete" not in self.options.on or state is None:
            return None
        if not rows.is_changed(item, _roots(topics)):
            return None
        with rows.stored(item, connection) as old:
            if old is None:
                return None
            try:
                found = in_context(state.app, lambda: tuple(self._filled(each, old) for each in topics))
            except InvalidUpdateError:
                # There was no topic yet, such as that of a book without a shop.
                return None
            return Places(found, rows.primary_key(old))

    def left(self, state: MercureSSEState, item: Any, was: Places) -> list[str]:
        """The topics on which the row is no more. With another primary key it is another row."""
        if was.key != rows.primary_key(item):
            return list(was.topics)
        topics = in_context(state.app, partial(self._topics, item))
        return [each for each in was.topics if each not in topics]

    def topics_of_delete(self, item: Any, connection: Any) -> Any:
        """The topics of a row that is deleted: those of the row, if changes of the object are not flushed yet."""
        if rows.is_changed(item, _roots(self._texts)):
            with rows.stored(item, connection) as old:
                return self._topics(item, old)
        return self._topics(item)

    def draft(
        self,
        state: MercureSSEState,
        change: Change,
        item: Any,
        topics: Callable[[], Any] | None = None,
        key: Mapping[str, Any] | None = None,
    ) -> Draft:
        """What a change publishes. Functions of the application are called, and what they raise is passed on.

        Args:
            topics: what to ask for the topics. None: the object as it is now.
            key: the primary key of a deleted row. None: that of the object.

        Raises:
            InvalidUpdateError: a value cannot stand in a topic, or the update breaks a rule.
        """
        options = self.options
        type = options.of_change("type", change)

        def ask() -> tuple[Any, Any, Any]:
            private = options.private(item) if callable(options.private) else options.private
            return private, (topics or partial(self._topics, item))(), self._data(change, item, key)

        private, found, data = in_context(state.app, ask)
        if type is None:
            type = state.events.name_of(data) or change
        return Draft(found, data, private, type=type, events=state.typed_events)

    def _topics(self, item: Any, old: Any = None) -> Any:
        topics: list[Any] = []
        for each in self.options.topics:
            if callable(each):
                found = each(item)
                topics += found if isinstance(found, (list, tuple)) else [found]
            else:
                topics.append(self._filled(each, item if old is None else old))
        return topics or item

    def _filled(self, template: str, item: Any) -> str:
        values = {name: self._read(item, name, "topic", f"{{{name}}}") for name in _names(template)}
        try:
            return make_topic(template, **values)
        except ValueError as error:
            raise InvalidUpdateError(f"broadcasts({type(item).__name__}): {error}") from None

    def _data(self, change: Change, item: Any, key: Mapping[str, Any] | None) -> Any:
        template, data = self.options.of_change("template", change), self.options.of_change("data", change)
        if template is not None:
            names = {"item": item, _snake_case(type(item).__name__): item, "change": change}
            return render_template(template, **names)
        if callable(data):
            made = data(item)
            return str(made.__html__()) if hasattr(made, "__html__") else made
        if data is not None:
            return {name: self._read(item, name, "data", repr(name)) for name in data}
        return (key or rows.primary_key(item)) if change == "delete" else item

    def _read(self, item: Any, name: str, argument: str, shown: str) -> Any:
        """The value of an attribute, or of one of a related object.

        Raises:
            InvalidUpdateError: there is no such attribute or no related object.
        """
        try:
            return attrgetter(name)(item)
        except AttributeError as error:
            raise InvalidUpdateError(
                f"broadcasts({type(item).__name__}): {argument}: {shown} cannot be read: {error}: write another name, "
                "give the object what is missing, or write a function of the object"
            ) from error


def _roots(topics: Iterable[str]) -> set[str]:
    """The attributes of the object itself that topics name: ``shop`` of ``"/shops/{shop.id}"``."""
    return {name.partition(".")[0] for each in topics for name in _names(each)}


def _identity(topic: Any) -> Any:
    """What tells a topic from another one. A function that is defined in another one is another object at each call, so
    its code stands for it, with the plain values that it was defined with."""
    code = getattr(topic, "__code__", None)
    if code is None:
        return topic
    given = [*(topic.__defaults__ or ()), *(topic.__kwdefaults__ or {}).values()]
    for cell in topic.__closure__ or ():
        # A variable may be set later.
        with suppress(ValueError):
            given.append(cell.cell_contents)
    return (code, *[each for each in given if isinstance(each, _PLAIN)])


_PLAIN: Final = (str, bytes, int, float, type(None))


@cache
def _warn_of_no_application(model: str) -> None:
    logging.getLogger(__package__).warning(
        "changes of %s are not published in this process: there is no application, call init_app(app)", model
    )


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
