"""What a check has found, as one line of a report."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Final, Literal

Level = Literal["ok", "warning", "problem"]
"""A problem does not work. A warning works in some cases only, or is probably not meant."""


@dataclass(frozen=True)
class Finding:
    """The result of one check. Holds no secret, no token and no password.

    >>> print(Finding("warning", "keys", "SECRET_KEY has 8 bytes", "make one of 32").text(60))
    warning  keys: SECRET_KEY has 8 bytes
             change: make one of 32
    """

    level: Level
    check: str
    """What was looked at, in one or two words."""
    found: str
    change: str = ""
    """What to change. Empty if everything is well."""

    def text(self, width: int) -> str:
        """The finding for a terminal with that many columns. No colours."""
        first = f"{self.level:<{len(_INDENT)}}"
        paragraphs = [(first, f"{self.check}: {self.found}")]
        if self.change:
            paragraphs.append((_INDENT, f"change: {self.change}"))
        return "\n".join(
            textwrap.fill(
                text,
                width,
                initial_indent=first,
                subsequent_indent=_INDENT,
                break_long_words=False,
                break_on_hyphens=False,
            )
            for first, text in paragraphs
        )


_INDENT: Final = " " * 9
"""As wide as the longest level and two spaces."""
