"""The public interface of the Python package as text: ``python3 tools/api.py`` prints it.

``tests/api.txt`` is the text that has been agreed on, and ``tests/test_api_signatures.py`` compares. ``make api``
writes the file again. A line that goes or changes may break applications: that needs its words in CHANGELOG.md, and a
new major version once there is a 1.0.

One line for each name: modules, functions with their signatures, classes with what they inherit, their methods,
properties and annotated attributes. Names that begin with an underscore are not public."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections.abc import Iterator
from importlib.util import find_spec, module_from_spec
from importlib.util import spec_from_file_location as find_spec_at
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
AGREED = ROOT / "tests" / "api.txt"
STUBS = ROOT / "python" / "flask_mercure_sse" / "_native.pyi"

MODULES: dict[str, list[str] | None] = {
    "": None,
    ".ext": None,
    ".testing": None,
    ".turbo": None,
    ".datastar": None,
    ".models": ["Broadcasts"],
}
"""What applications import from, and what attributes of the extension are. ``None``: all of ``__all__``, or what the
module defines itself."""


def lines() -> Iterator[str]:
    """The whole interface."""
    known: set[int] = set()
    for name, listed in MODULES.items():
        module = importlib.import_module(f"flask_mercure_sse{name}")
        yield f"module {module.__name__}"
        for public in sorted(listed or getattr(module, "__all__", None) or defined(module)):
            yield from described(public, getattr(module, public), module, known)
        yield ""


def defined(module: ModuleType) -> list[str]:
    """The public classes and functions that are written in a module."""
    names = [name for name in vars(module) if not name.startswith("_")]
    return [name for name in names if getattr(vars(module)[name], "__module__", "") == module.__name__]


def described(name: str, value: Any, module: ModuleType, known: set[int]) -> Iterator[str]:
    """A public name of a module. What another module has shown already is one line."""
    if inspect.isclass(value):
        if id(value) in known:
            yield f"  class {name}: see above"
            return
        known.add(id(value))
        bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
        yield f"  class {name}({bases})"
        members = stubs(name) if value.__module__.endswith("_native") else own_members(value)
        yield from (f"    {line}" for line in members)
    elif inspect.isroutine(value):
        yield f"  {name}{signature(value)}"
    elif isinstance(value, str) and not name.startswith("__"):
        yield f"  {name} = {value!r}"
    else:
        yield f"  {name}: {type(value).__name__}"


def own_members(cls: type) -> list[str]:
    """The members that a class or its private bases have written, in the order of their names."""
    found: dict[str, str] = {}
    for owner in reversed(cls.__mro__):
        is_ours = owner.__module__.startswith("flask_mercure_sse")
        if not is_ours:
            continue
        for name, text in inspect.get_annotations(owner).items():
            if not name.startswith("_"):
                found[name] = f"{name}: {text if isinstance(text, str) else inspect.formatannotation(text)}"
        for name, value in vars(owner).items():
            if name in ("__init__", "__call__") or not name.startswith("_"):
                found[name] = member(name, value) or found.get(name, "")
    return [found[name] for name in sorted(found) if found[name]]


def member(name: str, value: Any) -> str | None:
    """The line of a member. ``None``: its annotation says all."""
    if isinstance(value, property):
        assert value.fget is not None
        settable = " (settable)" if value.fset is not None else ""
        return f"property {name}{signature(value.fget, skip_first=True)}{settable}"
    if isinstance(value, (classmethod, staticmethod)):
        kind = type(value).__name__
        return f"{kind} {name}{signature(value.__func__, skip_first=kind == 'classmethod')}"
    if inspect.isfunction(value):
        return f"{name}{signature(value, skip_first=True)}"
    return None


def signature(function: Any, *, skip_first: bool = False) -> str:
    """Parameters with types and defaults. The same text on every version of Python."""
    try:
        whole = inspect.signature(function)
    except ValueError:
        return "(...)"
    parts: list[str] = []
    parameters = list(whole.parameters.values())[1 if skip_first else 0 :]
    has_star = False
    for number, parameter in enumerate(parameters):
        kind = parameter.kind
        if kind is parameter.KEYWORD_ONLY and not has_star:
            parts.append("*")
        has_star = has_star or kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        stars = "*" if kind is parameter.VAR_POSITIONAL else "**" if kind is parameter.VAR_KEYWORD else ""
        parts.append(stars + parameter.name + annotated(parameter.annotation, ": ") + default(parameter.default))
        following = parameters[number + 1 : number + 2]
        if kind is parameter.POSITIONAL_ONLY and [each.kind for each in following] != [kind]:
            parts.append("/")
    return f"({', '.join(parts)}){annotated(whole.return_annotation, ' -> ')}"


def annotated(annotation: Any, before: str) -> str:
    if annotation is inspect.Parameter.empty:
        return ""
    return before + (annotation if isinstance(annotation, str) else inspect.formatannotation(annotation))


def default(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return ""
    is_plain = value is None or isinstance(value, (bool, int, float, str, bytes, tuple))
    # The representation of other objects may hold an address.
    return f" = {value!r}" if is_plain else f" = <{type(value).__name__}>"


def stubs(name: str) -> list[str]:
    """The members of a compiled class, from the stubs."""
    tree = ast.parse(STUBS.read_text(encoding="utf-8"))
    found = []
    for node in tree.body:
        if not isinstance(node, ast.ClassDef) or node.name != name:
            continue
        for each in node.body:
            if not isinstance(each, ast.FunctionDef) or (each.name.startswith("_") and each.name != "__new__"):
                continue
            is_property = any(isinstance(one, ast.Name) and one.id == "property" for one in each.decorator_list)
            each.args.args = each.args.args[1:]
            returns = f" -> {ast.unparse(each.returns)}" if each.returns else ""
            found.append(f"{'property ' if is_property else ''}{each.name}({ast.unparse(each.args)}){returns}")
    return sorted(found)


def main(arguments: list[str]) -> int:
    text = "\n".join(lines()).rstrip() + "\n"
    if arguments == ["--write"]:
        AGREED.write_text(text, encoding="utf-8")
        print(f"{AGREED.relative_to(ROOT)} is written. What changed for users belongs into CHANGELOG.md.")
    else:
        print(text, end="")
    return 0


def take_the_tree() -> None:
    """Import the package from the tree, with the compiled module of the installed package."""
    installed = find_spec("flask_mercure_sse")
    if installed is None or installed.origin is None:
        sys.exit("the package is not installed: make test-python installs it")
    native = find_spec_at("flask_mercure_sse._native", next(Path(installed.origin).parent.glob("_native*.so")))
    assert native is not None
    assert native.loader is not None
    sys.modules[native.name] = module_from_spec(native)
    native.loader.exec_module(sys.modules[native.name])
    sys.path.insert(0, str(ROOT / "python"))


if __name__ == "__main__":
    take_the_tree()
    sys.exit(main(sys.argv[1:]))
