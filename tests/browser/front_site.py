"""An application whose pages have front ends: their libraries, and an embedded hub that refuses and is cut off."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort, make_response, render_template_string, request, send_file
from playwright.sync_api import BrowserContext, Page

from browser.front_pages import PAGES, publisher
from browser.pages import TOPIC, wait_for
from cable import Cable
from flask_mercure_sse import MercureSSE

HTMX_4_WHOLE = "/htmx-4-with-hx-sse.js"
"""As in the bundle of a page. A deferred htmx 4 of its own may begin before its deferred extension has come."""


class Libraries:
    """The files of the libraries."""

    def __init__(self, packages: Path, datastar: Path) -> None:
        self.packages, self.datastar = packages, datastar

    def serve(self, app: Flask) -> None:
        app.add_url_rule("/<path:file>.js", "library", self.file)
        app.add_url_rule(HTMX_4_WHOLE, "htmx 4", self.htmx_4)

    def file(self, file: str) -> Response:
        folder = self.datastar if file == "datastar" else self.packages / "node_modules"
        path = folder / f"{file}.js"
        return send_file(path) if path.exists() else abort(404)

    def htmx_4(self) -> Response:
        dist = self.packages / "node_modules" / "htmx.org" / "dist"
        text = "\n".join((dist / file).read_text() for file in ("htmx.js", "ext/hx-sse.js"))
        return Response(text, mimetype="text/javascript")


def clock() -> Response:
    """A stream that is no hub's, and ends at once."""
    return Response("event: tick\ndata: twelve\n\ndata: <i>twelve</i>\n\n", mimetype="text/event-stream")


class Gate:
    """An application with the embedded hub, which refuses streams on demand, behind a cable."""

    def __init__(
        self,
        kind: str,
        libraries: Libraries,
        stack: ExitStack,
        serve: Any,
        template: str | None = None,
        **settings: Any,
    ) -> None:
        self.app = Flask("gate")
        self.app.debug = True
        self.app.config.update(SECRET_KEY="k" * 32, MERCURE_HUB_RETRY_INTERVAL=0.1)
        self.mercure = MercureSSE(self.app, **settings)
        self.template = template or PAGES[kind]
        self.refused = 0
        self.refuses = False
        self.app.before_request(self.guard)
        self.loads = 0
        self.app.add_url_rule("/", view_func=self.page, endpoint="page")
        self.app.add_url_rule("/other", view_func=lambda: "<!doctype html><title>other</title><p id=other>Other</p>")
        self.app.add_url_rule("/clock", view_func=clock)
        libraries.serve(self.app)
        self.cable = Cable(serve(self.app))
        stack.callback(self.cable.close)
        self._publish = publisher(kind, self.mercure)
        self.published: list[str] = []
        self.html: Callable[[str], str] | None = None
        """What is published for a text, if not the front end's own."""
        self.lock = threading.Lock()

    def guard(self) -> Response | None:
        if request.blueprint != "mercure_hub" or not self.refuses:
            return None
        self.refused += 1
        return Response("no", status=401)

    def page(self) -> Response:
        self.loads += 1
        # The texts are those up to the cursor.
        with self.lock:
            url = self.mercure.hub_url([TOPIC], last_event_id="now")
            return make_response(render_template_string(self.template, url=url, topic=TOPIC, texts=self.published))

    def open(self, context: BrowserContext) -> Page:
        page = context.new_page()
        page.goto(self.cable.url)
        wait_for(page, "opens > 0")
        return page

    def publish(self, *texts: str, **options: Any) -> None:
        for text in texts:
            with self.lock:
                self._publish(TOPIC, text, self.html and self.html(text), **options)
                self.published.append(text)

    def expect(self, page: Page) -> None:
        wait_for(page, "(last) => heard().includes(last)", self.published[-1])
        found = page.evaluate("heard()")
        assert found == self.published, found

    def cut(self, page: Page) -> None:
        ends = page.evaluate("ends")
        self.cable.cut()
        wait_for(page, "(before) => ends > before", ends)
        self.cable.mend()
