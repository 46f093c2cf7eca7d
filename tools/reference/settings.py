"""The table of the extension's settings, in a page whose other text is written by hand.

The meaning of a setting is the text below its field in settings.py, its type and its default are those of ``init_app``.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

from docstrings import to_markdown
from python_api import tree

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "settings.md"
BEGIN, END = "<!-- written from settings.py by make reference -->\n\n", "\n<!-- end -->"


def page() -> str:
    """
    Raises:
        ValueError: a setting has no meaning, or the page has no place for the table.
    """
    text = PAGE.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} has no place for the table: write {BEGIN.strip()} and {END.strip()} around it")
    return before + begin + table() + end + after


def table() -> str:
    meanings = dict(_meanings())
    arguments = _arguments()
    missing = set(arguments) ^ set(meanings) | {name for name, (meaning, _) in meanings.items() if not meaning}
    if missing:
        raise ValueError(f"settings.py: write what these mean, below their fields: {sorted(missing)}")
    lines = ["| Key | Type | Meaning | Default |", "| --- | --- | --- | --- |"]
    variables = _environment()
    for name, (meaning, without) in meanings.items():
        key, (kind, default) = f"MERCURE_{name.upper()}", arguments[name]
        if name in variables:
            variable = "" if variables[name] == key else f", as `{variables[name]}`"
            meaning += f" Also read from the environment{variable}"
        shown = without if default is None else f"`{json.dumps(default) if isinstance(default, str) else default}`"
        lines.append(f"| `{key}` | {kind} | {meaning.removesuffix('.')} | {shown} |")
    return "\n".join(lines) + "\n"


def _meanings() -> Iterator[tuple[str, tuple[str, str]]]:
    """The name of each setting, its meaning, and what holds without it."""
    for name, text in _documented("settings", "Settings"):
        if name == "timeouts":
            for below, meaning in _documented("http/answer", "Timeouts"):
                yield f"{below}_timeout", _in_one_line(meaning)
        else:
            yield name, _in_one_line(text)


def _documented(module: str, name: str) -> Iterator[tuple[str, str]]:
    (body,) = (node.body for node in tree(module).body if isinstance(node, ast.ClassDef) and node.name == name)
    for field, below in zip(body, [*body[1:], ast.Pass()], strict=True):
        if isinstance(field, ast.AnnAssign):
            text = ast.literal_eval(below.value) if isinstance(below, ast.Expr) else ""
            yield ast.unparse(field.target), text


def _in_one_line(text: str) -> tuple[str, str]:
    """The meaning, and what is said behind "None:".

    >>> _in_one_line("A number.\\n    None: a million.")
    ('A number.', 'a million')
    """
    meaning, _, without = " ".join(text.split()).partition("None: ")
    return to_markdown(meaning), to_markdown(without.removesuffix("."))


def _arguments() -> dict[str, tuple[str, object]]:
    """The type and the default of each setting, as ``init_app`` has them."""
    (methods,) = (node.body for node in tree("extension").body if isinstance(node, ast.ClassDef))
    (arguments,) = (node.args for node in methods if isinstance(node, ast.FunctionDef) and node.name == "init_app")
    found = {}
    for argument, default in zip(reversed(arguments.args), reversed(arguments.defaults), strict=False):
        assert argument.annotation is not None
        kinds = [kind for kind in ast.unparse(argument.annotation).split(" | ") if kind != "None"]
        # Also 24 * 3600.
        value = eval(ast.unparse(default), {"__builtins__": {}})
        found[argument.arg] = (" or ".join(f"`{kind}`" for kind in kinds), value)
    return found


def _environment() -> dict[str, str]:
    """The settings that an environment variable may give, and its name."""
    for node in tree("settings").body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "_ENVIRONMENT" and node.value is not None:
            return dict(ast.literal_eval(node.value))
    raise ValueError("settings.py: there is no _ENVIRONMENT")
