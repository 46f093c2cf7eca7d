"""What one call publishes, before it is an update: the arguments, of which some may only be known later."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from .errors import InvalidUpdateError
from .events import Resolve
from .topics import is_function, is_value
from .update import Update, new_id

T = TypeVar("T")


@dataclass(frozen=True, repr=False)
class Draft:
    """The arguments of :meth:`flask_mercure_sse.MercureSSE.publish` that belong to the update.

    >>> Draft("/books/1", lambda: {"title": "Walden"}).update().data
    '{"title": "Walden"}'
    """

    topic: Any
    data: Any = None
    private: bool = False
    id: str | None = None
    type: str | bool | None = None
    retry: int | str | None = None
    type_is_topic: bool = False
    """Whether the type is the canonical topic where ``type`` is None."""
    events: Resolve | None = None
    """What knows the application's events with a type; None: there are none."""

    def update(self) -> Update:
        """Ask objects and functions for topic and data, and make the update.

        Raises:
            InvalidUpdateError: the update breaks a rule, or the data is not what its event says.
            TypeError: the topic is none.
        """
        if isinstance(self.topic, Update):
            return self.topic if self.id is None else replace(self.topic, id=self.id)
        topic, data, type = self.topic, self.data, self.type
        if self.events is not None:
            topic, data, type = self.events(topic, data, type)
        given = (topic, data, self.private, self.id, type, self.retry)
        return Update.from_arguments(*given, type_is_topic=self.type_is_topic)

    def with_id(self) -> Draft:
        """The same with an id, made here if it has none."""
        given = self.topic.id if isinstance(self.topic, Update) else self.id
        return replace(self, id=new_id()) if given is None or given == "" else self

    @property
    def is_final(self) -> bool:
        """Whether topic and data are plain values, which are the same now and later."""
        topics = self.topic if isinstance(self.topic, (list, tuple, set, frozenset)) else (self.topic,)
        if not all(isinstance(each, (str, bytes, bytearray, Update)) for each in topics):
            return False
        return not is_function(self.data) and (self.data is None or is_value(self.data))

    def check(self) -> None:
        """Check what is known before topic and data are.

        Raises:
            InvalidUpdateError: the id, the type or the time for reconnections breaks a rule.
        """
        replace(self, topic="topic", data=None, events=None).update()


def as_drafts(given: Iterable[Any], type_is_topic: bool, events: Resolve | None = None) -> list[Draft]:
    """The drafts of a call of :meth:`flask_mercure_sse.MercureSSE.publish_many`.

    Raises:
        InvalidUpdateError: one of them has no form that is known; the message has its number.
    """
    return numbered(given, lambda each: replace(_as_draft(each), type_is_topic=type_is_topic, events=events))


def numbered(given: Iterable[Any], function: Callable[[Any], T]) -> list[T]:
    """The results of a function. If it fails, its exception gets the number of the update.

    Raises:
        InvalidUpdateError, TypeError: raised by the function.
    """
    results = []
    for number, each in enumerate(given):
        try:
            results.append(function(each))
        except InvalidUpdateError as error:
            raise InvalidUpdateError(f"update {number}: {error}") from None
        except TypeError as error:
            raise TypeError(f"update {number}: {error}") from error
    return results


def _as_draft(given: Any) -> Draft:
    if isinstance(given, Mapping):
        other = ", ".join(repr(name) for name in given if name not in _ARGUMENTS)
        if other or "topic" not in given:
            raise InvalidUpdateError(f"write a dict of {', '.join(_ARGUMENTS)}, with a topic; not {other or 'without'}")
        return Draft(**given)
    if isinstance(given, (tuple, list)):
        if not 1 <= len(given) <= len(_ARGUMENTS):
            raise InvalidUpdateError(f"write a tuple of {', '.join(_ARGUMENTS)}, as many as are needed")
        return Draft(*given)
    return Draft(given)


_ARGUMENTS: Final = ("topic", "data", "private", "id", "type", "retry")
"""The arguments of ``publish`` that belong to the update, in their order."""
