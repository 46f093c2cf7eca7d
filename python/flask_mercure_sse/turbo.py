"""Turbo Streams: actions on elements of a page, published as updates.

The functions of this module make actions. :class:`Turbo`, which is ``mercure.turbo``, publishes them. A page receives
them with the element that ``mercure_turbo_stream(topics)`` writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from flask import Flask, has_request_context, request
from markupsafe import Markup

from .rendering import Content, later, one_of

Method = Literal["morph"]
"""How an element is changed: only where it differs, so that focus and scroll positions stay."""

RefreshMethod = Literal["morph", "replace"]
"""How a page that loads itself again is changed."""

Scroll = Literal["preserve", "reset"]
"""What becomes of the scroll position."""


@dataclass(frozen=True)
class Action:
    """One ``<turbo-stream>``. In a template or as ``str(action)``, it is its HTML.

    >>> str(append("messages", html="<p>Hello</p>"))
    '<turbo-stream action="append" target="messages"><template><p>Hello</p></template></turbo-stream>'
    """

    name: str
    attributes: tuple[tuple[str, str | None], ...] = ()
    """None: the element has no such attribute."""
    content: Content | None = None

    def __html__(self) -> str:
        given = [("action", self.name), *self.attributes]
        attributes = "".join(Markup(' {}="{}"').format(name, value) for name, value in given if value is not None)
        inside = "" if self.content is None else f"<template>{self.content.render()}</template>"
        return f"<turbo-stream{attributes}>{inside}</turbo-stream>"

    __str__ = __html__


def append(
    target: str | None = None,
    *,
    targets: str | None = None,
    html: Any = None,
    template: Any = None,
    context: Mapping[str, Any] | None = None,
    **values: Any,
) -> Action:
    """Add HTML at the end of the target. A child with the same id is replaced.

    Args:
        target: the id of an element.
        targets: a CSS selector, in place of the id, for every element that it selects.
        html: text or an object with ``__html__``, sent unchanged: escape what users have written.
        template: the name of a template, in place of ``html``.
        context: the values of the template in a dict, also those whose names are arguments of this function, such as
            ``target`` or ``method``.
        values: the values of the template as keyword arguments.

    Raises:
        TypeError: there is not one of ``target`` and ``targets``, or not one of ``html`` and ``template``.
        ValueError: ``method`` or ``scroll`` is none of its values.
    """
    return Action("append", _target(target, targets), Content(html, template, {**(context or {}), **values}))


def prepend(
    target: str | None = None,
    *,
    targets: str | None = None,
    html: Any = None,
    template: Any = None,
    context: Mapping[str, Any] | None = None,
    **values: Any,
) -> Action:
    """Add HTML at the beginning of the target. Arguments: as :func:`append`."""
    return Action("prepend", _target(target, targets), Content(html, template, {**(context or {}), **values}))


def replace(
    target: str | None = None,
    *,
    targets: str | None = None,
    method: Method | None = None,
    html: Any = None,
    template: Any = None,
    context: Mapping[str, Any] | None = None,
    **values: Any,
) -> Action:
    """Replace the target itself. Arguments: as :func:`append`, and ``method="morph"``, which changes what differs.

    >>> str(replace(targets=".price", method="morph", html="<b>7</b>"))
    '<turbo-stream action="replace" targets=".price" method="morph"><template><b>7</b></template></turbo-stream>'
    """
    return Action(
        "replace",
        (*_target(target, targets), ("method", one_of("method", method, Method))),
        Content(html, template, {**(context or {}), **values}),
    )


def update(
    target: str | None = None,
    *,
    targets: str | None = None,
    method: Method | None = None,
    html: Any = None,
    template: Any = None,
    context: Mapping[str, Any] | None = None,
    **values: Any,
) -> Action:
    """Replace what is inside the target. Arguments: as :func:`replace`."""
    return Action(
        "update",
        (*_target(target, targets), ("method", one_of("method", method, Method))),
        Content(html, template, {**(context or {}), **values}),
    )


def before(
    target: str | None = None,
    *,
    targets: str | None = None,
    html: Any = None,
    template: Any = None,
    context: Mapping[str, Any] | None = None,
    **values: Any,
) -> Action:
    """Insert HTML before the target. Arguments: as :func:`append`."""
    return Action("before", _target(target, targets), Content(html, template, {**(context or {}), **values}))


def after(
    target: str | None = None,
    *,
    targets: str | None = None,
    html: Any = None,
    template: Any = None,
    context: Mapping[str, Any] | None = None,
    **values: Any,
) -> Action:
    """Insert HTML after the target. Arguments: as :func:`append`."""
    return Action("after", _target(target, targets), Content(html, template, {**(context or {}), **values}))


def remove(target: str | None = None, *, targets: str | None = None) -> Action:
    """Remove the target.

    >>> str(remove("message_7"))
    '<turbo-stream action="remove" target="message_7"></turbo-stream>'
    """
    return Action("remove", _target(target, targets))


def refresh(
    *,
    method: RefreshMethod | None = None,
    scroll: Scroll | None = None,
    request_id: str | None = None,
) -> Action:
    """Have the page load itself again.

    Args:
        method, scroll: in place of what the page says.
        request_id: the page whose request this is does not load itself again; by default the request that is handled.

    >>> str(refresh(method="morph", scroll="preserve"))
    '<turbo-stream action="refresh" method="morph" scroll="preserve"></turbo-stream>'
    """
    if request_id is None and has_request_context():
        request_id = request.headers.get("X-Turbo-Request-Id")
    given = (("method", one_of("method", method, RefreshMethod)), ("scroll", one_of("scroll", scroll, Scroll)))
    return Action("refresh", (*given, ("request-id", request_id)))


class Turbo:
    """Publishes actions. Each method takes the topic and what the function of its name takes, and returns the id of the
    update.

    Args of all methods:
        topic: as in :meth:`flask_mercure_sse.MercureSSE.publish`.
        context: the values of a template in a dict, also those that are named as an argument, such as ``topic``.
        private, after_commit: as there. With ``after_commit``, the template is rendered just before the commit, after
            the flush, when new rows have their ids.

    Raises:
        TypeError: there is not one of ``target`` and ``targets``, or not one of ``html`` and ``template``; or no
            action is given.
        ValueError: ``method`` or ``scroll`` is none of its values.
        MercureError: as ``publish``.

    >>> from flask_mercure_sse import MercureSSE
    >>> mercure = MercureSSE(Flask(__name__))
    >>> with mercure.capture() as updates:
    ...     _ = mercure.turbo.append("/rooms/1", "messages", html="<p>Hello</p>")
    >>> updates[0].topic, updates[0].data
    ('/rooms/1', '<turbo-stream action="append" target="messages"><template><p>Hello</p></template></turbo-stream>')
    """

    def __init__(self, publish: Callable[..., str], app: Flask) -> None:
        self._publish, self._app = publish, app

    def stream(self, topic: Any, *actions: Action, private: bool = False, after_commit: Any = None) -> str:
        """Publish several actions as one update: a page does all of them or, if the update is not published, none.

        >>> from flask_mercure_sse import MercureSSE, turbo
        >>> mercure = MercureSSE(Flask(__name__))
        >>> with mercure.capture() as updates:
        ...     _ = mercure.turbo.stream("/rooms/1", turbo.remove("typing"), turbo.update("count", html="2"))
        >>> updates[0].data.count("</turbo-stream>")
        2
        """
        if not actions:
            raise TypeError("give at least one action: the result of a function of flask_mercure_sse.turbo")
        for action in actions:
            if not isinstance(action, Action):
                raise TypeError(
                    "give actions one after the other, results of functions of flask_mercure_sse.turbo, and not "
                    f"{type(action).__name__}"
                )
        data = later(self._app, lambda: "".join(str(action) for action in actions))
        # Turbo takes events without a type only, also where MERCURE_TYPE_IS_TOPIC is set.
        return self._publish(topic, data, private=private, type=False, after_commit=after_commit)

    def append(
        self, topic: Any, target: str | None = None, *, private: bool = False, after_commit: Any = None, **action: Any
    ) -> str:
        """Publish :func:`append`."""
        return self.stream(topic, append(target, **action), private=private, after_commit=after_commit)

    def prepend(
        self, topic: Any, target: str | None = None, *, private: bool = False, after_commit: Any = None, **action: Any
    ) -> str:
        """Publish :func:`prepend`."""
        return self.stream(topic, prepend(target, **action), private=private, after_commit=after_commit)

    def replace(
        self, topic: Any, target: str | None = None, *, private: bool = False, after_commit: Any = None, **action: Any
    ) -> str:
        """Publish :func:`replace`."""
        return self.stream(topic, replace(target, **action), private=private, after_commit=after_commit)

    def update(
        self, topic: Any, target: str | None = None, *, private: bool = False, after_commit: Any = None, **action: Any
    ) -> str:
        """Publish :func:`update`."""
        return self.stream(topic, update(target, **action), private=private, after_commit=after_commit)

    def before(
        self, topic: Any, target: str | None = None, *, private: bool = False, after_commit: Any = None, **action: Any
    ) -> str:
        """Publish :func:`before`."""
        return self.stream(topic, before(target, **action), private=private, after_commit=after_commit)

    def after(
        self, topic: Any, target: str | None = None, *, private: bool = False, after_commit: Any = None, **action: Any
    ) -> str:
        """Publish :func:`after`."""
        return self.stream(topic, after(target, **action), private=private, after_commit=after_commit)

    def remove(
        self,
        topic: Any,
        target: str | None = None,
        *,
        targets: str | None = None,
        private: bool = False,
        after_commit: Any = None,
    ) -> str:
        """Publish :func:`remove`."""
        return self.stream(topic, remove(target, targets=targets), private=private, after_commit=after_commit)

    def refresh(self, topic: Any, *, private: bool = False, after_commit: Any = None, **action: Any) -> str:
        """Publish :func:`refresh`."""
        return self.stream(topic, refresh(**action), private=private, after_commit=after_commit)


def _target(target: str | None, targets: str | None) -> tuple[tuple[str, str | None], ...]:
    if bool(target) == bool(targets):
        raise TypeError("give target=, the id of an element, or targets=, a CSS selector: one of them")
    return (("target", target or None), ("targets", targets or None))
