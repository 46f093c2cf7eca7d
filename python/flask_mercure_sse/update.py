"""An update: the values that are published, the same for every way of publishing."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from ._native import InvalidUpdate, check_update
from .errors import InvalidUpdateError
from .topics import as_publication


@dataclass(frozen=True)
class Update:
    """One update, checked by the rules of the protocol.

    >>> update = Update.from_arguments("/books/1", {"title": "Walden"}, private=True)
    >>> update.topics, update.data, update.private, update.json()
    (('/books/1',), '{"title": "Walden"}', True, {'title': 'Walden'})
    """

    topics: tuple[str, ...]
    """The canonical topic, then its alternates."""
    data: str = ""
    """Text; JSON where the application gave neither text nor bytes."""
    private: bool = False
    """Whether only subscribers whose token grants one of the topics receive it."""
    id: str | None = None
    """None: the hub makes one."""
    type: str | None = None
    retry: int | str | None = None
    """In milliseconds."""

    def __post_init__(self) -> None:
        """Check the update.

        Raises:
            InvalidUpdateError: the update breaks a rule; the message says which.
        """
        if isinstance(self.topics, str) or "" in self.topics:
            raise InvalidUpdateError("topics: give one or more texts that are not empty, in a tuple")
        try:
            check_update(self.topics, self.data, **self._optional())
        except UnicodeError:
            raise InvalidUpdateError("the update holds bytes or surrogates that are no text in UTF-8") from None
        except InvalidUpdate as error:
            raise InvalidUpdateError(str(error)) from None

    @classmethod
    def from_arguments(
        cls,
        topic: Any,
        data: Any = None,
        private: bool = False,
        id: str | None = None,
        type: str | bool | None = None,
        retry: int | str | None = None,
        *,
        type_is_topic: bool = False,
    ) -> Update:
        """Make an update from the arguments of :meth:`flask_mercure_sse.MercureSSE.publish`.

        Args:
            type_is_topic: whether the type is the canonical topic where ``type`` is None.

        Raises:
            InvalidUpdateError: the update breaks a rule; the message says which.
            TypeError: the topic is a value such as a dict or a number.
        """
        try:
            topics, text = as_publication(topic, data)
        except UnicodeError:
            raise InvalidUpdateError("the update holds bytes that are no text in UTF-8") from None
        if type is True or (type is None and type_is_topic):
            type = topics[0] if topics else None
        # Forms and files give texts and floats, and an empty text for a missing value.
        given_id = None if id is None or id == "" else str(id)
        return cls(tuple(topics), text, bool(private), given_id, str(type) if type else None, _milliseconds(retry))

    @property
    def topic(self) -> str:
        """The canonical topic."""
        return self.topics[0]

    def json(self) -> Any:
        """The data, parsed as JSON.

        Raises:
            ValueError: the data is no JSON.
        """
        return json.loads(self.data)

    def with_id(self) -> Update:
        """The same update with an id, made here if it has none: it can be sent later, and more than once."""
        return self if self.id else replace(self, id=new_id())

    def form(self) -> bytes:
        """The body of a publication over HTTP."""
        fields = [("topic", topic) for topic in self.topics] + [("data", self.data)]
        fields += [("private", "on")] if self.private else []
        return urlencode([*fields, *self._optional().items()]).encode()

    def arguments(self) -> Mapping[str, Any]:
        """The arguments of the embedded hub's ``publish``."""
        return {"topics": self.topics, "data": self.data, "private": self.private, **self._optional()}

    def _optional(self) -> dict[str, str]:
        given = {"id": self.id, "type": self.type, "retry": self.retry}
        return {name: str(value) for name, value in given.items() if value is not None}


def new_id() -> str:
    """An id for an update that has none."""
    return f"urn:uuid:{uuid.uuid4()}"


def _milliseconds(retry: Any) -> Any:
    if retry == "":
        return None
    return int(retry) if isinstance(retry, float) and retry.is_integer() else retry
