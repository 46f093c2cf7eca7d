"""Turbo with the client: what concerns Turbo alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
from flask import Flask, render_template_string
from playwright.sync_api import BrowserContext, expect

import hubs
from browser.front_pages import COUNT, PAGES, TURBO
from browser.front_site import Gate, Libraries
from browser.pages import TOPIC, wait_for
from flask_mercure_sse import MercureSSE
from waiting import wait_until

pytestmark = pytest.mark.parametrize("browser", ["chromium"], indirect=True)

Make = Callable[..., Gate]

# As applications have it: the page shows what there is, and the element is written by the extension.
RENDERED = f"""<!doctype html><head><title>page</title>
<meta name="turbo-refresh-method" content="morph">{COUNT}{TURBO}</head>
<body>{{{{ mercure_turbo_stream(topic, last_event_id="now") }}}}
<div id="heard">{{% for text in texts %}}<b>{{{{ text }}}}</b>{{% endfor %}}</div>
<a id="link" href="/other">Other</a></body>"""


def test_a_page_that_is_morphed_has_each_update_once(context: BrowserContext, gate: Make) -> None:
    """Turbo performs an action with the next frame, perhaps after the morph: so rows have ids."""
    site = gate("Turbo", RENDERED.replace("<b>", "<b id=\"{{ text | replace(' ', '-') }}\">"))
    site.html = lambda text: f'<b id="{text.replace(" ", "-")}">{text}</b>'
    page = site.open(context)
    page.evaluate("window.morphs = 0; addEventListener('turbo:morph', () => { morphs += 1; })")
    for number in range(1, 4):
        site.publish(f"{number} before")
        before = site.loads
        site.mercure.turbo.refresh(TOPIC)
        wait_until(lambda before=before: site.loads > before, "the page loads itself again")
        # The new page is on its way, and was made before these.
        site.publish(f"{number} meanwhile", f"{number} after")
        wait_for(page, "(number) => morphs === number", number)
        # What came since the new page was made comes again, as the new page does not have it.
        wait_for(
            page, "(texts) => JSON.stringify(heard()) === texts", json.dumps(site.published, separators=(",", ":"))
        )


def test_a_page_that_is_come_back_to_has_each_update_once(context: BrowserContext, gate: Make) -> None:
    """Turbo shows a copy of the page, which has what came until it was left."""
    site = gate("Turbo", RENDERED)
    page = site.open(context)
    site.publish("one", "two")
    site.expect(page)
    loads = site.loads
    page.click("#link")
    expect(page.locator("#other")).to_be_visible()
    site.publish("while the page is left")
    page.go_back()
    site.expect(page)
    site.publish("later")
    site.expect(page)
    assert site.loads == loads, "it was the copy"


def test_an_element_that_is_moved_keeps_its_stream(context: BrowserContext, gate: Make) -> None:
    site = gate("Turbo")
    page = site.open(context)
    page.evaluate("document.body.append(document.querySelector('mercure-turbo-stream'))")
    site.publish("after")
    site.expect(page)
    assert page.evaluate("[opens, states.includes('closed')]") == [1, False]


def test_the_adapter_may_stand_behind_turbo(context: BrowserContext, gate: Make) -> None:
    tags = TURBO.strip().split("\n")
    site = gate("Turbo", PAGES["Turbo"].replace(TURBO, "\n".join(reversed(tags))))
    # An import map stands before all modules.
    page = context.new_page()
    page.goto(site.cable.url)
    site.publish("after")
    wait_for(page, "heard().includes('after')")


def test_every_action_is_performed(context: BrowserContext, gate: Make) -> None:
    site = gate("Turbo", PAGES["Turbo"] + '<p id="one" class="all"></p><p id="two" class="all"></p>')
    page = site.open(context)
    turbo = site.mercure.turbo
    turbo.update(TOPIC, targets=".all", html="<i>new</i>")
    turbo.before(TOPIC, "one", html="<u>before</u>")
    turbo.after(TOPIC, "one", html="<u>after</u>")
    turbo.prepend(TOPIC, "one", html="<u>first</u>")
    turbo.replace(TOPIC, "two", html='<p id="three">three</p>', method="morph")
    turbo.remove(TOPIC, targets="#one i")
    expect(page.locator("#three")).to_have_text("three")
    expect(page.locator("#one i")).to_have_count(0)
    assert page.locator("u").all_text_contents() == ["before", "first", "after"]


def test_a_gap_is_told(context: BrowserContext, gate: Make) -> None:
    site = gate("Turbo", PAGES["Turbo"].replace("{{ url }}", "{{ url }}&lastEventID=lost"))
    page = site.open(context)
    wait_for(page, "gaps.length > 0")
    assert page.evaluate("gaps[0].asked") == "lost"


PRIVATE = f"""<!doctype html><title>page</title>{COUNT}{TURBO}
{{{{ mercure_turbo_stream(topic, private=True, last_event_id="now") }}}}<div id="heard"></div>"""


def test_a_token_that_ends_is_renewed_from_the_page(context: BrowserContext, gate: Make) -> None:
    site = gate("Turbo", PRIVATE, jwt_ttl=2)
    page = context.new_page()
    page.goto(site.cable.url)
    site.publish("with the first token", private=True)
    site.expect(page)
    first = page.locator("mercure-turbo-stream").get_attribute("token")
    wait_for(page, "refusals.includes(401)")
    site.publish("when it has ended", private=True)
    site.expect(page)
    assert site.loads >= 2
    assert page.locator("mercure-turbo-stream").get_attribute("token") != first


def test_a_private_stream_of_a_hub_on_another_site(
    context: BrowserContext, libraries: Libraries, stack: ExitStack, serve: Any
) -> None:
    """No cookie reaches it."""
    app = Flask("site")
    app.config["SECRET_KEY"] = "k" * 32
    libraries.serve(app)
    origin = serve(app).replace("127.0.0.1", "app.example.test")
    hub = hubs.HubProcess([*hubs.petasos(cors_origins=origin), "--compat"])
    stack.callback(hub.close)
    keys = {"publisher_secret_key": hubs.PUBLISHER, "subscriber_secret_key": hubs.SUBSCRIBER}
    mercure = MercureSSE(app, hub_url=hub.url, **keys)
    app.add_url_rule("/", view_func=lambda: render_template_string(PRIVATE, topic=TOPIC))
    page = context.new_page()
    page.goto(origin)
    mercure.turbo.append(TOPIC, "heard", html="<b>secret</b>", private=True)
    wait_for(page, "heard().includes('secret')")
