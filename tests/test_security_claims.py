"""What docs/security.md claims has its proof, and nobody compares secrets in a time that tells about them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCUMENT = (ROOT / "docs/security.md").read_text(encoding="utf-8")
MODEL = DOCUMENT.split("\n## What stops them\n")[1].split("\n## What nothing stops\n")[0]
ROWS = [line for line in MODEL.splitlines() if line.startswith("| ") and not line.startswith(("| attack ", "| --- "))]

# Names of things that others must not learn byte by byte.
SECRET = r"\w*(?:token|secret|password|passphrase|signature|digest|hmac|credential|cookie)"
COMPARISON = re.compile(
    # Comparing with an empty text tells nothing.
    rf"(?i)\b{SECRET}(?:\.\w+\(\))*\s*[!=]=(?!=)(?!\s*[\"']{{2}})|[!=]=\s*&?{SECRET}\b(?!\w*\()"
)

ALLOWED = {
    "crates/auth/src/key.rs: self.is_secret() && self.secret == other.secret": "two settings of one operator",
    "crates/auth/src/weakness.rs: || secret == RFC_7515": "a setting and a text that everybody knows",
    "crates/petasos/src/acme/challenges.rs: challenge.token == token": "a text that the authority shows to everybody",
    'crates/petasos/src/cli.rs: if token != "-"': "an argument and a sign for standard input",
    "crates/server/src/http/credentials.rs: found.all().any(|known| known == token)": "two tokens of one request",
    "python/flask_mercure_sse/authorization.py: if token != self._looked_at": "a setting and its former value",
    "python/flask_mercure_sse/client_files.py: is_kept = digest == folder_digest()": "digests of public files",
}
"""Comparisons that nobody can time who does not know both sides, each with the reason."""


def sources() -> list[Path]:
    rust = [path for path in ROOT.glob("crates/*/src/**/*.rs") if path.name != "fuzzing.rs"]
    return [*rust, *ROOT.glob("python/flask_mercure_sse/**/*.py")]


def comparisons(path: Path) -> list[str]:
    """Lines that compare a secret with an operator, outside of comments and of the tests of a Rust file."""
    text = path.read_text(encoding="utf-8").split("\n#[cfg(test)]\nmod tests {")[0]
    lines = [line.strip() for line in text.splitlines() if not line.strip().startswith(("//", "#"))]
    return [f"{path.relative_to(ROOT).as_posix()}: {line}" for line in lines if COMPARISON.search(line)]


def is_allowed(found: str) -> bool:
    return any(found.startswith(place.split(": ")[0]) and place.split(": ", 1)[1] in found for place in ALLOWED)


def test_secrets_are_compared_in_constant_time():
    found = [line for path in sources() for line in comparisons(path)]
    assert [line for line in found if not is_allowed(line)] == []
    unused = [place for place in ALLOWED if not any(place.split(": ", 1)[1] in line for line in found)]
    assert unused == [], "ALLOWED names comparisons that are gone"


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("if given == admin_token:", True),
        ("return secret.expose() != other.expose()", True),
        ("if hmac.compare_digest(token, given):", False),
        ("let x = tokens_max == 3;", False),
        ("if signature == expected {", True),
        ('if secret == "":', False),
    ],
)
def test_comparisons_of_secrets_are_found(line, is_found, tmp_path):
    assert (COMPARISON.search(line) is not None) is is_found


def test_the_places_of_constant_time_are_as_the_document_says():
    table = DOCUMENT.split("\n## Comparisons in constant time\n")[1].split("\n## ")[0]
    rows = re.findall(r"\| `([^`]+)`: `([^`]+)`", table)
    assert len(rows) == 3
    for path, name in rows:
        assert f"{name}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path} does not call {name}"


@pytest.mark.parametrize("row", ROWS)
def test_each_claim_names_its_proof(row):
    attack, stops, proof = [cell.strip() for cell in row.strip("|").split(" |")][:3]
    if stops.startswith("nothing: "):
        assert proof == ""
        return
    names = re.findall(r"`([^`]+)`", proof)
    assert names, f"{attack}: no proof"
    for name in names:
        path, _, test = name.partition("::")
        file = ROOT / path
        assert file.is_file(), name
        if test:
            kind = "def" if file.suffix == ".py" else "fn"
            assert re.search(rf"\b{kind} {test}\(", file.read_text(encoding="utf-8")), name


def test_each_fuzz_target_has_a_corpus_and_is_compiled():
    targets = {path.stem for path in (ROOT / "fuzz/fuzz_targets").glob("*.rs")}
    manifest = (ROOT / "fuzz/Cargo.toml").read_text(encoding="utf-8")
    assert targets == set(re.findall(r'\[\[bin\]\]\nname = "(\w+)"', manifest))
    assert targets == {path.name for path in (ROOT / "fuzz/corpus").iterdir()}
    tested = [path.read_text(encoding="utf-8") for path in ROOT.glob("crates/*/src/fuzzing.rs")]
    assert targets == {name for text in tested for name in re.findall(r'\("(\w+)", \w+\)', text)}
    size = sum(path.stat().st_size for path in (ROOT / "fuzz/corpus").rglob("*") if path.is_file())
    assert size <= 200_000, "keep the corpus small: cargo fuzz cmin"
