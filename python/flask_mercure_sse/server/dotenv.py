"""The settings of a standalone hub, read from the environment and from the file ``.env`` of the working directory."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_LINE = re.compile(
    r"""^[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*
        (?:(?:'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]|\\.)*)")[ \t]*(?:\#[^\n]*)?|(?P<bare>[^\n]*))$""",
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)

_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


class Variables:
    """Variables by name. The environment wins over the file, whichever of the names of a setting each has."""

    def __init__(self, path: Path = Path(".env")) -> None:
        """Read the file, if there is one.

        Raises:
            ValueError: the file cannot be read, or a quote in it is not closed.
        """
        self._sources: list[Mapping[str, str]] = [os.environ, read_dotenv(path)]

    def first(self, *names: str) -> str | None:
        """The value of the first variable that is set and not empty."""
        return next((source[name] for source in self._sources for name in names if source.get(name)), None)

    def refuse_empty(self, *names: str) -> None:
        """Refuse an empty variable of a secret: it is a mistake, and does not mean "make one".

        Raises:
            ValueError: one of the variables is set and empty. The message names it.
        """
        for name in names:
            if any(source.get(name) == "" for source in self._sources):
                raise ValueError(f"{name} is empty: {KEY_ADVICE}")


KEY_ADVICE: Final = "write a secret (openssl rand -hex 32), or leave it out to have one made at each start"


def read_dotenv(path: Path) -> dict[str, str]:
    """Read the lines NAME=VALUE of a file, and skip all others.

    Quotes (also over several lines), comments after a space and a leading ``export`` are understood; variables in
    values are not expanded.

    Returns:
        The variables by name; none if there is no such file.

    Raises:
        ValueError: the file cannot be read, or a quote is not closed. The message has the number of the line and not
            its text, which may be a secret.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {type(error).__name__}") from None
    variables = {}
    for match in _LINE.finditer(text.replace("\r\n", "\n")):
        bare, double, single = match["bare"], match["double"], match["single"]
        if bare is not None:
            if bare.startswith(("'", '"')):
                line = text.count("\n", 0, match.start()) + 1
                raise ValueError(f"{path}, line {line}: close the quote")
            variables[match["name"]] = re.sub(r"\s#.*", "", bare).strip()
        elif double is not None:
            variables[match["name"]] = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), double, flags=re.DOTALL)
        else:
            variables[match["name"]] = single
    return variables
