"""A warning of unmarked selectors in tokens: a value from outside may have widened what a token grants."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from flask import Flask

from .topics import Selector, URLPattern

if TYPE_CHECKING:
    from types import FrameType

EVERYTHING: Final = Selector("*")
"""The grant of a token if the application names no topics."""

CALL_SITES_MAX: Final = 1000
"""Lines of an application that are remembered after a warning: far more than the calls that make tokens. Code that is
generated at run time could have any number of lines."""


class UnmarkedSelectors:
    """Warns of the unmarked selectors of one application, once for each kind of selector and each line of code."""

    def __init__(self, app: Flask, protocol: str) -> None:
        self._app, self._protocol = app, protocol
        self.warned: set[tuple[str, int, str]] = set()
        """File, line and kind of selector of each logged warning."""

    def warn(self, granted: Iterable[str], place: tuple[str, int] | None = None) -> None:
        """Log a warning if ``granted``, the topics of a token, has an unmarked selector. The log does not quote it.

        Args:
            place: file and line of the code that grants them; None: the caller outside of this package.
        """
        kinds = {kind for each in granted if (kind := _kind(each, self._protocol)) is not None}
        if not kinds or len(self.warned) >= CALL_SITES_MAX:
            return
        file, line = place or _call_site()
        for kind in sorted(kinds):
            if (file, line, kind) in self.warned:
                continue
            self.warned.add((file, line, kind))
            self._app.logger.warning(
                "%s:%d: a token grants %s, which nothing marks as intended. If a value from outside is in it, the "
                'token grants more than one topic: write mercure.topic("/users/{}", name) instead of an f-string. '
                "If the selector is intended, write %s.",
                file,
                line,
                kind,
                _MARKS[kind],
            )


_MARKS: Final = {
    'every topic ("*")': 'Selector("*")',
    "all topics with a prefix (a * at the end)": 'Selector("/books/*")',
    "a URI template (braces)": 'Selector("/books/{id}")',
}
"""The kinds of selectors, and how to mark one."""


def _kind(topic: str, protocol: str) -> str | None:
    if isinstance(topic, (Selector, URLPattern)) or not isinstance(topic, str):
        return None
    everything, prefix, template = _MARKS
    if topic == "*":
        return everything
    # In 1.0 every matcher has a type: a text without one is an exact topic.
    if protocol == "1.0":
        return None
    if _TEMPLATE.search(topic):
        return template
    return prefix if topic.endswith("*") else None


_TEMPLATE: Final = re.compile(r"\{[^{}]+\}")


def _call_site() -> tuple[str, int]:
    """File and line of the innermost code that belongs neither to this package nor to Jinja."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] in _NOT_THE_APPLICATION:
        frame = frame.f_back
    if frame is None:
        return "unknown", 0
    template = frame.f_globals.get("__jinja_template__")
    line = frame.f_lineno if template is None else template.get_corresponding_lineno(frame.f_lineno)
    return frame.f_code.co_filename, line


_NOT_THE_APPLICATION: Final = frozenset((__package__, "jinja2"))
