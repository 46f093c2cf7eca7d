"""The shapes of JSON documents, read from annotations: what a dataclass, a TypedDict or a pydantic model looks like
once it is written.

A shape can be checked against a value here, and is written as TypeScript or JSON Schema in ``shape_documents``. What
JSON has no form for is refused when an annotation is read, with the name of the field. pydantic is never imported: an
application that uses it has done so.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final, Literal, Union
from uuid import UUID

Plain = str | int | float | bool | None
"""What stands in JSON by itself."""


class WrongValue(Exception):
    """A value has another shape. The text names types and never quotes the value, which may be a secret."""

    def __init__(self, path: str, expected: str, value: Any) -> None:
        kind = _kind(value)
        if kind in (each.rpartition(".")[2] for each in expected.split(" or ")):
            # Another class of the same name.
            kind = qualified(type(value))
        super().__init__(f"{path}: expected {expected}, and not {kind}")


class MissingField(WrongValue):
    """A field that should be there is not."""

    def __init__(self, path: str) -> None:
        Exception.__init__(self, f"{path} is missing")


class Shape:
    """What a value looks like."""

    def expected(self) -> str:
        """What it is called in messages."""
        raise NotImplementedError

    def check(self, value: Any, path: str) -> None:
        """Compare a value with the shape.

        Args:
            path: where the value stands, such as ``lines[0].price``.

        Raises:
            WrongValue: it, or a part of it, has another shape.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Scalar(Shape):
    """A text, a number, a truth value, or what is written as a text."""

    name: str
    python: tuple[type, ...]
    json: Literal["string", "integer", "number", "boolean"]
    format: str | None = None
    """Of JSON Schema."""

    def expected(self) -> str:
        return self.name

    def check(self, value: Any, path: str) -> None:
        is_bool_by_chance = isinstance(value, bool) and bool not in self.python
        # A checker of types lets a datetime be a date, but it is written with its time.
        is_other_date = isinstance(value, datetime) and datetime not in self.python
        if not isinstance(value, self.python) or is_bool_by_chance or is_other_date:
            raise WrongValue(path, self.expected(), value)
        if isinstance(value, float) and not math.isfinite(value):
            raise WrongValue(path, "a finite number, as JSON has no other", value)


@dataclass(frozen=True)
class Anything(Shape):
    """Whatever JSON can hold."""

    def expected(self) -> str:
        return "anything"

    def check(self, value: Any, path: str) -> None:
        pass


@dataclass(frozen=True)
class OneOf(Shape):
    """One of some constants."""

    values: tuple[Plain, ...]
    """As they are written."""
    members: tuple[Any, ...]
    """As Python has them: those of an enumeration, or the values themselves."""

    def expected(self) -> str:
        return "None" if self.values == (None,) else "one of " + ", ".join(repr(value) for value in self.values)

    def check(self, value: Any, path: str) -> None:
        # pydantic's use_enum_values keeps the value in place of the member.
        if not any(type(value) is type(each) and value == each for each in (*self.members, *self.values)):
            raise WrongValue(path, self.expected(), value)


@dataclass(frozen=True)
class ListOf(Shape):
    item: Shape
    is_tuple: bool = False

    def expected(self) -> str:
        return "a tuple" if self.is_tuple else "a list"

    def check(self, value: Any, path: str) -> None:
        # JSON has one form for both, but a list is what a checker of types allows here.
        if not isinstance(value, tuple if self.is_tuple else list):
            raise WrongValue(path, self.expected(), value)
        for number, each in enumerate(value):
            self.item.check(each, f"{path}[{number}]")


@dataclass(frozen=True)
class TupleOf(Shape):
    items: tuple[Shape, ...]

    def expected(self) -> str:
        return f"a tuple of {len(self.items)}"

    def check(self, value: Any, path: str) -> None:
        if not isinstance(value, tuple) or len(value) != len(self.items):
            raise WrongValue(path, self.expected(), value)
        for number, (shape, each) in enumerate(zip(self.items, value, strict=True)):
            shape.check(each, f"{path}[{number}]")


