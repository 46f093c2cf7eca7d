"""Alpine with the client: what concerns Alpine alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, expect

from browser.front_pages import ALPINE, COUNT
from browser.front_site import Gate
from browser.pages import TOPIC
from waiting import wait_until

pytestmark = pytest.mark.parametrize("browser", ["chromium"], indirect=True)

Make = Callable[..., Gate]

HEAD = f"<!doctype html><title>page</title>{COUNT}{ALPINE}"

HANDLERS = f"""{HEAD}
<div x-data="{{ texts: [], total: 0, shown: true, inside: 0, state: '' }}" x-mercure="{{{{ url }}}}"
  x-mercure:message="texts.push($event.data)" @mercure:state="state = $event.detail">
  <ul><template x-for="text in texts"><li x-text="text"></li></template></ul>
  <p id="state" x-text="state"></p>
  <p x-mercure:order-paid="total += $event.json().total; $el.title = $event.type" x-text="total"></p>
  <template x-if="shown"><i x-mercure:order-paid="inside++"></i></template>
  <button @click="shown = false" x-text="inside"></button>
</div>"""


def test_handlers_hear_their_type_on_the_element_and_inside_it(context: BrowserContext, gate: Make) -> None:
    site = gate("Alpine", HANDLERS)
    page = site.open(context)
    expect(page.locator("#state")).to_have_text("open")
    site.mercure.publish(TOPIC, "one")
    site.mercure.publish(TOPIC, {"total": 7}, type="order-paid")
    site.mercure.publish(TOPIC, {"total": 9}, type="order-sent")
    site.mercure.publish(TOPIC, {"total": 1}, type="order-paid")
    site.mercure.publish(TOPIC, "two")
    expect(page.locator("li")).to_have_text(["one", "two"])
    expect(page.locator("p[title=order-paid]")).to_have_text("8")
    expect(page.locator("button")).to_have_text("2")


def test_a_handler_that_is_removed_hears_no_more(context: BrowserContext, gate: Make) -> None:
    site = gate("Alpine", HANDLERS)
    page = site.open(context)
    site.mercure.publish(TOPIC, {"total": 1}, type="order-paid")
    expect(page.locator("button")).to_have_text("1")
    page.click("button")
    site.mercure.publish(TOPIC, {"total": 1}, type="order-paid")
    expect(page.locator("p[title=order-paid]")).to_have_text("2")
    expect(page.locator("button")).to_have_text("1")


TOGGLED = f"""{HEAD}
<div x-data="{{ shown: true, heard: [] }}">
  <template x-if="shown"><p x-mercure="{{{{ url }}}}" x-mercure:message="heard.push($event.data)"></p></template>
  <button @click="shown = !shown" x-text="heard.join()"></button>
</div>"""


def test_an_element_that_comes_again_has_a_stream_again(context: BrowserContext, gate: Make) -> None:
    site = gate("Alpine", TOGGLED)
    page = site.open(context)
    page.click("button")
    wait_until(lambda: site.mercure.get_subscriptions(TOPIC)["subscriptions"] == [], "the stream is closed")
    page.click("button")
    page.wait_for_function("opens === 2")
    site.mercure.publish(TOPIC, "again")
    expect(page.locator("button")).to_have_text("again")


def test_a_handler_without_a_stream_is_an_error_that_names_the_attribute(context: BrowserContext, gate: Make) -> None:
    site = gate("Alpine", f'{HEAD}<div x-data x-mercure:message="x"></div>')
    page = context.new_page()
    with page.expect_event("pageerror") as error:
        page.goto(site.cable.url)
    assert 'x-mercure:message needs x-mercure="URL" on the element or around it' in str(error.value)


PLUGIN = f"""<!doctype html><title>page</title>{COUNT}{{{{ mercure_client() }}}}
<script type="module">
import Alpine from "/alpinejs/dist/module.esm.js";
import mercure from "petasos-client/alpine";
Alpine.plugin(mercure);
Alpine.start();
</script>
<div x-data="{{ texts: [] }}" x-mercure="{{{{ url }}}}" x-mercure:message="texts.push($event.data)">
  <p x-text="texts"></p>
</div>"""


def test_a_page_that_starts_alpine_itself_takes_the_plugin(context: BrowserContext, gate: Make) -> None:
    site = gate("Alpine", PLUGIN)
    page = site.open(context)
    site.mercure.publish(TOPIC, "one")
    expect(page.locator("p")).to_have_text("one")
