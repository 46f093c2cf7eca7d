"""Finds source files that import each other in a circle: ``python3 tools/circles.py [ROOT]``.

A file in a circle cannot be read, tested or moved by itself. So there is no circle, neither in a crate nor in the
Python package, and ``make check`` fails if one appears. Each circle is printed with the imports that tie it.

What counts as an import:

- in Rust, each ``use``, and each path that begins with ``crate::``, ``super::`` or ``self::``;
- in Python, each import of a module of the same package, also inside a function.

A name that ``lib.rs``, ``mod.rs`` or ``__init__.py`` only hands on counts as an import of the file that defines it.
The imports of these files do not count, because a folder imports its files by nature. Nor do the imports of test
modules in Rust, and those under ``if TYPE_CHECKING`` in Python.

Sources are read as text, and nothing is compiled: imports that a macro writes are not seen."""

from __future__ import annotations

import ast
import itertools
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent

Module = tuple[str, ...]
"""The path of a module in its crate or package: ``("token", "jws")``."""


class Tie(NamedTuple):
    """One file imports a name of another."""

    importer: Path
    imported: Path
    name: str


def find(root: Path) -> dict[str, list[list[Tie]]]:
    """The circles of each crate and of each Python package, by its name: each circle as the ties in it."""
    crates = [path.parent for path in sorted(root.glob("crates/*/Cargo.toml"))]
    packages = [path.parent for path in sorted(root.glob("python/*/__init__.py"))]
    ties = {crate.name: set(rust_ties(crate / "src")) for crate in crates}
    ties |= {package.name: set(python_ties(package)) for package in packages}
    return {name: circles(of_folder) for name, of_folder in ties.items()}


def circles(ties: Iterable[Tie]) -> list[list[Tie]]:
    """The ties within each group of files that reach each other: the strongly connected components."""
    ties = sorted(ties)
    imports: dict[Path, set[Path]] = defaultdict(set)
    for importer, imported, _ in ties:
        imports[importer].add(imported)

    def reached(start: Path) -> set[Path]:
        seen: set[Path] = set()
        ahead = [start]
        while ahead:
            new = imports[ahead.pop()] - seen
            seen |= new
            ahead += new
        return seen

    reach = {file: reached(file) for file in list(imports)}
    groups = {frozenset(other for other in reach[file] if file in reach.get(other, ())) for file in reach}
    return [
        [tie for tie in ties if {tie.importer, tie.imported} <= group] for group in sorted(groups, key=sorted) if group
    ]


# Rust


def rust_ties(src: Path) -> Iterator[Tie]:
    files: dict[Module, Path] = {}
    for file in sorted(src.rglob("*.rs")):
        parts = file.relative_to(src).with_suffix("").parts
        files[parts[:-1] if parts[-1] in ("lib", "main", "mod") else parts] = file
    codes = {module: code_of(file.read_text(encoding="utf-8")) for module, file in files.items()}
    handed_on: dict[Module, Module] = {}
    for module, code in codes.items():
        for tree in re.findall(r"\bpub(?:\([^)]*\))?\s+use\s+([^;]+);", code):
            for path, name in paths_in(tree):
                target = absolute(path, module) or module + path
                if target != (*module, name):
                    handed_on[(*module, name)] = target
    for module, code in codes.items():
        if files[module].stem in ("lib", "main", "mod"):
            continue
        used = [path for tree in re.findall(r"\buse\s+([^;]+);", code) for path, _ in paths_in(tree)]
        body = re.sub(r"\buse\s+[^;]+;", "", code)
        used += [tuple(text.split("::")) for text in re.findall(r"\b(?:crate|super|self)(?:::\w+)+", body)]
        for path in used:
            inside = absolute(path, module)
            defined = defining_file(inside, files, handed_on) if inside else None
            if defined and defined != files[module]:
                yield Tie(files[module], defined, path[-1])


def code_of(text: str) -> str:
    """The text without comments, literals, and items that are compiled for tests only."""
    tokens = r'//[^\n]*|/\*.*?\*/|\bb?r(#*)".*?"\1|"(?:\\.|[^"\\])*"|\'(?:\\[^\n]+?|[^\\\n])\''
    code = re.sub(tokens, " ", text, flags=re.S)
    while found := re.search(r"#\[cfg\((?:all\()?test\b[^\]]*\]", code):
        code = code[: found.start()] + code[end_of_item(code, found.end()) :]
    return code


