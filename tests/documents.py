"""The pages of the documentation, and the code in them."""

from __future__ import annotations

import re
from pathlib import Path

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


def pages() -> list[Document]:
    """All but the reference, which is written from the code: its examples are run there."""
    names = sorted(path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.glob("**/*.md"))
    return [Document(name) for name in names if not name.startswith("reference/")]
