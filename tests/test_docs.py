"""The documentation names things that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
SHORT = {"v1": "server/tests/http/v1.rs", "legacy": "server/tests/http/legacy.rs"}


def test_the_conformance_table_names_tests_that_exist():
    text = (ROOT / "docs/conformance.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and "::" in line]
    missing = []
    for row in rows:
        names = re.findall(r"`([^`]+)::(\w+)`", row)
        assert names, row
        for place, test in names:
            source = (ROOT / "crates" / SHORT.get(place, place)).read_text()
            if not re.search(rf"\bfn {test}\(", source):
                missing.append(f"{place}::{test}")
    assert not missing


def test_every_row_of_the_conformance_table_has_a_test():
    text = (ROOT / "docs/conformance.md").read_text().split("\n## ")[0]
    table = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert len(table) > 40
    assert all("::" in row for row in table)


def test_links_between_documents_lead_somewhere():
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    for document in documents:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
