"""The calculator of docs/tuning.md, in a browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import BrowserContext

from documents import DOCS, Document

pytestmark = pytest.mark.parametrize("browser", ["chromium"], indirect=True)

EXAMPLES = Document("tuning").text.partition("as the calculator gives them:\n\n")[2].partition("\n\n")[0]
HEADER, _, *ROWS = ([cell.strip() for cell in line.strip("| ").split("|")] for line in EXAMPLES.splitlines())


def test_it_gives_the_examples_of_the_page(context: BrowserContext) -> None:
    page = context.new_page()
    page.set_content('<div id="calculator"></div>')
    page.add_script_tag(path=DOCS / "site" / "js" / "calculator.js")
    assert len(ROWS) >= 4
    for row in ROWS:
        for name, value in zip(HEADER[:4], row[:4], strict=True):
            page.fill(f"input[name={name}]", value)
        shown = page.locator("#calculator tr").evaluate_all(
            "rows => rows.map(row => [...row.cells].map(c => c.innerText))"
        )
        assert shown == [list(pair) for pair in zip(HEADER[4:], row[4:], strict=True)]
