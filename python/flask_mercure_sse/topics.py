"""Topics and data, made of the objects and values of an application."""

from __future__ import annotations

import re
from collections.abc import Iterator, KeysView, ValuesView
from datetime import date, time, timedelta
from functools import partial
from inspect import isroutine
from itertools import count
from numbers import Number
from string import Formatter
from typing import Any, Final
from urllib.parse import quote

from flask import json
from jinja2 import Undefined


class URLPattern(str):
    """A URL pattern, in place of a topic to subscribe to or to grant. Protocol 1.0 only.

    >>> as_topic(URLPattern("/books/:id"))
    URLPattern('/books/:id')
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"URLPattern({str(self)!r})"


class Selector(str):
    """A selector of protocol 0.x, in place of a topic to subscribe to or to grant: a URI template, ``*`` for every
    topic, or a prefix before ``*``.

    A plain text selects the same. A warning is logged if a token grants it, because a value from outside may have
    turned a topic into a selector.

    >>> as_topic(Selector("/books/{id}"))
    Selector('/books/{id}')
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Selector({str(self)!r})"


def topic(template: str, /, *values: Any, **named: Any) -> str:
    """Put values into a topic, percent-encoded: the result is never a selector, whatever the values are.

    ASCII letters, digits and ``-._~`` of a value stay; every other character is encoded as UTF-8. Different values give
    different topics, if a character such as a slash is between every two of them.

    Args:
        template: the topic, written in the code, with ``{}`` or ``{name}`` for each value.

    Raises:
        ValueError: the template is a selector, or its names are not those of the given values; or a value is None or
            empty, or makes a segment ``.`` or ``..``, which URLs leave out.

    >>> topic("/users/{}", "b*"), topic("/rooms/{room}/{user}", room="a/b", user=7)
    ('/users/b%2A', '/rooms/a%2Fb/7')
    >>> topic("/users/{}", "{id}")
    '/users/%7Bid%7D'
    """
    given = {str(at): value for at, value in enumerate(values)} | named
    parts: list[str] = []
    used: set[str] = set()
    numbers = count()
    for literal, name, spec, conversion in Formatter().parse(template):
        if _MEANS_SOMETHING.search(literal):
            raise ValueError(
                "topic: a topic has no braces and no *: mark what selects topics with Selector or URLPattern"
            )
        parts.append(literal)
        if name is None:
            continue
        if spec or conversion:
            raise ValueError("topic: write {} or {name} where a value belongs, without a format")
        name = name or str(next(numbers))
        if name not in given:
            raise ValueError(f"topic: there is no value for {{{name}}}")
        used.add(name)
        parts.append(_encode(given[name]))
    if used != set(given):
        raise ValueError("topic: the template has no {} or {name} for one of the values")
    made = "".join(parts)
    if used and _DOTS.search(made):
        raise ValueError("topic: a value makes a segment of dots, which a URL does not have")
    return made


def _encode(value: Any) -> str:
    text = "" if value is None else as_topic(value)
    if not text:
        raise ValueError("topic: a value is None or empty: the topic would be that of nobody, or of several")
    return quote(text, safe="")


_MEANS_SOMETHING: Final = re.compile(r"[{}*]")

_DOTS: Final = re.compile(r"(?:^|[/\\])(?:\.|%2[Ee]){1,2}(?:$|[/\\?#])")


def as_topic(obj: Any) -> str:
    """The topic of an object: its ``__mercure_sse_topic__`` (an attribute, a property or a method), else ``str(obj)``.

    >>> class Book:
    ...     __mercure_sse_topic__ = "/books/1"
    >>> as_topic(Book()), as_topic("news")
    ('/books/1', 'news')

    Raises:
        ValueError: a variable of a template that is not defined. Its text is empty, and an empty topic is a mistake.
    """
    if isinstance(obj, (URLPattern, Selector)):
        return obj
    if isinstance(obj, Undefined):
        raise ValueError(f"topic: the template has no value for {obj._undefined_name or 'it'}: give it to the template")
    if isinstance(obj, (bytes, bytearray)):
        return bytes(obj).decode()
    found = getattr(obj, "__mercure_sse_topic__", None)
    if found is None:
        return str(obj)
    found = found() if callable(found) else found
    return found if isinstance(found, (URLPattern, Selector)) else str(found)


