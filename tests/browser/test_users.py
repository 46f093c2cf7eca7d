"""A page of a user who is logged in: its cookie renews itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from flask import Flask, redirect, render_template_string, session
from playwright.sync_api import BrowserContext, Response, expect

from clients import SECRET
from documents import Document
from flask_mercure_sse import MercureSSE

RENEW = Document("how-to/renew-tokens").named("renew.html")

PAGE = (
    """
<!doctype html><title>page</title><ul id="heard"></ul>{{ mercure_client() }}
<script>
function show(text) {
  const line = document.createElement("li");
  line.textContent = text;
  document.querySelector("#heard").append(line);
}
</script>
"""
    # The client sends cookies to a hub of another origin if it is told to.
    + RENEW.replace("[], {", "[], { credentials: 'include',")
)


def prepare(app: Flask, mercure: MercureSSE) -> None:
    @mercure.user_topics
    def topics_of_the_user() -> list[str]:
        return [mercure.topic("/users/{}", session["user"])] if "user" in session else []

    @app.get("/login/<user>")
    def login(user: str) -> object:
        session["user"] = user
        return redirect("/")

    @app.get("/logout")
    def logout() -> object:
        session.clear()
        return redirect("/")

    @app.get("/")
    def home() -> str:
        cursor = mercure.last_event_id()
        return render_template_string(
            PAGE, topics=[mercure.topic("/users/{}", session.get("user", "x"))], cursor=cursor
        )


@pytest.mark.parametrize("where", ["embedded", "in the same domain"])
def test_the_page_renews_its_token_and_loses_nothing(
    where: str, context: BrowserContext, serve: Callable[[Flask], str], standalone: Callable[..., object]
) -> None:
    app = Flask("site")
    app.config.update(SECRET_KEY=SECRET, MERCURE_JWT_TTL=2, MERCURE_HUB_ALLOW_ANONYMOUS=False)
    # The client pauses before it comes back, and the next token must last longer than the pause.
    app.config["MERCURE_HUB_RETRY_INTERVAL"] = 0.2
    url = serve(app).replace("127.0.0.1", "app.example.test")
    if where == "embedded":
        app.config.update(MERCURE_HUB=True, MERCURE_HUB_TRANSPORT="memory:")
    else:
        secrets = ["--publisher-secret", SECRET, "--subscriber-secret", SECRET]
        options = ["--no-allow-anonymous", "--cors-origins", url]
        hub = standalone(*secrets, *options, env={"MERCURE_HUB_RETRY_INTERVAL": "0.2"}).hub  # type: ignore[attr-defined]
        public = hub.replace("127.0.0.1", "hub.example.test")
        app.config.update(MERCURE_HUB=False, MERCURE_HUB_URL=hub, MERCURE_PUBLIC_HUB_URL=public)
    mercure = MercureSSE(app)
    prepare(app, mercure)
    renewals: list[int] = []
    page = context.new_page()

    def note(response: Response) -> None:
        if response.url.endswith("/_mercure/token"):
            renewals.append(response.status)

    page.on("response", note)
    page.goto(f"{url}/login/ada")
    texts: list[str] = []
    while len(renewals) < 2:
        texts.append(str(len(texts)))
        mercure.publish("/users/ada", texts[-1], private=True)
        expect(page.locator("#heard li")).to_have_text(texts)
    assert set(renewals) == {204}
    # A page that asks for a token at the same time would be refused, load itself again, and end the way to the logout.
    page.goto("about:blank")
    page.goto(f"{url}/logout")
    assert [cookie["name"] for cookie in context.cookies() if cookie["name"] != "session"] == []
