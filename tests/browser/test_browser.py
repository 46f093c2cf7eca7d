"""Real browsers: the README's page, a cookie, a broken connection."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from flask import Flask, make_response, render_template_string
from playwright.sync_api import expect

from cable import Cable
from clients import HUB_PATH
from documents import post_all
from flask_mercure_sse import MercureSSE

ROOT = Path(__file__).parent.parent.parent

PAGE = """
<!doctype html><title>page</title><ul id="heard"></ul>
<script>
const es = new EventSource("{{ mercure_hub_url(topics) }}", { withCredentials: true });
es.onopen = () => { document.title = "open"; };
es.onmessage = (event) => {
  const item = document.createElement("li");
  item.textContent = event.data;
  document.getElementById("heard").append(item);
};
</script>
"""


def heard(page):
    return page.locator("#heard li")


@pytest.mark.parametrize("kind", ["petasos-client", "EventSource"])
def test_the_pages_of_the_readme_hear_what_their_application_publishes(kind, context, serve, monkeypatch):
    monkeypatch.setenv("FLASK_DEBUG", "1")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    python = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    pages = re.findall(r"^```html\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (html,) = (page for page in pages if kind in page)
    names = {"__name__": "readme"}
    exec(python[0] + python[1], names)
    app = names["app"]
    app.add_url_rule("/", view_func=lambda: render_template_string(html))
    page = context.new_page()
    with page.expect_response(re.compile("/.well-known/mercure")):
        page.goto(serve(app))
    # The console has other lines, too: there is no favicon.
    with page.expect_console_message(lambda line: line.type == "log") as message:
        post_all(app)
    assert message.value.text == "message"


@pytest.mark.parametrize("where", ["embedded", "standalone"])
def test_a_private_stream_is_for_the_browser_with_the_cookie(where, context, other_context, serve, standalone):
    app = Flask("private")
    app.config["SECRET_KEY"] = "k" * 32
    if where == "embedded":
        mercure = MercureSSE(app, hub=True)
    else:
        hub = standalone("--publisher-secret", "k" * 32, "--subscriber-secret", "k" * 32)
        # Page and hub are two ports of one host name: one site for cookies, two origins for scripts.
        mercure = MercureSSE(app, hub_url=hub.hub.replace("127.0.0.1", "localhost"))

    @app.get("/")
    def stranger():
        return render_template_string(PAGE, topics=["/users/7"])

    @app.get("/user")
    def user():
        return mercure.set_authz_cookie(make_response(stranger()), topics=["/users/{id}"])

    url = serve(app).replace("127.0.0.1", "localhost")
    own, foreign = context.new_page(), other_context.new_page()
    own.goto(url + "/user")
    foreign.goto(url)
    for page in (own, foreign):
        expect(page).to_have_title("open")
    mercure.publish("/users/7", "secret", private=True)
    mercure.publish("/users/7", "open")
    expect(heard(own)).to_have_text(["secret", "open"])
    expect(heard(foreign)).to_have_text(["open"])


def test_a_cookie_reaches_the_hub_on_another_host_of_the_same_domain(context, other_context, serve, standalone):
    app = Flask("subdomains")
    app.config["SECRET_KEY"] = "k" * 32
    page_url = serve(app).replace("127.0.0.1", "app.example.test")
    secrets = ["--publisher-secret", "k" * 32, "--subscriber-secret", "k" * 32]
    hub = standalone(*secrets, "--cors-origins", page_url).hub
    mercure = MercureSSE(app, hub_url=hub, public_hub_url=hub.replace("127.0.0.1", "hub.example.test"))

    @app.get("/")
    def page():
        return render_template_string(PAGE, topics=["/users/7", "/news"])

    @app.get("/login")
    def login():
        return mercure.set_authz_cookie(make_response(page()), topics=["/users/7"])

    @app.get("/logout")
    def logout():
        return mercure.delete_authz_cookie(make_response(page()))

    member, stranger = context.new_page(), other_context.new_page()
    member.goto(page_url + "/login")
    stranger.goto(page_url)
    for each in (member, stranger):
        expect(each).to_have_title("open")
    (cookie,) = context.cookies()
    assert (cookie["domain"], cookie["path"], cookie["httpOnly"], cookie["sameSite"]) == (
        ".example.test",
        HUB_PATH,
        True,
        "Strict",
    )
    mercure.publish("/users/7", "secret", private=True)
    mercure.publish("/news", "open")
    expect(heard(member)).to_have_text(["secret", "open"])
    expect(heard(stranger)).to_have_text(["open"])
    member.goto(page_url + "/logout")
    expect(member).to_have_title("open")
    assert context.cookies() == []
    mercure.publish("/users/7", "no longer", private=True)
    mercure.publish("/news", "last")
    expect(heard(member)).to_have_text(["last"])


ATTRIBUTE = """
<!doctype html><title>page</title><ul id="heard"></ul>
<body data-hub="{{ mercure_authentified_hub_url(topics) }}">
<script>
const inScript = "{{ mercure_authentified_hub_url(topics) }}";
for (const url of [inScript, document.body.dataset.hub]) {
  const es = new EventSource(url);
  es.onopen = () => { document.title += " open"; };
  es.onmessage = (event) => {
    const item = document.createElement("li");
    item.textContent = event.data;
    document.getElementById("heard").append(item);
  };
}
</script>
"""


def test_urls_with_several_topics_and_a_token_work_in_scripts_and_attributes(context, app, mercure, serve):
    topics = ["/users/7", "copy;right", "a&para=b\"'</script>"]
    app.add_url_rule("/", view_func=lambda: render_template_string(ATTRIBUTE, topics=topics))
    page = context.new_page()
    page.goto(serve(app))
    expect(page).to_have_title("page open open")
    for topic in topics:
        mercure.publish(topic, f"on {topic}", private=True)
    expect(heard(page)).to_have_count(6)
    for topic in topics:
        expect(heard(page).filter(has_text=f"on {topic}")).to_have_count(2)


def test_a_broken_connection_loses_nothing_and_repeats_nothing(context, app, mercure, serve, stack):
    app.add_url_rule("/", view_func=lambda: render_template_string(PAGE, topics=["topic"]))
    cable = Cable(serve(app))
    stack.callback(cable.close)
    page = context.new_page()
    page.goto(cable.url)
    expect(page).to_have_title("open")
    expected = []
    for round_number in range(3):
        # The browser waits as long as the last event says, in milliseconds.
        mercure.publish("topic", f"{round_number} before", retry=10)
        expected.append(f"{round_number} before")
        expect(heard(page)).to_have_text(expected)
        page.evaluate("document.title = 'cut'")
        cable.cut()
        for number in range(20):
            mercure.publish("topic", f"{round_number} missed {number}")
            expected.append(f"{round_number} missed {number}")
        cable.mend()
        expect(page).to_have_title("open")
        expect(heard(page)).to_have_text(expected)
