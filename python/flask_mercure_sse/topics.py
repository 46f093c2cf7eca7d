"""From the objects of an application to topics and data: the object protocol."""

from __future__ import annotations

from typing import Any

from flask import json


class URLPattern(str):
    """A URL pattern, where a topic to subscribe to or to grant is expected; protocol 1.0 only.

    >>> as_topic(URLPattern("/books/:id"))
    URLPattern('/books/:id')
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"URLPattern({str(self)!r})"


def as_topic(obj: Any) -> str:
    """The topic of an object: its ``__mercure_sse_topic__`` (an attribute, a property or a method), else ``str(obj)``.

    >>> class Book:
    ...     __mercure_sse_topic__ = "/books/1"
    >>> as_topic(Book()), as_topic("news")
    ('/books/1', 'news')
    """
    if isinstance(obj, URLPattern):
        return obj
    if isinstance(obj, (bytes, bytearray)):
        return bytes(obj).decode()
    topic = getattr(obj, "__mercure_sse_topic__", None)
    if topic is None:
        return str(obj)
    return str(topic() if callable(topic) else topic)


def as_topics(topics: Any) -> list[str]:
    """One topic or several, as a list of strings; None is no topic.

    >>> as_topics("a"), as_topics(("a", 1)), as_topics(None)
    (['a'], ['a', '1'], [])
    """
    if topics is None:
        return []
    if isinstance(topics, (list, tuple, set, frozenset)):
        return [as_topic(topic) for topic in topics]
    return [as_topic(topics)]


def as_data(data: Any) -> str:
    """The data of an update as text: a string as it is, bytes as UTF-8, None as nothing, anything else as JSON.

    >>> as_data("a"), as_data(b"b"), as_data(None), as_data([1])
    ('a', 'b', '', '[1]')
    """
    if data is None:
        return ""
    if isinstance(data, str):
        return data
    if isinstance(data, (bytes, bytearray)):
        return bytes(data).decode()
    hook = getattr(data, "__mercure_sse_data__", None)
    return as_data(hook()) if callable(hook) else json.dumps(data)


def as_publication(topic: Any, data: Any) -> tuple[list[str], str]:
    """Topics and data of ``publish(topic, data)``.

    An object that is published alone brings both: ``__mercure_sse__()`` returns (topic, data); otherwise its topic is
    its ``__mercure_sse_topic__`` or the name of its class, and its data is what :func:`as_data` makes of it.
    """
    if data is None and not isinstance(topic, (str, bytes, list, tuple, set, frozenset)):
        pair = getattr(topic, "__mercure_sse__", None)
        if callable(pair):
            topic, data = pair()
        elif hasattr(topic, "__mercure_sse_topic__"):
            topic, data = as_topic(topic), topic
        else:
            topic, data = type(topic).__name__, topic
    return as_topics(topic), as_data(data)
