"""The description of the package on PyPI: README.md with whole links, since PyPI has none of the other files."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
import changelog
import version

OPENING = "<!-- Written from README.md by make reference. -->\n"


def page() -> str:
    return OPENING + changelog.with_whole_links(
        (changelog.ROOT / "README.md").read_text(encoding="utf-8"), version.current()
    )
