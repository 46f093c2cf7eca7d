"""The tabs of a browser: which of them has the stream at the hub, and how one of them dies."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from playwright.sync_api import BrowserContext, CDPSession, Page, Request

from clients import HUB_PATH
from waiting import wait_until


class Tabs:
    """Follows the requests of all pages of a context. To be made before the first page."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.dead: set[Page] = set()
        self.open: dict[Request, Page] = {}
        """The requests for streams that have not ended."""
        context.on("request", self._began)
        for ending in ("requestfinished", "requestfailed"):
            context.on(ending, lambda request: self.open.pop(request, None))

        # Nobody says that the requests of a page that was left have ended.
        context.on("page", lambda page: page.on("framenavigated", lambda _: self._left(page)))

    def _left(self, page: Page) -> None:
        self.open = {request: other for request, other in self.open.items() if other is not page}

    def _began(self, request: Request) -> None:
        if HUB_PATH in request.url and request.method != "OPTIONS":
            self.open[request] = request.frame.page

    def streaming(self) -> list[Page]:
        """The pages that have a stream, one for each stream."""
        # Events are handed out while the browser is asked for something.
        alive = [page for page in self.context.pages if not page.is_closed() and page not in self.dead]
        alive[0].evaluate("0")
        return [page for page in self.open.values() if page in alive]

    def leader(self) -> Page:
        """The page that has the only stream."""
        wait_until(lambda: len(self.streaming()) == 1, "one page has a stream")
        return self.streaming()[0]

    def kill(self, page: Page) -> float:
        """Ends the process of a page of Chromium as the system does when its memory is full; in another browser, closes
        the page. When, in milliseconds since 1970."""
        assert self.context.browser is not None
        if self.context.browser.browser_type.name != "chromium":
            at = time.time() * 1000
            page.close()
            return at
        process = renderer(page)
        with page.expect_event("crash"):
            at = time.time() * 1000
            os.kill(process, signal.SIGKILL)
        self.dead.add(page)
        return at


def renderer(page: Page) -> int:
    """The process of a page of Chromium, found by the work that it does: nothing else tells which it is."""
    assert page.context.browser is not None
    session = page.context.browser.new_browser_cdp_session()
    try:
        before = _times(session)
        for _ in range(40):
            page.evaluate("() => { const end = performance.now() + 150; while (performance.now() < end); }")
            spent = {process: time - before[process] for process, time in _times(session).items() if process in before}
            first, second, *_ = sorted(spent, key=lambda process: -spent[process])
            if spent[first] > 2 * spent[second] + 5:
                return first
    finally:
        session.detach()
    raise AssertionError("the process of the page cannot be told from others")


def _times(session: CDPSession) -> dict[int, int]:
    """The processor time of the first thread of each renderer, in hundredths of a second."""
    times = {}
    for process in session.send("SystemInfo.getProcessInfo")["processInfo"]:
        if process["type"] == "renderer":
            number = int(process["id"])
            fields = Path(f"/proc/{number}/task/{number}/stat").read_text().rpartition(")")[2].split()
            times[number] = int(fields[11]) + int(fields[12])
    return times
