"""Datastar: patches of a page's elements and signals, published as updates in the event format of Datastar 1.

A page receives them with the element that ``mercure_datastar_stream(topics)`` writes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal

from flask import Flask, json

from .rendering import Content, later, one_of

Mode = Literal["outer", "inner", "replace", "prepend", "append", "before", "after"]
"""What happens with the elements: "outer", Datastar's default, and "inner" morph; the others do as their names say."""

Namespace = Literal["html", "svg", "mathml"]
"""What the elements are."""


class Datastar:
    """Publishes events of Datastar, as ``mercure.datastar``. Every method returns the id of the update.

    Args of all methods:
        topic: as in :meth:`flask_mercure_sse.MercureSSE.publish`.
        private, after_commit: as there. With ``after_commit``, the template is rendered just before the commit, after
            the flush, when new rows have their ids.

    Raises:
        MercureError: as ``publish``.

    >>> from flask_mercure_sse import MercureSSE
    >>> mercure = MercureSSE(Flask(__name__))
    >>> with mercure.capture() as updates:
    ...     _ = mercure.datastar.patch_signals("/carts/1", {"total": 7})
    >>> updates[0].type, updates[0].data
    ('datastar-patch-signals', 'signals {"total": 7}')
    """

    def __init__(self, publish: Callable[..., str], app: Flask) -> None:
        self._publish, self._app = publish, app

    def patch_elements(
        self,
        topic: Any,
        html: Any = None,
        *,
        template: Any = None,
        selector: str | None = None,
        mode: Mode | None = None,
        namespace: Namespace | None = None,
        use_view_transition: bool = False,
        private: bool = False,
        after_commit: Any = None,
        context: Mapping[str, Any] | None = None,
        **values: Any,
    ) -> str:
        """Patch elements of the page.

        Args:
            html: text or an object with ``__html__``, sent unchanged: escape what users have written.
            template: the name of a template, in place of ``html``.
            context: the values of the template in a dict, also those whose names are arguments of this method, such as
                ``topic`` or ``mode``.
            values: the values of the template as keyword arguments.
            selector: the CSS selector of the target; None: each element replaces the one with its id.
            mode: how; None: "outer".
            namespace: what the elements are; None: HTML.
            use_view_transition: whether the browser shows the change as a transition.

        Raises:
            TypeError: there is not one of ``html`` and ``template``.
            ValueError: ``mode`` or ``namespace`` is none of its values.

        >>> from flask_mercure_sse import MercureSSE
        >>> mercure = MercureSSE(Flask(__name__))
        >>> with mercure.capture() as updates:
        ...     _ = mercure.datastar.patch_elements("/news", "<li>Walden</li>", selector="#news", mode="append")
        >>> updates[0].data.splitlines()
        ['selector #news', 'mode append', 'elements <li>Walden</li>']
        """
        content = Content(html, template, {**(context or {}), **values})
        given_mode, given_namespace = one_of("mode", mode, Mode), one_of("namespace", namespace, Namespace)
        transition = "true" if use_view_transition else None
        options = {
            "selector": selector,
            "mode": given_mode,
            "namespace": given_namespace,
            "useViewTransition": transition,
        }
        return self._send(topic, _PATCH_ELEMENTS, options, "elements", content.render, private, after_commit)

    def remove_elements(self, topic: Any, selector: str, *, private: bool = False, after_commit: Any = None) -> str:
        """Remove the elements that a CSS selector selects."""
        options = {"selector": selector, "mode": "remove"}
        return self._send(topic, _PATCH_ELEMENTS, options, "elements", lambda: "", private, after_commit)

    def patch_signals(
        self,
        topic: Any,
        signals: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
        *,
        only_if_missing: bool = False,
        private: bool = False,
        after_commit: Any = None,
    ) -> str:
        """Change signals of the page.

        Args:
            signals: the new values; None removes a signal. With ``after_commit``, also a function that returns them.
            only_if_missing: whether signals that the page has stay as they are.

        Raises:
            TypeError: the signals are no dict.
        """

        def text() -> str:
            return json.dumps(_as_signals(signals() if callable(signals) else signals))

        if not callable(signals):
            _as_signals(signals)

        options = {"onlyIfMissing": "true" if only_if_missing else None}
        return self._send(topic, _PATCH_SIGNALS, options, "signals", text, private, after_commit)

    def execute_script(
        self,
        topic: Any,
        script: str,
        *,
        auto_remove: bool = True,
        private: bool = False,
        after_commit: Any = None,
    ) -> str:
        """Run a script in the page. A Content Security Policy must allow inline scripts.

        Args:
            script: JavaScript, sent unchanged: put values into it only with ``jinja2.utils.htmlsafe_json_dumps``, which
                is the filter ``tojson`` of templates. In a text of the script, ``</script`` and ``<!--`` are escaped.
            auto_remove: whether the element of the script is removed once it has run.
        """
        # A text with "</script" in the JavaScript would end the element. After "<!--" and "<script", the element would
        # not end where it should.
        inside = re.sub(r"</(?=script)", r"<\\/", script, flags=re.IGNORECASE).replace("<!--", r"\x3C!--")
        element = f"<script{_REMOVES_ITSELF if auto_remove else ''}>{inside}</script>"
        options = {"selector": "body", "mode": "append"}
        return self._send(topic, _PATCH_ELEMENTS, options, "elements", lambda: element, private, after_commit)

    def _send(
        self,
        topic: Any,
        type: str,
        options: Mapping[str, str | None],
        name: str,
        value: Callable[[], str],
        private: bool,
        after_commit: Any,
    ) -> str:
        given = [f"{option} {_line(option, text)}" for option, text in options.items() if text is not None]
        data = later(self._app, lambda: "\n".join([*given, *_lines(name, value())]))
        return self._publish(topic, data, private=private, type=type, after_commit=after_commit)


_PATCH_ELEMENTS: Final = "datastar-patch-elements"
_PATCH_SIGNALS: Final = "datastar-patch-signals"

_REMOVES_ITSELF: Final = ' data-effect="el.remove()"'
"""Datastar's own way: an expression that it evaluates once the element is in the page."""


def _as_signals(signals: Any) -> Mapping[str, Any]:
    if not isinstance(signals, Mapping):
        raise TypeError(f"signals: give a dict of names and values, and not {type(signals).__name__}")
    return signals


def _lines(name: str, text: str) -> Iterable[str]:
    """A value of several lines: each with the name before it. A line ends as lines of an event stream do."""
    return [f"{name} {line}" for line in re.split(r"\r\n|\r|\n", text)] if text else []


def _line(name: str, text: str) -> str:
    """A value of one line: another line would be an option of its own.

    Raises:
        ValueError: the text has several.
    """
    if re.search(r"[\r\n]", text):
        raise ValueError(f"{name}: write it on one line")
    return text
