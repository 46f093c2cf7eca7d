"""Docstrings as this repository writes them (sections "Args:" and "Raises:", examples with ``>>>``), as Markdown."""

from __future__ import annotations

import re
from inspect import cleandoc

_SECTION = re.compile(r"^(Args|Raises|Returns|Yields):$")
_ROLE = re.compile(r":(?:meth|class|func|attr|mod|data|exc):`~?(?:flask_mercure_sse\.)?([^`]+)`")
_TITLES = {"Args": "Arguments", "Raises": "Exceptions", "Returns": "Result", "Yields": "Yields"}


def to_markdown(docstring: str | None) -> str:
    """
    >>> print(to_markdown("Add one.\\n\\nArgs:\\n    a: a ``number``,\\n        or more.\\n\\n>>> 1 + 1\\n2"))
    Add one.
    <BLANKLINE>
    Arguments:
    <BLANKLINE>
    - `a`: a `number`, or more.
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    """
    parts: list[str] = []
    for block in _blocks(cleandoc(docstring or "")):
        first = block[0]
        section = _SECTION.match(first)
        if first.startswith(">>>"):
            parts.append("\n".join(["```pycon", *block, "```"]))
        elif section:
            parts += [f"{_TITLES[section[1]]}:", "\n".join(_items(block[1:]))]
        elif first.lstrip().startswith("- "):
            parts.append("\n".join(_text(line) for line in block))
        else:
            parts.append(_text(" ".join(line.strip() for line in block)))
    return "\n\n".join(part for part in parts if part)


def summary(docstring: str | None) -> str:
    """The first sentence."""
    paragraph = " ".join(cleandoc(docstring or "").split("\n\n")[0].split())
    return _text(re.split(r"(?<=[.:]) (?=[A-Z])", paragraph)[0])


def _blocks(text: str) -> list[list[str]]:
    """Paragraphs. An example goes on over no empty line, as doctest reads it."""
    return [block.split("\n") for block in re.split(r"\n\s*\n", text) if block.strip()]


def _items(lines: list[str]) -> list[str]:
    items: list[str] = []
    for line in lines:
        if re.match(r" {4}\S", line):
            items.append(line.strip())
        elif items:
            items[-1] += " " + line.strip()
    return [_item(item) for item in items]


def _item(item: str) -> str:
    names, colon, meaning = item.partition(": ")
    if not colon or not re.fullmatch(r"[\w*., ]+", names):
        return f"- {_text(item)}"
    return f"- {', '.join(f'`{name}`' for name in names.split(', '))}: {_text(meaning)}"


def _text(text: str) -> str:
    # Outside of code, an angle bracket would begin HTML and an asterisk emphasis.
    text = _ROLE.sub(r"`\1`", text).replace("``", "`")
    parts = text.split("`")
    for at in range(0, len(parts), 2):
        parts[at] = re.sub(r"([<>*|])", r"\\\1", parts[at])
    return "`".join(parts)
