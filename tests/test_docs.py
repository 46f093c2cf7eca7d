"""The documentation names things that exist, and its examples run."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import flask_mercure_sse

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


def test_the_guarantees_name_tests_that_exist():
    text = (ROOT / "docs/explanations/delivery.md").read_text()
    names = re.findall(r"`([\w./-]+)::(\w+)`", text)
    assert len(names) > 15
    for place, test in names:
        assert re.search(rf"\b(?:fn|def) {test}\(", (ROOT / place).read_text()), f"{place}::{test}"


def test_the_settings_beside_those_of_the_reference_hub_exist():
    text = (ROOT / "docs/how-to/from-the-reference-hub.md").read_text()
    table = text.partition("## Directives")[2].partition("\n## ")[0]
    configuration = (ROOT / "docs/configuration.md").read_text()
    cells = [line.split(" | ")[1] for line in table.splitlines() if line.startswith("| ")]
    settings = {name for cell in cells for name in re.findall(r"`([a-z_]+)(?:`| =)", cell)}
    assert len(settings) > 20
    assert [name for name in settings if f"| `{name}` |" not in configuration] == []


MODULES = [
    module.name
    for module in pkgutil.walk_packages(flask_mercure_sse.__path__, "flask_mercure_sse.")
    # These do something when they are imported.
    if not module.name.endswith((".wsgi", ".__main__"))
]


@pytest.mark.parametrize("name", ["flask_mercure_sse", *MODULES])
def test_the_examples_in_docstrings_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_the_examples_of_the_compiled_module_run():
    stubs = Path(flask_mercure_sse.__file__).with_name("_native.pyi").read_text(encoding="utf-8")
    names = vars(importlib.import_module("flask_mercure_sse._native"))
    examples = stubs.replace('"""', "\n")
    tests = doctest.DocTestParser().get_doctest(examples, dict(names), "_native.pyi", None, None)
    assert tests.examples
    assert doctest.DocTestRunner().run(tests).failed == 0


def test_the_index_of_tasks_has_every_task():
    tasks = {page.relative_to(ROOT / "docs").as_posix() for page in ROOT.glob("docs/how-to/*.md")}
    index = (ROOT / "docs/flask.md").read_text() + (ROOT / "docs/frontend.md").read_text()
    assert tasks - set(re.findall(r"\]\(([^)#]*)", index)) == set()


def test_links_between_documents_lead_somewhere():
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
    for document in documents:
        for target, section in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", document.read_text()):
            place = document.parent / target if target else document
            assert place.exists(), f"{document.name}: {target}"
            if section and place.suffix == ".md":
                assert section in anchors(place), f"{document.name}: {target}#{section}"


def anchors(document):
    """The anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
