"""Events with a type: classes that say what the data of an event is.

The class of the data says the type of the event. In debug and testing mode, the data is compared with the annotations
of the class before it is published. Outside of these modes nothing is compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Flask

from .errors import InvalidUpdateError
from .topics import as_topic, is_function
from .update import Update

if TYPE_CHECKING:
    # Imported when a class is registered: no module of the package takes longer, and most applications register none.
    from .shapes import Record, Shapes

EventClass = TypeVar("EventClass", bound=type[Any])


class Events:
    """The events of one extension."""

    def __init__(self) -> None:
        self._classes: dict[str, type[Any]] = {}
        self._names: dict[type[Any], str] = {}
        self._shapes: Shapes | None = None
        """None: no class is registered."""

    def register(self, name: str, python: EventClass) -> EventClass:
        """Have a class say what the data of the events of one type is.

        Raises:
            TypeError: it is no dataclass, TypedDict or pydantic model, or a field has no form in JSON.
            ValueError: the name is no type of an event, or another class has it, or the class has another.
        """
        from .shapes import Shapes, Unsupported, is_record, qualified

        if not is_record(python):
            raise TypeError(f"event({name!r}): give a dataclass, a TypedDict or a pydantic model")
        if not name or not isinstance(name, str):
            raise ValueError("event: write the type of the event, a text")
        Update(("topic",), type=name)
        before, other = self._classes.get(name), self._names.get(python, name)
        if before is not None and qualified(before) != qualified(python):
            raise ValueError(f"event({name!r}): {qualified(before)} has this type already")
        if other != name:
            raise ValueError(f"event({name!r}): {qualified(python)} has the type {other!r} already")
        if before is not None:
            # A module that is loaded again, or a function that makes the class.
            del self._names[before]
        self._classes[name], self._names[python] = python, name
        self._shapes = Shapes(
            {name: each for each in self._names for name in (each.__name__, f"{each.__module__}.{each.__name__}")}
        )
        try:
            self._shapes.read(python)
        except NameError:
            # It names a class that is defined later.
            pass
        except Unsupported:
            del self._classes[name], self._names[python]
            raise
        return python

    def shapes(self) -> dict[str, Record]:
        """The shape of each event, by its type.

        Raises:
            Unsupported: an annotation has no form in JSON, or names a class that is not there.
        """
        return {name: self._shape(python) for name, python in sorted(self._classes.items())}

    def _shape(self, python: type[Any]) -> Record:
        from .shapes import Unsupported

        assert self._shapes is not None, "a class is registered"
        try:
            return self._shapes.read(python)
        except NameError as error:
            raise Unsupported(
                f"{python.__name__}: an annotation names {error.name!r}, which {python.__module__} does not define. "
                "A class that is defined inside of a function: move it to the module."
            ) from None

    def name_of(self, data: Any) -> str | None:
        """The type of the event whose data it is. None: the class of the data says none."""
        for python in type(data).__mro__:
            if python in self._names:
                return self._names[python]
        return None

    def of_application(self, app: Flask) -> Resolve | None:
        """What fills in the arguments of ``publish`` in an application. None: there are no events with a type."""
        if not self._names:
            return None
        is_checked = app.debug or app.testing
        return lambda topic, data, type: self._resolve(topic, data, type, is_checked)

    def _resolve(self, topic: Any, data: Any, type: Any, is_checked: bool) -> tuple[Any, Any, Any]:
        from .shapes import WrongValue, as_json_value

        while is_function(data):
            data = data()
        subject = topic if data is None else data
        own = self.name_of(subject)
        # TypedDicts are dicts, so only the type says which is meant.
        is_named = isinstance(type, str) and type in self._classes
        name, type = own or (type if is_named else None), own if type is None else type
        # An object may say itself what is published.
        is_written = any(hasattr(subject, each) for each in ("__mercure_sse__", "__mercure_sse_data__"))
        if name is None or is_written or isinstance(data, (str, bytes, bytearray)):
            return topic, data, type
        if data is None and own is None:
            if is_checked:
                raise InvalidUpdateError(
                    f"event {name!r}: expected {self._classes[name].__name__}, and there is no data"
                )
            return topic, data, type
        if is_checked:
            try:
                self._shape(self._classes[name]).check(subject, "")
            except WrongValue as error:
                raise InvalidUpdateError(f"event {name!r}: {error}") from None
        if data is None:
            topic = as_topic(topic) if hasattr(topic, "__mercure_sse_topic__") else topic.__class__.__name__
        return topic, as_json_value(subject), type


Resolve = Callable[[Any, Any, Any], tuple[Any, Any, Any]]
"""Takes topic, data and type as the application gave them, and returns them as they are published.

Raises:
    InvalidUpdateError: the data is not what the event says. Only in debug and testing mode.
"""
