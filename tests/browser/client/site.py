"""A hub of a process of its own, a gate in front of it, and an application with a page that has the client."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

from flask import Flask, Response, render_template_string, request
from playwright.sync_api import BrowserContext, Page

import hubs
from browser.client.gate import Gate
from browser.client.ledger import PAGE, Ledger, Traffic, cursor_of
from browser.website import PUBLISH, Hub
from clients import HUB_PATH, Request
from flask_mercure_sse import MercureSSE
from ports import Port
from serving import serve_threaded


class CountingHub(Hub):
    """A hub in both dialects that says how many streams it has. It may stop and come back."""

    def __init__(self, origins: list[str], directory: Path | None, options: list[str]) -> None:
        super().__init__(" ".join(origins), directory)
        self.admin = Port()
        place = self.command.index("--admin-listen") + 1
        self.command[place] = str(self.admin)
        # An announcement has an id of its own, which a page may get for its cursor: the traffic knows only its own ids.
        self.command += ["--subscriptions=false", *options]

    def streams(self) -> int:
        """How many are open, by its own numbers."""
        body = Request("GET", f"http://{self.admin}/status").body
        return int(json.loads(body)["streams"]["open"])

    def streams_opened(self) -> int:
        """How many have begun since it started."""
        text = Request("GET", f"http://{self.admin}/metrics").body.decode()
        return sum(int(line.split()[-1]) for line in text.splitlines() if line.startswith("mercure_subscribers_total"))

    def close(self) -> None:
        super().close()
        self.admin.close()


class Site:
    """The application is at ``origin``, and with the hub at the origin of ``gate``: a page can have its hub at its own
    origin or at another."""

    def __init__(
        self,
        stack: ExitStack,
        directory: Path | None = None,
        options: list[str] | None = None,
        strips: tuple[str, ...] = (),
        hub: Any = None,
    ) -> None:
        """directory: of a log on the disk. hub: another than petasos, with ``url``."""
        self.app = Flask("site")
        self.app.config["SECRET_KEY"] = "k" * 32
        self.origin = serve_threaded(self.app, stack)
        self.port = int(self.origin.rpartition(":")[2])
        origins = [f"http://{host}:{self.port}" for host in ("127.0.0.1", "localhost", "app.example.test")]
        if hub is None:
            self.hub = hub = CountingHub(origins, directory, options or [])
            stack.callback(hub.close)
            hub.start()
        self.hub_url = hub.url
        self.gate = Gate(self.hub_url.removesuffix(HUB_PATH), self.origin, strips)
        stack.callback(self.gate.close)
        self.mercure = MercureSSE(
            self.app,
            hub_url=self.hub_url,
            public_hub_url=self.gate.url,
            publisher_secret_key=hubs.PUBLISHER,
            subscriber_secret_key=hubs.SUBSCRIBER,
        )
        self.publisher = PUBLISH
        """The fields of requests that publish."""
        self.token: Callable[[], str | int] = lambda: 500
        """What ``/token`` answers: a token, or a refusal's status."""
        self.tokens_asked = 0
        self.app.add_url_rule("/page", view_func=self._page)
        self.app.add_url_rule("/elsewhere", "elsewhere", lambda: "<!doctype html><title>elsewhere</title>")
        self.app.add_url_rule("/token", view_func=self._token)
        self.app.add_url_rule("/login", view_func=self._login)

    def _page(self) -> str:
        """Subscribes to the topics of each ``subscribe`` parameter, as a template does."""
        cursor, options = request.args.get("after"), json.loads(request.args.get("options", "{}"))
        own = request.host_url.startswith(self.gate.origin)
        subscriptions = []
        for number, given in enumerate(request.args.getlist("subscribe")):
            url = self.mercure.hub_url(given.split(","), last_event_id=cursor)
            if cursor == "now" and not cursor_of(url):
                # On a busy machine, the hub has not answered in the time that a page may wait for it.
                newest = Request("HEAD", f"{self.hub_url}?topic=any").headers["Mercure-Last-Event-ID"]
                url = self.mercure.hub_url(given.split(","), last_event_id=newest)
            url = url.replace(self.gate.origin, "") if own else url
            subscriptions.append({"name": f"news{number or ''}", "url": url, "topics": None, "options": options})
        return render_template_string(PAGE, subscriptions=subscriptions)

    def _token(self) -> Response:
        self.tokens_asked += 1
        answer = self.token()
        return Response(status=answer) if isinstance(answer, int) else Response(answer, mimetype="text/plain")

    def _login(self) -> Response:
        """Sets the cookie for private updates of the topic in the URL."""
        return self.mercure.set_authz_cookie(Response("hello"), topics=request.args.getlist("topic"))

    def page_url(self, *subscriptions: str, origin: str | None = None, after: str = "", **options: Any) -> str:
        """Of a page that subscribes when it is loaded. Each subscription: topics with commas between.

        after: the cursor in the URLs, such as "now". options: of the client."""
        parts = [f"subscribe={quote(topics, safe='')}" for topics in subscriptions]
        parts += [f"after={after}"] if after else []
        parts += [f"options={quote(json.dumps(options))}"] if options else []
        return f"{origin or self.gate.origin}/page?{'&'.join(parts)}"

    def open(
        self, context: BrowserContext, *subscriptions: str, origin: str | None = None, after: str = "", **options: Any
    ) -> Page:
        """A new tab with that page, once its script has run."""
        page = context.new_page()
        page.goto(self.page_url(*subscriptions, origin=origin, after=after, **options))
        page.wait_for_function("window.isReady")
        return page

    def ledger(self, context: BrowserContext, *topics: str, **options: Any) -> Ledger:
        """Of a new tab with one subscription, once its stream is open."""
        ledger = Ledger(self.open(context, ",".join(topics), **options))
        ledger.wait_until_open()
        return ledger

    def try_to_publish(self, text: str, topics: tuple[str, ...], fields: dict[str, str]) -> bool:
        """Whether the hub has acknowledged it."""
        form = [*(("topic", topic) for topic in topics), ("data", text), *fields.items()]
        try:
            return Request("POST", self.hub_url, self.publisher, form).status == 200
        except (OSError, http.client.HTTPException):
            return False

    def publish(self, topic: str, *texts: str, **fields: str) -> None:
        for text in texts:
            assert self.try_to_publish(text, (topic,), fields)

    def traffic(self, *topics: tuple[str, ...], pause: float = 0.01, **fields: str) -> Traffic:
        return Traffic(self.try_to_publish, topics, pause, **fields)
