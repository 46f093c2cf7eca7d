"""Makes MkDocs read the documentation as GitHub shows it.

The same files are read on both: anchors are GitHub's, two spaces nest a list, and a link to a file outside docs/ leads
to the page of that file if there is one, else to the repository. A link to a file that does not exist fails the build.
"""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Callable
from pathlib import Path

from markdown import Markdown
from markdown.blockprocessors import build_block_parser
from markdown.extensions import Extension
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

log = logging.getLogger("mkdocs.hooks")

ROOT = Path(__file__).parent.parent.parent
# Documents at the root of the repository that are pages of the site.
ROOT_PAGES = ("CHANGELOG.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "RELEASING.md")
# The links to other sites, and the files that have them.
_external: dict[str, set[str]] = {}
_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
_FENCE = re.compile(r"^\s*(`{3,}|~{3,})")


class _TwoSpaces(Extension):
    """Two spaces nest a list, as on GitHub; Python-Markdown wants four."""

    def extendMarkdown(self, md: Markdown) -> None:
        md.tab_length = 2
        # Its parts have read the length when they were made.
        md.parser = build_block_parser(md)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    # The first: the others add to its parser.
    config.markdown_extensions.insert(0, _TwoSpaces())  # type: ignore[arg-type]
    config.mdx_configs["toc"]["slugify"] = slug
    return config


def slug(heading: str, separator: str = "-") -> str:
    """The anchor that GitHub gives a heading.

    >>> slug("In production: what `Host` says")
    'in-production-what-host-says'
    """
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", separator)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name in ROOT_PAGES:
        files.append(File.generated(config, name, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_post_build(config: MkDocsConfig) -> None:
    """Lists the links to other sites. Nothing here fetches them: a build must not depend on others."""
    listed = [f"{url}  {', '.join(sorted(pages))}\n" for url, pages in sorted(_external.items())]
    Path(config.site_dir).with_name("external-links.txt").write_text("".join(listed), encoding="utf-8")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    if page.is_homepage:
        # Its tables are the navigation.
        page.meta["hide"] = ["navigation", "toc"]
    at_root = page.file.src_uri in ROOT_PAGES
    place = page.file.src_uri if at_root else posixpath.join("docs", page.file.src_uri)

    def link(match: re.Match[str]) -> str:
        target = target_on_site(match[2], place, config.repo_url or "")
        if target is None:
            log.warning("%s links to %s, which is not there", place, match[2])
            return match[0]
        if "://" in match[2]:
            _external.setdefault(match[2], set()).add(place)
        return match[1] + target + match[3]

    return outside_code(markdown, lambda text: _LINK.sub(link, text))


def target_on_site(target: str, place: str, repository: str) -> str | None:
    """Where a link of the file ``place`` leads on the site; None if the file does not exist."""
    if re.match(r"[a-z]+:|//|mailto:", target):
        return target
    path = posixpath.normpath(posixpath.join(posixpath.dirname(place), target))
    if not (ROOT / path).exists():
        return None
    here = posixpath.dirname(place.removeprefix("docs/")) if place.startswith("docs/") else ""
    if path.startswith("docs/"):
        return posixpath.relpath(path.removeprefix("docs/"), here or ".")
    if path in ROOT_PAGES:
        return posixpath.relpath(path, here or ".")
    kind = "tree" if (ROOT / path).is_dir() else "blob"
    return f"{repository.rstrip('/')}/{kind}/main/{path}"


def outside_code(markdown: str, change: Callable[[str], str]) -> str:
    """Applies ``change`` to each line that is not in a block of code."""
    fence = ""
    lines = []
    for line in markdown.split("\n"):
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence):
                fence = ""
        elif mark:
            fence = mark[1]
        else:
            line = change(line)
        lines.append(line)
    return "\n".join(lines)
