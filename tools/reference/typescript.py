"""The page of the client for pages: every exported type, from client/src, with the comments in front of them."""

from __future__ import annotations

import re
from pathlib import Path

SOURCE = Path(__file__).parent.parent.parent / "client" / "src"
_EXPORT = re.compile(r'^export type \{ ([^}]+) \} from "\./(.+)\.js";$', re.MULTILINE)
OPENING = """# Client API

All exported names of `petasos-client`, from its source. [The client's own README](../../client/README.md) says in words
what it does, and [In the page](../frontend.md) how the adapters are used.

```js
import { subscribe } from "petasos-client";
```
"""


def page() -> str:
    index = (SOURCE / "index.ts").read_text(encoding="utf-8")
    parts = [OPENING, _declaration(index, "subscribe")]
    exported = [(name.strip(), module) for names, module in _EXPORT.findall(index) for name in names.split(",")]
    order = ["Subscription", "MercureEvent", "Options"]
    exported.sort(key=lambda pair: (order.index(pair[0]) if pair[0] in order else len(order), pair[0]))
    for name, module in exported:
        parts.append(_declaration((SOURCE / f"{module}.ts").read_text(encoding="utf-8"), name))
        if name == "Options":
            parts.append(_declaration((SOURCE / "stream.ts").read_text(encoding="utf-8"), "Connecting"))
    parts.append("## Adapters\n")
    for path in sorted((SOURCE / "adapters").glob("*.ts")):
        comment = _comment(path.read_text(encoding="utf-8"), 0)
        parts.append(f"- `petasos-client/{path.stem}`: {' '.join(comment.split())}")
    return "\n".join(parts) + "\n"


def _declaration(source: str, name: str) -> str:
    found = re.search(rf"^export (?:interface|type|function|class) {name}\b", source, re.MULTILINE)
    if found is None:
        raise ValueError(f"tools/reference/typescript.py: there is no {name}")
    text = source[found.start() :].removeprefix("export ")
    end = _end(text)
    code, is_function = text[:end].rstrip(), text.startswith("function")
    if is_function:
        code = code.rstrip(" {") + ";"
    comment = _comment(source[: found.start()], -1)
    return f"## {name}\n\n{_prose(comment)}```ts\n{code}\n```\n"


def _end(text: str) -> int:
    """Where a declaration ends: a function before its body, another one with its last bracket or semicolon."""
    if text.startswith("function"):
        return re.search(r"\{$", text, re.MULTILINE).start()  # type: ignore[union-attr]
    if text.startswith("interface"):
        return re.search(r"^\}", text, re.MULTILINE).end()  # type: ignore[union-attr]
    return re.search(r";$", text, re.MULTILINE).end()  # type: ignore[union-attr]


def _comment(source: str, which: int) -> str:
    """The first (0) or last (-1) comment of the source; for the last one, only if nothing follows it."""
    found = list(re.finditer(r"/\*\*(.*?)\*/", source, re.DOTALL))
    if not found or (which == -1 and source[found[-1].end() :].strip()):
        return ""
    return re.sub(r"^\s*\* ?", "", found[which][1], flags=re.MULTILINE).strip()


def _prose(comment: str) -> str:
    """Text, then its example, then what it takes."""
    if not comment:
        return ""
    parts = re.split(r"\n(?=@)", "\n" + comment)
    text = parts[0].strip()
    tags = []
    for part in parts[1:]:
        kind, _, rest = " ".join(part.split()).partition(" ")
        name, _, meaning = rest.partition(" ")
        words = {
            "@param": f"`{name}`: {meaning}",
            "@throws": f"throws `{name}`: {meaning}",
            "@returns": f"returns: {rest}",
        }
        tags.append(f"- {words.get(kind, rest)}")
    return "\n\n".join(part for part in (text, "\n".join(tags)) if part) + "\n\n"
