"""The page of the Rust crates: what each is, from its manifest and its first words."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:  # the tools run with the Python of the project's own environment, which may be 3.10
    from pip._vendor import tomli as tomllib

ROOT = Path(__file__).parent.parent.parent
ORDER = ("protocol", "auth", "hub", "transports", "server", "petasos", "python")


def page() -> str:
    manifests = {name: _read(name) for name in ORDER}
    folders = {path.parent.name for path in ROOT.glob("crates/*/Cargo.toml")}
    if folders != set(ORDER):
        raise ValueError(f"tools/reference/crates.py: give a place to {sorted(folders ^ set(ORDER))}")
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))["workspace"]["package"]
    own = {manifest["package"]["name"] for manifest in manifests.values()}
    parts = [
        "# Rust crates\n",
        "The hub is a workspace of crates. A crate knows only crates above it in the table. All have the same version, "
        f"and need Rust {workspace['rust-version']} or later.\n",
        "| Crate | What it is | Knows |",
        "| --- | --- | --- |",
    ]
    for name, manifest in manifests.items():
        package = manifest["package"]
        known = [each for each in manifest.get("dependencies", {}) if each in own]
        link = f"[`{package['name']}`](../../crates/{name})"
        parts.append(f"| {link} | {package['description']} | {', '.join(f'`{each}`' for each in known)} |")
    parts += [
        "",
        "`cargo doc --workspace --no-deps --open` shows the documentation of all items; each example in it is a test.",
        "[ARCHITECTURE.md](../../ARCHITECTURE.md) is the map of the files.\n",
    ]
    for name, manifest in manifests.items():
        parts += [f"## {manifest['package']['name']}\n", f"{_opening(name)}\n"]
        features = _features(name, manifest)
        if features:
            parts += ["| Feature | Meaning |", "| --- | --- |", *features, ""]
    return "\n".join(parts)


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / "crates" / name / "Cargo.toml").read_text(encoding="utf-8"))


def _opening(name: str) -> str:
    """The text at the top of the crate, up to its first example."""
    source = ROOT / "crates" / name / "src"
    path = source / ("lib.rs" if (source / "lib.rs").exists() else "main.rs")
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("//!") or line.startswith("//! ```"):
            break
        lines.append(line.removeprefix("//!").removeprefix(" "))
    text = "\n".join(lines).strip()
    # Links to items lead somewhere in rustdoc only.
    text = re.sub(r"\[(`?[^]]+`?)\]\([\w:.()]+\)", r"\1", text)
    return re.sub(r"\[(`[^]`]+`)\]", r"\1", text)


def _features(name: str, manifest: dict[str, Any]) -> list[str]:
    """A feature and the comment behind it, which is what the manifest says of it."""
    text = (ROOT / "crates" / name / "Cargo.toml").read_text(encoding="utf-8")
    rows = []
    for feature in manifest.get("features", {}):
        found = re.search(rf"^{re.escape(feature)} = .*?# (.*)$", text, re.MULTILINE)
        if found:
            rows.append(f"| `{feature}` | {found[1]} |")
    return rows
