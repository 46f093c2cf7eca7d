"""Events with a type, written for programs in other languages: TypeScript and JSON Schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from .shapes import AnyOf, ListOf, MapOf, OneOf, Record, Scalar, Shape, TupleOf

MAP: Final = "MercureEvents"
"""The name of the type that has all events."""


def typescript(events: Mapping[str, Record]) -> str:
    """A module with an interface for each class, and ``MercureEvents``: the data of each type of event.

    >>> from dataclasses import dataclass
    >>> from flask_mercure_sse.shapes import Shapes
    >>> @dataclass
    ... class OrderPaid:
    ...     total: int
    >>> print(typescript({"order-paid": Shapes({}).read(OrderPaid)}), end="")
    // Written by "flask mercure types": change the Python classes instead.
    <BLANKLINE>
    export interface OrderPaid {
      total: number;
    }
    <BLANKLINE>
    export interface MercureEvents {
      "order-paid": OrderPaid;
    }
    """
    names = _names(events.values())
    parts = ['// Written by "flask mercure types": change the Python classes instead.\n']
    for record, name in names.items():
        lines = [
            f"  {_key(key)}{'' if is_required else '?'}: {_typescript(shape, names)};\n"
            for key, (shape, is_required) in record.fields.items()
        ]
        parts.append(f"export interface {name} {{\n{''.join(lines)}}}\n")
    lines = [f"  {json.dumps(name, ensure_ascii=False)}: {names[record]};\n" for name, record in events.items()]
    return "\n".join([*parts, f"export interface {MAP} {{\n{''.join(lines)}}}\n"])


def _typescript(shape: Shape, names: Mapping[Record, str]) -> str:
    if isinstance(shape, Scalar):
        return "number" if shape.json == "integer" else shape.json
    if isinstance(shape, OneOf):
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in shape.values) or "never"
    if isinstance(shape, ListOf):
        item = _typescript(shape.item, names)
        return f"({item})[]" if " | " in item else f"{item}[]"
    if isinstance(shape, TupleOf):
        return f"[{', '.join(_typescript(each, names) for each in shape.items)}]"
    if isinstance(shape, MapOf):
        return f"Record<string, {_typescript(shape.item, names)}>"
    if isinstance(shape, AnyOf):
        return " | ".join(dict.fromkeys(_typescript(each, names) for each in shape.options))
    return names[shape] if isinstance(shape, Record) else "unknown"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) else json.dumps(name, ensure_ascii=False)


def json_schema(events: Mapping[str, Record]) -> str:
    """A JSON Schema (2020-12) of an object with one property for each type of event, which is the event's data.

    >>> from dataclasses import dataclass
    >>> from flask_mercure_sse.shapes import Shapes
    >>> @dataclass
    ... class OrderPaid:
    ...     total: int
    >>> document = json.loads(json_schema({"order-paid": Shapes({}).read(OrderPaid)}))
    >>> document["properties"], document["$defs"]["OrderPaid"]["properties"]
    ({'order-paid': {'$ref': '#/$defs/OrderPaid'}}, {'total': {'type': 'integer'}})
    """
    names = _names(events.values())
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": MAP,
        "type": "object",
        "properties": {name: _schema(record, names) for name, record in events.items()},
        "$defs": {
            name: {
                "type": "object",
                "properties": {key: _schema(shape, names) for key, (shape, _) in record.fields.items()},
                "required": [key for key, (_, is_required) in record.fields.items() if is_required],
            }
            for record, name in names.items()
        },
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _schema(shape: Shape, names: Mapping[Record, str]) -> dict[str, Any]:
    if isinstance(shape, Scalar):
        return {"type": shape.json, **({"format": shape.format} if shape.format else {})}
    if isinstance(shape, OneOf):
        return {"type": "null"} if shape.values == (None,) else {"enum": list(shape.values)}
    if isinstance(shape, ListOf):
        return {"type": "array", "items": _schema(shape.item, names)}
    if isinstance(shape, TupleOf):
        items = [_schema(each, names) for each in shape.items]
        # An empty list of schemas is none.
        given = {"prefixItems": items} if items else {}
        return {"type": "array", **given, "minItems": len(items), "maxItems": len(items)}
    if isinstance(shape, MapOf):
        return {"type": "object", "additionalProperties": _schema(shape.item, names)}
    if isinstance(shape, AnyOf):
        return {"anyOf": [_schema(each, names) for each in shape.options]}
    return {"$ref": f"#/$defs/{names[shape]}"} if isinstance(shape, Record) else {}


_TAKEN: Final = frozenset(
    f"""
    {MAP} Record
    any bigint boolean never null number object string symbol undefined unknown void
    break case catch class const continue debugger default delete do else enum export extends false finally for function
    if implements import in instanceof interface let new package private protected public return static super switch
    this throw true try typeof var while with yield
    """.split()
)
"""Names that the module uses itself, and names that TypeScript does not give to interfaces."""


def _names(records: Iterable[Record]) -> dict[Record, str]:
    """All classes, also those inside of others, each with a name of its own."""
    found: dict[Record, str] = {}
    for record in records:
        _collect(record, found)
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _collect(shape: Shape, found: dict[Record, str]) -> None:
    if isinstance(shape, Record):
        if shape in found:
            return
        # A generic model is called Page[int].
        number, plain = 1, re.sub(r"\W+", "_", shape.name).strip("_")
        name = plain
        while name in found.values() or name in _TAKEN:
            number += 1
            name = f"{plain}{number}"
        found[shape] = name
        inside = [each for each, _ in shape.fields.values()]
    elif isinstance(shape, (ListOf, MapOf)):
        inside = [shape.item]
    elif isinstance(shape, TupleOf):
        inside = list(shape.items)
    else:
        inside = list(shape.options) if isinstance(shape, AnyOf) else []
    for each in inside:
        _collect(each, found)
