"""The page of the Python API: every public name of the package, from its source. Nothing is imported or run."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from docstrings import to_markdown

PACKAGE = Path(__file__).parent.parent.parent / "python" / "flask_mercure_sse"
LINE = 100
"""Characters of a line of a signature. A longer one gets a line for each parameter."""

SECTIONS = {
    "The extension": [("", "MercureSSE")],
    "Topics": [("", name) for name in ("topic", "as_topic", "Selector", "URLPattern")],
    "Signals": [("", name) for name in ("publish_signal", "subscriber_connected", "subscriber_disconnected")],
    "What it returns": [("", name) for name in ("Event", "Subscription", "Update", "Stats", "BackgroundStats")],
    "Exceptions": [
        ("", name)
        for name in (
            "MercureError",
            "HubUnreachableError",
            "HubTimeoutError",
            "HubConnectTimeoutError",
            "TokenRefusedError",
            "ForbiddenTopicError",
            "InvalidUpdateError",
            "HubError",
        )
    ],
    "Models of SQLAlchemy": [("models", "Broadcasts")],
    "Turbo": [("turbo", "Turbo")],
    "Datastar": [("datastar", "Datastar")],
    "Tests": [("testing", name) for name in ("HubForTests", "Subscriber", "subscriber")],
    "Fixtures of pytest": [("pytest_plugin", "mercure_hub"), ("pytest_plugin", "mercure_subscriber")],
    "Below the extension": [
        ("", name)
        for name in (
            "Hub",
            "MercureSSEState",
            "mercure_publish",
            "hub_blueprint",
            "get_subscription_id",
            "format_subscriptions_response",
            "HUB_URL_FROM_REQUEST",
            "__version__",
        )
    ],
}
OPENING = """# Python API

