"""A hub that comes and goes, the way to it, and an application with pages that listen."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from flask import Flask, Response, abort, make_response, render_template_string, request, send_file
from playwright.sync_api import BrowserContext, Page

import hubs
from browser.pages import LISTEN, PAGES, TOPIC, wait_for
from browser.traffic import Traffic
from cable import Cable
from clients import HUB_PATH, PATIENCE, Request, Token
from flask_mercure_sse import MercureSSE
from ports import Port
from proxies import Nginx

RETRY = 100
"""Milliseconds after which a browser comes back. Firefox takes half a second at least."""

PUBLISH = Token.bearer(publish=["*"], key=hubs.PUBLISHER)


class Hub:
    """A petasos process, always on the same port. A new one begins with the log on the disk, or with none."""

    def __init__(self, origin: str, directory: Path | None) -> None:
        self.port = Port()
        log = [] if directory is None else ["--transport", f"durable://{directory}"]
        self.command = [*hubs.petasos(str(self.port), cors_origins=origin), "--compat", *log]
        self.command += ["--retry", f"{RETRY}ms"]
        self.process: hubs.HubProcess | None = None

    @property
    def url(self) -> str:
        return f"http://{self.port}{HUB_PATH}"

    def start(self) -> None:
        self.process = hubs.HubProcess(self.command)

    def stop(self) -> None:
        """As an operator does."""
        assert self.process is not None
        self.process.process.terminate()
        self.process.process.wait(PATIENCE)
        self.process.close()

    def kill(self) -> None:
        assert self.process is not None
        self.process.close()

    def close(self) -> None:
        if self.process is not None:
            self.process.close()
        self.port.close()


class Website:
    """A hub, and an application with a page of each kind.

    Browsers reach the hub through a cable (``way`` is "cable"), or through nginx and the cable behind it ("nginx" and
    "nginx with TLS")."""

    def __init__(
        self,
        stack: ExitStack,
        serve: Any,
        directory: Path,
        way: str,
        durable: bool = False,
        npm: Path | None = None,
        token_seconds: int | None = None,
    ) -> None:
        self.app = Flask("site")
        self.app.config["SECRET_KEY"] = "k" * 32
        self.npm = npm
        self.origin = serve(self.app)
        log = directory / "log"
        self.hub = Hub(self.origin, log if durable else None)
        stack.callback(self.hub.close)
        self.hub.start()
        self.cable = Cable(str(self.hub.port), self.origin if way == "cable" else None)
        stack.callback(self.cable.close)
        self.public_url = self.cable.url + HUB_PATH
        self.is_of_another_origin = way == "nginx"
        if way != "cable":
            application = f"location / {{ proxy_pass {self.origin}; }}\n    location @away {{"
            replaced = {**Nginx.comes_back_after(RETRY), "location @away {": application}
            nginx = Nginx(directory, [self.cable.address], replaced)
            stack.callback(nginx.close)
            self.public_url = nginx.secure_url if way == "nginx with TLS" else nginx.url
        self.mercure = MercureSSE(
            self.app,
            hub_url=self.hub.url,
            public_hub_url=self.public_url,
            publisher_secret_key=hubs.PUBLISHER,
            subscriber_secret_key=hubs.SUBSCRIBER,
            jwt_ttl=token_seconds or 3600,
        )
        self.has_tokens = token_seconds is not None
        self.options: dict[str, Any] = {}
        """What ``mercure.hub_url`` is called with when a page is made."""
        self.app.add_url_rule("/page/<kind>", view_func=self.page)
        self.renewed = 0
        if self.has_tokens:
            self.mercure.user_topics(lambda: TOPIC)
            self.app.before_request(self.count_renewals)
        self.traffic: Traffic | None = None
        self.app.add_url_rule("/<path:file>", view_func=self.script)
        self.published: list[str] = []

    def page(self, kind: str) -> Response:
        # The cursor first, the page's data second.
        url = self.mercure.hub_url([TOPIC], **self.options)
        rows = [] if self.traffic is None else list(self.traffic.attempts)
        return make_response(render_template_string(PAGES[kind], url=url, rows=rows, listen=LISTEN))

    def count_renewals(self) -> None:
        self.renewed += request.endpoint == "mercure_user.token"

    def script(self, file: str) -> Response:
        if self.npm is None or not file.endswith(".js"):
            abort(404)
        return send_file(self.npm / "node_modules" / file)

    def page_origin(self, kind: str) -> str:
        """That of the hub, but for the plain page behind nginx, which is of another origin.

        Without nginx it must be that of the hub: where a page of another origin finds no server, Firefox gives up.
        """
        return (
            self.origin
            if self.is_of_another_origin and kind == "EventSource"
            else self.public_url.removesuffix(HUB_PATH)
        )

    def open(self, context: BrowserContext, kind: str) -> Page:
        """The page, once its stream is open."""
        page = context.new_page()
        page.goto(f"{self.page_origin(kind)}/page/{kind}")
        wait_for(page, "opens > 0")
        return page

    def try_to_publish(self, text: str) -> bool:
        """Whether the hub has acknowledged it."""
        form = [("topic", TOPIC), ("data", f"<b>{text}</b>")]
        if self.has_tokens:
            form.append(("private", "on"))
        try:
            return Request("POST", self.hub.url, PUBLISH, form).status == 200
        except OSError:
            return False

    def publish(self, *texts: str) -> None:
        for text in texts:
            assert self.try_to_publish(text)
            self.published.append(text)

    def expect(self, *pages: Page) -> None:
        """Each page has heard what was published, each update once and in order."""
        for page in pages:
            wait_for(page, "(last) => heard().includes(last)", self.published[-1])
            assert page.evaluate("heard()") == self.published

    def wait_for_ends(self, pages: list[Page], during: Callable[[], None], count: int = 1) -> None:
        """Does something, and waits until each page's stream has ended so often since."""
        before = [page.evaluate("ends") for page in pages]
        during()
        for page, ends in zip(pages, before, strict=True):
            wait_for(page, "(count) => ends >= count", ends + count)