@dataclass(frozen=True)
class MapOf(Shape):
    item: Shape

    def expected(self) -> str:
        return "a dict"

    def check(self, value: Any, path: str) -> None:
        if not isinstance(value, Mapping):
            raise WrongValue(path, self.expected(), value)
        for key, each in value.items():
            if not isinstance(key, str):
                raise WrongValue(path, "texts as keys", key)
            self.item.check(each, f"{path}[…]")


@dataclass(frozen=True)
class AnyOf(Shape):
    options: tuple[Shape, ...]

    def expected(self) -> str:
        return " or ".join(each.expected() for each in self.options)

    def check(self, value: Any, path: str) -> None:
        nested: WrongValue | None = None
        for option in self.options:
            try:
                return option.check(value, path)
            except WrongValue as error:
                # Of the right kind, with something wrong inside: that says more than the list of all kinds.
                if not str(error).startswith(f"{path}: "):
                    nested = error
        raise nested or WrongValue(path, self.expected(), value)


@dataclass(eq=False)
class Record(Shape):
    """An object with named fields. Its fields are read after it is made, because a class may name itself."""

    name: str
    python: type[Any]
    fields: dict[str, tuple[Shape, bool]] = field(default_factory=dict)
    """Each with its shape, and whether it is always there."""

    def expected(self) -> str:
        return self.name

    def check(self, value: Any, path: str) -> None:
        inside = f"{path}." if path else ""
        if isinstance(value, Mapping):
            if is_pydantic_model(self.python):
                # Flask would write it, and dates otherwise than pydantic.
                raise WrongValue(path or self.name, f"an object of {self.name}, which pydantic writes", value)
            self._check_names(value, path)
            for key, (shape, is_required) in self.fields.items():
                if key in value:
                    shape.check(value[key], inside + key)
                elif is_required:
                    raise MissingField(inside + key)
            return
        if _is_typed_dict(self.python) or not isinstance(value, self.python):
            is_namesake = type(value).__name__ == self.name
            raise WrongValue(path or self.name, qualified(self.python) if is_namesake else self.name, value)
        # Of a subclass. Inside of another model, pydantic leaves out what a subclass adds.
        if dataclasses.is_dataclass(value):
            self._check_names((each.name for each in dataclasses.fields(value)), path)
        elif not path:
            self._check_names(_written_by_pydantic(value), path)
        for key, (shape, _) in self.fields.items():
            shape.check(getattr(value, key), inside + key)

    def _check_names(self, names: Iterable[Any], path: str) -> None:
        for name in names:
            if name not in self.fields:
                raise WrongValue(path or self.name, f"the fields of {self.name}", _UnknownField(str(name)))


@dataclass(frozen=True)
class _UnknownField:
    """A field that should not be there."""

    key: str


def _kind(value: Any) -> str:
    if isinstance(value, _UnknownField):
        return f"a field {value.key!r}"
    return "None" if value is None else type(value).__name__


_SCALARS: Final[dict[Any, Shape]] = {
    str: Scalar("str", (str,), "string"),
    bool: Scalar("bool", (bool,), "boolean"),
    int: Scalar("int", (int,), "integer"),
    # A checker of types allows an int, too.
    float: Scalar("float", (float, int), "number"),
    Decimal: Scalar("Decimal", (Decimal,), "string"),
    UUID: Scalar("UUID", (UUID,), "string", "uuid"),
    # Flask writes both as HTTP does, for which JSON Schema has no format.
    datetime: Scalar("datetime", (datetime,), "string"),
    date: Scalar("date", (date,), "string"),
    Any: Anything(),
    object: Anything(),
    None: OneOf((None,), (None,)),
    type(None): OneOf((None,), (None,)),
}

_OF_PYDANTIC: Final = {
    datetime: Scalar("datetime", (datetime,), "string", "date-time"),
    date: Scalar("date", (date,), "string", "date"),
}
"""pydantic writes both by ISO 8601."""


class Unsupported(TypeError):
    """An annotation has no form in JSON that is known here. The message names the class and the field."""