All public names, from their docstrings. [The guide](../flask.md) says which of them to use for what. The examples run
in the tests. A name is imported from `flask_mercure_sse`, unless a line below its heading says otherwise.
"""


@dataclass
class Found:
    """A definition, and the string below it if it is a value."""

    node: ast.stmt
    docstring: str | None


def page() -> str:
    """
    Raises:
        ValueError: a public name has no place, or a place has a name that is not public.
    """
    names = {name for found in SECTIONS.values() for module, name in found if not module}
    if names != set(public_names()):
        raise ValueError(f"tools/reference/python_api.py: give a place to {sorted(names ^ set(public_names()))}")
    parts = [OPENING]
    for title, entries in SECTIONS.items():
        parts.append(f"## {title}\n")
        for module, name in entries:
            home = module or imports()[name]
            parts += describe(home, name, f"flask_mercure_sse.{module}" if module else "flask_mercure_sse")
    return "\n".join(parts)


@cache
def tree(module: str) -> ast.Module:
    path = PACKAGE / f"{module}.py"
    return ast.parse((path if path.exists() else path.with_suffix(".pyi")).read_text(encoding="utf-8"))


def public_names() -> list[str]:
    (names,) = (
        node.value
        for node in tree("__init__").body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    return list(ast.literal_eval(names))


@cache
def imports() -> dict[str, str]:
    """The module that each public name comes from."""
    home = {
        alias.name: node.module or ""
        for node in tree("__init__").body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    # hub.py and blueprint.py hand names on.
    return {**home, "Hub": "_native"}


def find(module: str, name: str) -> Found:
    body = tree(module).body
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == name:
            return Found(node, ast.get_docstring(node))
        if isinstance(node, (ast.AnnAssign, ast.Assign)):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if ast.unparse(target) == name:
                return Found(node, _string(following))
    raise ValueError(f"{module}: there is no {name}")


def describe(module: str, name: str, public: str) -> list[str]:
    found = find(module, name)
    node, text = found.node, to_markdown(found.docstring)
    parts = [f"### {name}\n"]
    if public != "flask_mercure_sse" and not _is_fixture(node):
        parts.append(_code(f"from {public} import {name}"))
    if isinstance(node, ast.ClassDef):
        return [*parts, *_class(node, text)]
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        if not _is_fixture(node):
            parts.append(_code(signature(node)))
        return [*parts, f"{text}\n"]
    return [*parts, f"{text}\n"] if text else parts


def _class(node: ast.ClassDef, text: str) -> list[str]:
    bases = [ast.unparse(base) for base in node.bases]
    parts = [f"{text}\n"]
    if any(base.endswith("Error") or base == "Exception" for base in bases):
        parts.insert(0, f"A subclass of {' and '.join(f'`{base}`' for base in bases)}.\n")
    fields = []
    for member, following in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(member, ast.AnnAssign) and not ast.unparse(member.target).startswith("_"):
            meaning = to_markdown(_string(following)).replace("\n\n", " ")
            kind = re.sub(r"^Final\[(.*)\]$", r"\1", ast.unparse(member.annotation))
            fields.append(f"- `{ast.unparse(member.target)}: {kind}`{f': {meaning}' if meaning else ''}")
    if fields:
        parts += ["Attributes:\n", "\n".join(fields) + "\n"]
    for member in node.body:
        if not isinstance(member, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if member.name in ("__init__", "__new__", "__call__"):
            if member.name == "__call__" or not _takes_nothing(member):
                text = to_markdown(ast.get_docstring(member))
                parts += [_code(signature(member, node.name)), *([f"{text}\n"] if text else [])]
        # A public method without a docstring is there for the package itself.
        elif not member.name.startswith("_") and not _is_setter(member) and ast.get_docstring(member):
            parts += _member(node.name, member)
    return parts


def _member(owner: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    text = to_markdown(ast.get_docstring(node))
    heading = f"#### {owner}.{node.name}\n"
    if any(ast.unparse(each) in ("property", "cached_property") for each in node.decorator_list):
        kind = f"{node.name}: {ast.unparse(node.returns)}" if node.returns else node.name
        return [heading, _code(kind), *([f"{text}\n"] if text else [])]
    return [heading, _code(signature(node)), *([f"{text}\n"] if text else [])]


def signature(node: ast.FunctionDef | ast.AsyncFunctionDef, class_name: str | None = None) -> str:
    """As a caller reads it: without self. ``class_name``: it makes an object of that class, or is its call."""
    is_static = any(ast.unparse(each) == "staticmethod" for each in node.decorator_list)
    arguments = ast.arguments(**{name: getattr(node.args, name) for name in node.args._fields})
    if not is_static and arguments.args and arguments.args[0].arg in ("self", "cls"):
        arguments.args = arguments.args[1:]
    made = class_name is not None and node.name != "__call__"
    name = class_name or node.name
    returns = "" if made or node.returns is None else f" -> {ast.unparse(node.returns)}"
    start = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    parameters = _parameters(arguments)
    whole = f"{start}{name}({', '.join(parameters)}){returns}"
    if len(whole) <= LINE:
        return whole
    lines = "".join(f"    {part},\n" for part in parameters)
    return f"{start}{name}(\n{lines}){returns}"


def _parameters(arguments: ast.arguments) -> list[str]:
    """Each parameter as it is written, and the marks / and * between them."""
    text, depth, parts, begin = ast.unparse(arguments), 0, list[str](), 0
    for at, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append(text[begin:at].strip())
            begin = at + 1
    return [_spaced(part) for part in [*parts, text[begin:].strip()] if part]


def _spaced(parameter: str) -> str:
    """With spaces around the sign of a default, as PEP 8 has it where there is a type."""
    name, colon, rest = parameter.partition(": ")
    kind, sign, default = rest.partition("=")
    return f"{name}{colon}{kind} = {default}" if sign else parameter


def _string(node: ast.stmt | None) -> str | None:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return node.value.value
    return None


def _takes_nothing(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    given = node.args
    return len(given.args) <= 1 and not given.kwonlyargs and given.vararg is None and given.kwarg is None


def _is_fixture(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and any("fixture" in ast.unparse(each) for each in node.decorator_list)


def _is_setter(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(ast.unparse(each).endswith(".setter") for each in node.decorator_list)


def _code(text: str) -> str:
    return f"```python\n{text}\n```\n"