def end_of_item(code: str, start: int) -> int:
    """Where the item that begins at ``start`` ends: behind its ``;``, or behind its last brace."""
    depth = 0
    for at in range(start, len(code)):
        match code[at]:
            case "{" | "(" | "[":
                depth += 1
            case "}" | ")" | "]":
                depth -= 1
                # A `use` goes on behind its braces.
                if depth == 0 and code[at] == "}" and not code[at + 1 :].lstrip().startswith(";"):
                    return at + 1
            case ";" if depth == 0:
                return at + 1
    return len(code)


def paths_in(tree: str) -> Iterator[tuple[Module, str]]:
    """The paths in a use tree, each with the name that it gives: those of ``a::{b, c as d}`` are ``b`` and ``d``."""
    tree = tree.strip()
    brace = tree.find("{")
    if brace < 0:
        text, _, renamed = (part.strip() for part in tree.partition(" as "))
        parts = tuple(part.strip() for part in text.split("::") if part.strip())
        if parts:
            yield parts, renamed or parts[-1]
        return
    prefix = tuple(part.strip() for part in tree[:brace].split("::") if part.strip())
    for branch in branches(tree[brace + 1 : tree.rindex("}")]):
        for path, name in paths_in(branch):
            whole = prefix + (() if path == ("self",) else path)
            yield whole, whole[-1] if name == "self" else name


def branches(trees: str) -> Iterator[str]:
    """The parts between the commas outside braces."""
    depth = start = 0
    for at, character in enumerate(trees + ","):
        depth += (character == "{") - (character == "}")
        if character == "," and depth == 0:
            if trees[start:at].strip():
                yield trees[start:at]
            start = at + 1


def absolute(path: Module, module: Module) -> Module | None:
    """The path from the root of the crate. None: it leads into another crate."""
    match path:
        case ("crate", *rest):
            return tuple(rest)
        case ("self", *rest):
            return module + tuple(rest)
        case ("super", *_):
            ups = next((n for n, part in enumerate(path) if part != "super"), len(path))
            return module[: len(module) - ups] + path[ups:]
    return None


def defining_file(path: Module, files: dict[Module, Path], handed_on: dict[Module, Module]) -> Path | None:
    """The file with the item that a path from the root names, through all that only hand its name on."""
    for _ in range(8):
        prefixes = [path[:length] for length in range(len(path), 0, -1)]
        renamed = next((prefix for prefix in prefixes if prefix in handed_on and prefix not in files), None)
        if renamed is None:
            return next((files[prefix] for prefix in prefixes if prefix in files), None)
        path = handed_on[renamed] + path[len(renamed) :]
    return None


# Python


def python_ties(package: Path) -> Iterator[Tie]:
    files = {module_of(file, package): file for file in sorted(package.rglob("*.py"))}
    imports = {module: list(imports_in(file, module, package.name)) for module, file in files.items()}
    handed_on = {
        (*module, name): (*target, name)
        for module, file in files.items()
        if file.name == "__init__.py"
        for target, name in imports[module]
        if target != module
    }
    for module, file in files.items():
        if file.name == "__init__.py":
            continue
        for target, name in imports[module]:
            found = defining_file((*target, name), files, handed_on)
            if found and found != file and found.name != "__init__.py":
                yield Tie(file, found, name)


def module_of(file: Path, package: Path) -> Module:
    parts = file.relative_to(package).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports_in(file: Path, module: Module, package: str) -> Iterator[tuple[Module, str]]:
    """The modules of the package that a file imports from, each with a name."""
    folder = module if file.name == "__init__.py" else module[:-1]
    for node in nodes_at_run_time(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for name in (alias.name.split(".") for alias in node.names):
                if name[0] == package and len(name) > 1:
                    yield tuple(name[1:-1]), name[-1]
        elif isinstance(node, ast.ImportFrom):
            path = tuple(node.module.split(".")) if node.module else ()
            if node.level:
                path = folder[: len(folder) - node.level + 1] + path
            elif path[:1] == (package,):
                path = path[1:]
            else:
                continue
            for alias in node.names:
                yield path, alias.name


def nodes_at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from nodes_at_run_time(child)


def main(root: Path = ROOT) -> int:
    """Prints all circles. 1: there is one."""
    circles_of = find(root)
    for name, found in circles_of.items():
        for ties in found:
            files = sorted({file for tie in ties for file in (tie.importer, tie.imported)})
            print(f"{name}: {len(files)} files import each other:")
            for (importer, imported), group in itertools.groupby(ties, key=lambda tie: tie[:2]):
                names = ", ".join(tie.name for tie in group)
                print(f"  {importer.relative_to(root)} imports {names} of {imported.relative_to(root)}")
    return 1 if any(circles_of.values()) else 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:2])))
