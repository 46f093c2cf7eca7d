"""The file ``.env`` of the working directory, as far as a hub's settings need it."""

from __future__ import annotations

import re
from pathlib import Path

_LINE = re.compile(
    r"""\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=\s*
        (?:'(?P<single>[^']*)'|"(?P<double>(?:[^"\\]|\\.)*)"|(?P<bare>[^'"\s#][^#\n]*?|))\s*(?:\#.*)?""",
    re.VERBOSE,
)


def read_dotenv(path: Path) -> dict[str, str]:
    """Read NAME=VALUE lines: quotes, comments and a leading ``export`` are understood, expansion is not.

    Returns:
        The variables; none if there is no such file.

    Raises:
        ValueError: a line that is none of this; the message names it by number, as it may hold a secret.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {type(error).__name__}") from None
    variables = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"{path}, line {number}: write NAME=VALUE, with quotes around special characters")
        double = match["double"]
        quoted = re.sub(r"\\(.)", r"\1", double) if double is not None else match["single"]
        variables[match["name"]] = quoted if quoted is not None else match["bare"]
    return variables