def as_topics(topics: Any) -> list[str]:
    """A topic or several, as a list of strings. None: no topic.

    >>> as_topics("a"), as_topics(("a", 1)), as_topics(None)
    (['a'], ['a', '1'], [])

    Raises:
        ValueError: an iterator, such as a generator: what is read once is not there for the token of a URL. Or as in
            :func:`as_topic`.
    """
    if topics is None:
        return []
    if isinstance(topics, Iterator):
        raise ValueError("topics: an iterator can be read only once: write list(...) around it")
    if isinstance(topics, (list, tuple, set, frozenset, KeysView, ValuesView)):
        return [as_topic(each) for each in topics]
    return [as_topic(topics)]


def as_data(data: Any) -> str:
    """The data of an update as text: text as it is, bytes decoded as UTF-8, None as an empty text, the result of a
    function, other values as JSON.

    >>> as_data("a"), as_data(b"b"), as_data(None), as_data([1]), as_data(lambda: {"c": 2})
    ('a', 'b', '', '[1]', '{"c": 2}')
    """
    return _written(_value(data))


def _value(data: Any) -> Any:
    """What functions and the methods of objects return."""
    while data is not None and not isinstance(data, (str, bytes, bytearray)):
        hook = data if is_function(data) else getattr(data, "__mercure_sse_data__", None)
        if not callable(hook):
            break
        data = hook()
    return data


def _written(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return bytes(value).decode() if isinstance(value, (bytes, bytearray)) else json.dumps(value)


def is_function(data: Any) -> bool:
    """Whether the data of an update is what a function returns. An object that can be called is data itself: so is
    Flask's ``g``, or the current user of Flask-Login.

    >>> is_function(lambda: 1), is_function("a")
    (True, False)
    """
    return isroutine(data) or isinstance(data, partial)


def as_publication(subject: Any, data: Any) -> tuple[list[str], str]:
    """The topics and the data of ``publish(topic, data)``.

    An object that is published alone has both. ``__mercure_sse__()`` returns (topic, data). Without that, its topic is
    its ``__mercure_sse_topic__`` or the name of its class, and its data is the result of :func:`as_data`.

    Raises:
        TypeError: the topic is a value such as a number or a dict: topic and data have been swapped, or the topic was
            forgotten. Or JSON has no form for the data.
    """
    if data is None and not isinstance(subject, (str, bytes, list, tuple, set, frozenset)):
        pair = getattr(subject, "__mercure_sse__", None)
        if callable(pair):
            subject, data = pair()
        elif hasattr(subject, "__mercure_sse_topic__"):
            subject, data = as_topic(subject), subject
        elif not is_value(subject):
            subject, data = type(subject).__name__, subject
    for each in subject if isinstance(subject, (list, tuple, set, frozenset)) else (subject,):
        if not _is_topic(each):
            raise TypeError(
                f"publish(topic, data): {type(each).__name__!r} is no topic. First comes the topic, a text or an "
                'object that has one, then the data: publish("greeting", {"a": 1})'
            )
    topics, value = as_topics(subject), _value(data)
    try:
        return topics, _written(value)
    except TypeError as error:
        place = f" on topic {topics[0]!r}" if topics else ""
        raise TypeError(f"the data of the update{place}: {error}") from error


def _is_topic(subject: Any) -> bool:
    """Whether an update can be published on it: a text, or an object that says what it is called."""
    if isinstance(subject, (str, bytes, bytearray)) or hasattr(subject, "__mercure_sse_topic__"):
        return True
    has_text: bool = type(subject).__str__ is not object.__str__  # type: ignore[comparison-overlap]
    return has_text and not is_value(subject)


def is_value(subject: Any) -> bool:
    """Whether an object is data and nothing else: None, a number, a date, a dict and the like."""
    is_plain = type(subject).__module__ in ("builtins", "collections")
    return is_plain or isinstance(subject, (Number, date, time, timedelta))
