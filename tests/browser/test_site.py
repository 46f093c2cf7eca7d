"""The site of the documentation in a real browser: built as ``make docs`` does it, every page loaded."""

from __future__ import annotations

import functools
import http.server
import json
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal

import pytest
from markdown_it import MarkdownIt
from playwright.sync_api import Browser, Page, expect

from browser.launch import IN_CHROMIUM, new_context
from hubs import ROOT

MKDOCS = ROOT / ".build" / "docs" / "bin" / "mkdocs"
PHONE, DESK = 390, 1280
# What readers with a screen reader meet: no level of headings left out, a text for each picture, a name for each field.
FAULTS = """() => {
  const faults = [];
  let level = 0;
  for (const heading of document.querySelectorAll("article :is(h1, h2, h3, h4, h5, h6)")) {
    const next = Number(heading.tagName[1]);
    if (next > level + 1) faults.push(`${heading.tagName} below H${level}: ${heading.textContent}`);
    level = next;
  }
  if (document.querySelectorAll("article h1").length !== 1) faults.push("not one H1");
  for (const image of document.querySelectorAll("article img")) {
    if (!image.alt) faults.push(`no text for ${image.src}`);
    if (!image.naturalWidth && image.loading !== "lazy") faults.push(`${image.src} is no picture`);
  }
  for (const field of document.querySelectorAll("article :is(input, select, textarea):not([disabled])")) {
    if (!field.labels?.length && !field.ariaLabel) faults.push(`no name for ${field.outerHTML}`);
  }
  return faults;
}"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Strictly: a dead link, a dead anchor, or a page that is not in the navigation fails."""
    if not MKDOCS.exists():
        pytest.skip("the tools of the site are not installed: make docs")
    site = tmp_path_factory.mktemp("site")
    command = [str(MKDOCS), "build", "--strict", "--quiet", "--site-dir", str(site)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return site


@pytest.fixture(scope="module")
def site(folder: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


class Reader:
    """A page that remembers what it asked others for, and what went wrong."""

    def __init__(self, browser: Browser, home: str) -> None:
        self.context, self.faults = new_context(browser), list[str]()
        self.page: Page = self.context.new_page()
        self.shows(DESK, "light")
        self.page.on("request", lambda request: self._asked(request.url, home))
        self.page.on("console", lambda line: self._said(line.type, line.text))
        self.page.on("pageerror", lambda error: self.faults.append(f"{self.page.url}: {error}"))
        self.page.on("requestfailed", lambda request: self.faults.append(f"{request.url} fails"))

    def _asked(self, url: str, home: str) -> None:
        if not url.startswith((home, "data:", "blob:")):
            self.faults.append(f"{self.page.url} asks {url}")

    def _said(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.faults.append(f"{self.page.url}: {text}")

    def shows(self, width: int, scheme: Literal["light", "dark"]) -> None:
        self.page.set_viewport_size({"width": width, "height": 800})
        self.page.emulate_media(color_scheme=scheme)
        if (found := self.page.evaluate("document.documentElement.scrollWidth")) > width:
            self.faults.append(f"{self.page.url} is {found} pixels wide in a window of {width}")

    def read(self, url: str) -> None:
        self.page.goto(url)
        self.faults += [f"{url}: {fault}" for fault in self.page.evaluate(FAULTS)]


@IN_CHROMIUM
def test_every_page_loads_whole_and_asks_nobody_else(browser: Browser, folder: Path, site: str) -> None:
    """On a desk and on a phone, in light and in dark."""
    reader = Reader(browser, site)
    # The worker of the search would read the whole site for each page.
    index = json.loads((folder / "search" / "search_index.json").read_text(encoding="utf-8"))
    reader.page.route("**/search_index.json", lambda route: route.fulfill(json={**index, "docs": []}))
    pages = sorted(str(path.relative_to(folder)) for path in folder.glob("**/*.html") if path.name != "404.html")
    assert {"index.html", "start.html", "configuration.html", "reference/python.html"} <= set(pages)
    for page in pages:
        reader.read(site + page)
        reader.shows(PHONE, "dark")
        reader.shows(DESK, "light")
    reader.context.close()
    assert reader.faults == []


class Elements(HTMLParser):
    """Counts the elements of a text, or of the article of a page."""

    COUNTED = ("blockquote", "em", "h1", "h2", "h3", "h4", "img", "li", "ol", "p", "pre", "strong", "table", "tr", "ul")

    def __init__(self, html: str, is_page: bool) -> None:
        super().__init__()
        self.found, self.counts = Counter[str](), not is_page
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.counts |= tag == "article"
        if self.counts and tag in self.COUNTED:
            self.found[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        self.counts &= tag != "article"


def test_github_shows_the_same_lists_tables_and_blocks_of_code(folder: Path) -> None:
    github = MarkdownIt("commonmark").enable("table")
    pages = sorted((ROOT / "docs").glob("**/*.md"))
    assert len(pages) > 20
    for page in pages:
        built = folder / page.relative_to(ROOT / "docs").with_suffix(".html")
        expected = Elements(github.render(page.read_text(encoding="utf-8")), is_page=False).found
        assert Elements(built.read_text(encoding="utf-8"), is_page=True).found == expected, page.name


@IN_CHROMIUM
@pytest.mark.parametrize("home", ["served", "opened from the disk"])
def test_the_search_finds_a_setting(browser: Browser, folder: Path, site: str, home: str) -> None:
    url = site if home == "served" else folder.as_uri() + "/"
    reader = Reader(browser, url)
    reader.read(url + "index.html")
    field, results = reader.page.get_by_role("textbox", name="Search"), reader.page.locator(".md-search-result__link")
    field.click()
    # The index may still be on its way: what is typed after it counts.
    expect(reader.page.locator(".md-search-result__meta")).to_have_text("Type to start searching")
    field.press_sequentially("idle_timeout")
    expect(results.first).to_be_visible()
    links = results.evaluate_all("links => links.map((link) => link.href)")
    assert any("configuration.html" in link for link in links)
    reader.context.close()
    assert reader.faults == []


@IN_CHROMIUM
def test_a_request_to_another_origin_is_noticed(browser: Browser, site: str) -> None:
    """The test above can fail."""
    reader = Reader(browser, site)
    reader.read(site + "index.html")
    with reader.page.expect_event("requestfailed"):
        reader.page.evaluate("fetch('http://127.0.0.1:1/').catch(() => {})")
    reader.context.close()
    assert any("asks http://127.0.0.1:1/" in fault for fault in reader.faults)
