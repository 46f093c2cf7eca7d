"""HTML that an application publishes: given as it is, or rendered from a template at the last moment.

A template is rendered in the application context, and in the request context if there is one. Every subscriber gets the
same HTML, so a template must not show what only the user of this request may see.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from flask import Flask, render_template

from .contexts import in_context


@dataclass(frozen=True)
class Content:
    """The HTML of one action.

    >>> Content(html="<b>new</b>").render()
    '<b>new</b>'
    """

    html: Any = None
    """A text, or an object with ``__html__``: sent unchanged, so the caller escapes what users have written."""
    template: Any = None
    """What Flask's ``render_template`` takes."""
    context: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that there is one of both.

        Raises:
            TypeError: there are both or none, or there are values without a template, or ``html`` is no HTML.
        """
        if (self.html is None) == (self.template is None):
            raise TypeError("give html= or template=, one of them")
        if self.template is None and self.context:
            raise TypeError(f"only a template takes values: {', '.join(self.context)}")
        if self.template is None and not isinstance(self.html, str) and not hasattr(self.html, "__html__"):
            raise TypeError(f"html: give a text or an object with __html__, and not {type(self.html).__name__}")

    def render(self) -> str:
        """The HTML. A template needs an application context."""
        if self.template is not None:
            return render_template(self.template, **self.context)
        return str(self.html.__html__()) if hasattr(self.html, "__html__") else str(self.html)


def one_of(name: str, value: str | None, literal: Any) -> str | None:
    """The value of an argument that takes some values only, and None.

    Raises:
        ValueError: it is another. A value for a template may have been meant.

    >>> from typing import Literal
    >>> one_of("method", "morph", Literal["morph"])
    'morph'
    """
    allowed = get_args(literal)
    if value is None or value in allowed:
        return value
    raise ValueError(
        f"{name}: write {' or '.join(map(repr, allowed))}; a value of the template that has this name belongs into "
        f"context={{{name!r}: …}}"
    )


def later(app: Flask, render: Callable[[], str]) -> Callable[[], str]:
    """The function that the update of a commit is asked for, which may happen outside of the application's context.

    >>> later(Flask("shop"), lambda: "<b>new</b>")()
    '<b>new</b>'
    """

    return lambda: in_context(app, render)
