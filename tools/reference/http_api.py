"""The page of the HTTP API, from docs/reference/openapi.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

SOURCE = Path(__file__).parent.parent.parent / "docs" / "reference" / "openapi.yaml"
OPENING = """# HTTP API

What a hub answers, from its [OpenAPI document](openapi.yaml), which other tools can read. The tests send each request
to a running hub and compare the answers.

{description}
"""


def page() -> str:
    document = yaml.safe_load(SOURCE.read_text(encoding="utf-8"))
    parts = [OPENING.format(description=document["info"]["description"].strip())]
    parts += ["## Tokens\n", *_tokens(document)]
    for tag in document["tags"]:
        parts.append(f"## {tag['name']}\n")
        if "description" in tag:
            parts.append(f"{tag['description']}\n")
        for path, item in document["paths"].items():
            for method, operation in item.items():
                if method not in ("servers", "parameters") and tag["name"] in operation["tags"]:
                    parts += _operation(document, method, path, operation)
    parts += ["## Problems\n", *_problems(document), "## Documents\n"]
    for name, schema in document["components"]["schemas"].items():
        if name not in ("Update", "Problem"):
            parts += [f"### {name}\n", *_schema(document, schema)]
    return "\n".join(parts).rstrip("\n") + "\n"


def _tokens(document: dict[str, Any]) -> list[str]:
    rows = ["| Scheme | Where | Meaning |", "| --- | --- | --- |"]
    for name, scheme in document["components"]["securitySchemes"].items():
        where = f"cookie `{scheme['name']}`" if scheme["type"] == "apiKey" else "field `Authorization: Bearer …`"
        rows.append(f"| {name} | {where} | {scheme['description']} |")
    return [*rows, ""]


def _operation(document: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> list[str]:
    parts = [f"### {operation['operationId']}\n", f"`{method.upper()} {path}`\n", f"{operation['summary']}\n"]
    if "description" in operation:
        parts.append(f"{operation['description'].strip()}\n")
    schemes = [name for need in operation.get("security", document["security"]) for name in need]
    optional = {} in operation.get("security", document["security"])
    if schemes:
        needed = "can have a token" if optional else "needs a token"
        parts.append(f"It {needed}: {' or '.join(schemes)}.\n")
    rows = [
        f"| `{given['name']}` | {given['in']} | {given['description']} |"
        for given in (_resolved(document, each) for each in operation.get("parameters", []))
    ]
    if "requestBody" in operation:
        ((kind, content),) = operation["requestBody"]["content"].items()
        schema = _resolved(document, content["schema"])
        rows += [f"| `{name}` | form | {each['description']} |" for name, each in schema["properties"].items()]
        parts.append(f"The body is `{kind}`.\n")
    if rows:
        parts += ["| Parameter | In | Meaning |", "| --- | --- | --- |", *rows, ""]
    parts += ["| Status | Content type | Header fields | Meaning |", "| --- | --- | --- | --- |"]
    for status, response in operation["responses"].items():
        answer = _resolved(document, response)
        kinds = ", ".join(f"`{kind}`" for kind in answer.get("content", {}))
        fields = ", ".join(f"`{name}`" for name in answer.get("headers", {}) if name != "Cache-Control")
        parts.append(f"| {status} | {kinds} | {fields} | {answer['description']} |")
    return [*parts, ""]


def _problems(document: dict[str, Any]) -> list[str]:
    schema = document["components"]["schemas"]["Problem"]
    rows = [
        f"| `{name}` | {each.get('description', 'What it is, such as `urn:petasos:problem:topic-missing`.')} |"
        for name, each in schema["properties"].items()
    ]
    ends = ", ".join(f"`{each.rpartition(':')[2]}`" for each in schema["properties"]["type"]["enum"])
    table = ["| Member | Meaning |", "| --- | --- |", *rows, ""]
    return [f"{schema['description']}\n", *table, f"After `urn:petasos:problem:`, `type` ends with one of {ends}.\n"]


def _schema(document: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    parts = [f"{schema['description']}\n"] if "description" in schema else []
    required = schema.get("required", [])
    parts += ["| Member | Type | Always there | Meaning |", "| --- | --- | --- | --- |"]
    for name, each in schema["properties"].items():
        always = "yes" if name in required else "no"
        parts.append(f"| `{name}` | {_type(each)} | {always} | {_resolved(document, each).get('description', '')} |")
    return [*parts, ""]


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in schema:
        return f"`{str(schema['const']).lower() if isinstance(schema['const'], bool) else schema['const']}`"
    if "enum" in schema:
        return " or ".join(f"`{each}`" for each in schema["enum"])
    if schema.get("type") == "array":
        return f"array of {_type(schema['items'])}"
    return str(schema.get("type", "any value"))


def _resolved(document: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in part:
        names = part["$ref"].removeprefix("#/").split("/")
        part = document
        for name in names:
            part = part[name]
    return part
