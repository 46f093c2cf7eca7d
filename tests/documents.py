"""The pages of the documentation, and the code in them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from flask import Flask

DOCS = Path(__file__).parent.parent / "docs"


class Document:
    """A page below docs/.

    Args:
        name: its path in docs/, without ``.md``.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = (DOCS / f"{name}.md").read_text(encoding="utf-8")

    def blocks(self, language: str) -> list[str]:
        """Its blocks of code in a language, in their order."""
        return re.findall(rf"^```{language}(?: [^\n]*)?\n(.*?)^```", self.text, re.DOTALL | re.MULTILINE)

    def block(self, language: str, part: str) -> str:
        """Its one block with a part."""
        (found,) = (block for block in self.blocks(language) if part in block)
        return found

    def named(self, name: str) -> str:
        """Its block behind the comment ``<!-- name -->``."""
        (found,) = re.findall(rf"^<!-- {re.escape(name)} -->\n```\w+\n(.*?)^```", self.text, re.DOTALL | re.MULTILINE)
        return found


def post_all(app: Flask) -> None:
    """Calls each view of a page that answers POST and needs nothing, in their order."""
    rules = {rule.endpoint: rule for rule in app.url_map.iter_rules()}
    for endpoint in app.view_functions:
        rule = rules[endpoint]
        if "." not in endpoint and "POST" in (rule.methods or ()) and not rule.arguments:
            answer = app.test_client().post(rule.rule)
            assert answer.status_code < 300, (rule.rule, answer.text)


def calls_at_import(code: str) -> Iterator[str]:
    """The calls of methods that a module makes while it is imported: outside of functions.

    >>> list(calls_at_import("a.b(1)\\ndef f(): a.c()\\nwith a.d() as e: e.f.g()"))
    ['a.b', 'a.d', 'e.f.g']
    """
    found: list[ast.AST] = [ast.parse(code)]
    while found:
        node = found.pop(0)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield ast.unparse(node.func)
        found = [*ast.iter_child_nodes(node), *found]


def pages() -> list[Document]:
    """All but the reference, which is written from the code: its examples are run there."""
    names = sorted(path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.glob("**/*.md"))
    return [Document(name) for name in names if not name.startswith("reference/")]
