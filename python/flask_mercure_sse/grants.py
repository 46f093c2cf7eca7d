"""A warning of unmarked selectors in tokens: a value from outside may have widened what the token grants."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from .topics import Selector, URLPattern

if TYPE_CHECKING:
    from types import FrameType

    from .settings import MercureSSEState

EVERYTHING: Final = Selector("*")
"""The grant of a token if the application names no topics."""

CALL_SITES_MAX: Final = 1000
"""Lines of an application that are remembered after a warning: far more than the calls that make tokens. Code that is
generated at run time could have any number of lines."""


def warn_of_selectors(state: MercureSSEState, granted: Iterable[str]) -> None:
    """Log a warning if a token for these topics has an unmarked selector: once for each kind of selector and each line
    of the application that asks for a token. The log does not quote the selector."""
    kinds = {kind for each in granted if (kind := _kind(each, state.protocol)) is not None}
    if not kinds or len(state.warned_sites) >= CALL_SITES_MAX:
        return
    file, line = _call_site()
    for kind in sorted(kinds):
        if (file, line, kind) in state.warned_sites:
            continue
        state.warned_sites.add((file, line, kind))
        state.app.logger.warning(
            "%s:%d: a token grants %s, which nothing marks as meant. If a value from outside is in it, it grants more "
            'than the topic: write mercure.topic("/users/{}", name) instead of an f-string. If it is meant, write %s.',
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


def _kind(topic: str, protocol: str) -> str | None:
    if isinstance(topic, (Selector, URLPattern)) or not isinstance(topic, str):
        return None
    everything, prefix, template = _MARKS
    if topic == "*":
        return everything
    # In 1.0 a matcher says what it is: everything else is one topic to the letter.
    if protocol == "1.0":
        return None
    if _TEMPLATE.search(topic):
        return template
    return prefix if topic.endswith("*") else None


_TEMPLATE: Final = re.compile(r"\{[^{}]+\}")


def _call_site() -> tuple[str, int]:
    """File and line of the innermost code that is neither this package's nor Jinja's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] in _NOT_THE_APPLICATION:
        frame = frame.f_back
    if frame is None:
        return "unknown", 0
    template = frame.f_globals.get("__jinja_template__")
    line = frame.f_lineno if template is None else template.get_corresponding_lineno(frame.f_lineno)
    return frame.f_code.co_filename, line


_NOT_THE_APPLICATION: Final = frozenset((__package__, "jinja2"))