class Shapes:
    """The shapes of classes, each made once."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        self._names = names
        """Classes that annotations may name where their own module has none of the name: by name, and by module and
        name, which comes first."""
        self.records: dict[type[Any], Record] = {}

    def read(self, python: type[Any]) -> Record:
        """The shape of a dataclass, a TypedDict or a pydantic model.

        Raises:
            Unsupported: an annotation has no form in JSON.
            NameError: an annotation names a class that is not defined yet.
        """
        found = self.records.get(python)
        if found is not None:
            return found
        kept, self.records = self.records, dict(self.records)
        record = self.records[python] = Record(python.__name__, python)
        try:
            for name, annotation, is_required in self._annotations(python):
                record.fields[name] = (self._shape(annotation, f"{python.__name__}.{name}", python), is_required)
        except BaseException:
            # What this class has pulled in may refer to it.
            self.records = kept
            raise
        return record

    def _annotations(self, python: type[Any]) -> Iterator[tuple[str, Any, bool]]:
        """Name, annotation, and whether it is always there, of each field."""
        if is_pydantic_model(python):
            return self._of_pydantic(python)
        return self._of_standard_library(python)

    def _hints(self, python: type[Any]) -> dict[str, Any]:
        known = {python.__name__: python}
        while True:
            try:
                return typing.get_type_hints(python, localns=known, include_extras=True)
            except NameError as error:
                name = str(error.name)
                found = self._names.get(f"{python.__module__}.{name}", self._names.get(name))
                if found is None or name in known:
                    raise
                known[name] = found

    def _of_standard_library(self, python: type[Any]) -> Iterator[tuple[str, Any, bool]]:
        hints = self._hints(python)
        if _is_typed_dict(python):
            required: frozenset[str] = python.__required_keys__
            for name, hint in hints.items():
                mark = _mark(hint)
                if mark == "ReadOnly":
                    mark = _mark(typing.get_args(hint)[0])
                yield name, hint, mark == "Required" if mark in ("Required", "NotRequired") else name in required
        else:
            for each in dataclasses.fields(python):
                yield each.name, hints[each.name], True

    def _of_pydantic(self, python: Any) -> Iterator[tuple[str, Any, bool]]:
        if python.__pydantic_root_model__:
            raise Unsupported(f"{python.__name__}: it is written as its root, which is no object with fields")
        _refuse_serializers(python)
        # Of a generic model, pydantic alone knows what stands for its type variables.
        hints = None if python.__pydantic_complete__ else self._hints(python)
        for name, each in python.model_fields.items():
            if not each.exclude:
                yield name, each.annotation if hints is None else hints[name], True
        for name, each in python.model_computed_fields.items():
            yield name, each.return_type, True

    def _shape(self, annotation: Any, place: str, owner: type[Any]) -> Shape:
        if is_pydantic_model(owner) and annotation in (date, datetime):
            return _OF_PYDANTIC[annotation]
        try:
            if annotation in _SCALARS:
                return _SCALARS[annotation]
        except TypeError:
            # Annotated with something that has no hash.
            pass
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        if _mark(annotation) or origin is typing.Annotated:
            return self._shape(arguments[0], place, owner)
        if origin is Literal:
            return _one_of(arguments, place)
        if origin in (Union, types.UnionType):
            return AnyOf(tuple(self._shape(each, place, owner) for each in arguments))
        if annotation is list or origin is list:
            return ListOf(self._shape(arguments[0] if arguments else Any, place, owner))
        if annotation is tuple or origin is tuple:
            return self._tuple(arguments, place, owner, is_bare=origin is None)
        if annotation is dict or origin is dict:
            if arguments and arguments[0] is not str:
                raise Unsupported(f"{place}: JSON has texts as keys: write dict[str, …]")
            return MapOf(self._shape(arguments[1] if arguments else Any, place, owner))
        if isinstance(annotation, typing.NewType):
            return self._shape(annotation.__supertype__, place, owner)
        # type Name = …, from Python 3.12 on.
        if type(annotation).__name__ == "TypeAliasType" and not arguments:
            return self._shape(annotation.__value__, place, owner)
        if isinstance(annotation, type) and origin is None:
            if issubclass(annotation, Enum):
                return _one_of(tuple(annotation), place)
            if is_record(annotation):
                return self.read(annotation)
        raise Unsupported(
            f"{place}: {getattr(annotation, '__name__', None) or annotation!r} has no form in JSON that is known here: "
            "write str, int, float, bool, None, datetime, date, UUID, Decimal, an Enum, Literal, list, dict[str, …], "
            "tuple, a union of these, a dataclass, a TypedDict or a pydantic model"
        )

    def _tuple(self, arguments: tuple[Any, ...], place: str, owner: type[Any], is_bare: bool) -> Shape:
        if is_bare:
            return ListOf(Anything(), is_tuple=True)
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return ListOf(self._shape(arguments[0], place, owner), is_tuple=True)
        return TupleOf(tuple(self._shape(each, place, owner) for each in arguments if each != ()))


def _refuse_serializers(python: Any) -> None:
    """Refuse a model of pydantic whose code says how it is written: its annotations do not.

    Raises:
        Unsupported: the message names the model and, if there is one, the field.
    """
    serializers = python.__pydantic_decorators__
    has_function = {name for each in serializers.field_serializers.values() for name in each.info.fields}
    for name, each in python.model_fields.items():
        if each.exclude or not (has_function & {name, "*"} or any(map(_is_serializer, each.metadata))):
            continue
        raise Unsupported(
            f"{python.__name__}.{name}: a serializer says how it is written, which its annotation does not tell: "
            "declare the field as what is written"
        )
    if serializers.model_serializers or has_function & set(python.model_computed_fields):
        raise Unsupported(f"{python.__name__}: a serializer says how it is written, which its fields do not tell")
    config = python.model_config
    if config.get("json_encoders") or config.get("ser_json_temporal", "iso8601") != "iso8601":
        raise Unsupported(f"{python.__name__}: its model_config says how values are written, which is not known here")


def _written_by_pydantic(value: Any) -> Iterator[str]:
    yield from (name for name, each in type(value).model_fields.items() if not each.exclude)
    yield from type(value).model_computed_fields
    # Those that extra="allow" lets in.
    yield from value.model_extra or ()


def _is_serializer(metadata: Any) -> bool:
    return type(metadata).__name__ in ("PlainSerializer", "WrapSerializer")


def _one_of(members: tuple[Any, ...], place: str) -> OneOf:
    values = tuple(each.value if isinstance(each, Enum) else each for each in members)
    if not all(value is None or isinstance(value, (str, int, float)) for value in values):
        raise Unsupported(f"{place}: constants are texts, numbers, truth values or None")
    return OneOf(values, members)


def _mark(annotation: Any) -> str:
    """Which of ``Required``, ``NotRequired``, ``ReadOnly`` and ``Final`` is around an annotation, also those of
    ``typing_extensions``; else an empty text."""
    name = str(typing.get_origin(annotation)).rpartition(".")[2]
    return name if name in ("Required", "NotRequired", "ReadOnly", "Final") else ""


def qualified(python: type[Any]) -> str:
    """The name of a class with its module.

    >>> qualified(Shape)
    'flask_mercure_sse.shapes.Shape'
    """
    return f"{python.__module__}.{python.__qualname__}"


def is_record(python: Any) -> bool:
    """Whether a class is a dataclass, a TypedDict or a pydantic model."""
    if not isinstance(python, type):
        return False
    return dataclasses.is_dataclass(python) or _is_typed_dict(python) or is_pydantic_model(python)


def _is_typed_dict(python: type[Any]) -> bool:
    # typing.is_typeddict() does not know those of typing_extensions.
    return issubclass(python, dict) and hasattr(python, "__total__") and hasattr(python, "__required_keys__")


def is_pydantic_model(python: type[Any]) -> bool:
    pydantic = sys.modules.get("pydantic")
    return pydantic is not None and issubclass(python, pydantic.BaseModel)


def as_json_value(value: Any) -> Any:
    """What stands for a value when it is written: pydantic's models as pydantic writes them, enumerations by their
    values, dataclasses as dicts. Everything else is for Flask to write.

    >>> from enum import Enum
    >>> Colour = Enum("Colour", {"RED": "red"})
    >>> as_json_value({"colour": Colour.RED})
    {'colour': 'red'}
    """
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: as_json_value(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json_value(each) for each in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: as_json_value(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if is_pydantic_model(type(value)):
        return value.model_dump(mode="json", by_alias=False)
    return value
