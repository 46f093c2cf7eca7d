"""Datastar with the client: what concerns Datastar alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, expect

from browser.front_pages import COUNT, DATASTAR, PAGES
from browser.front_site import Gate
from browser.pages import TOPIC, wait_for

pytestmark = pytest.mark.parametrize("browser", ["chromium"], indirect=True)

Make = Callable[..., Gate]

CART = """
<div data-signals="{total: 1, note: 'old'}">
  <output data-text="$total"></output><i data-text="$note"></i><p id="item">old</p><p class="gone">gone</p>
</div>
"""


def test_signals_and_elements_are_patched(context: BrowserContext, gate: Make) -> None:
    site = gate("Datastar", PAGES["Datastar"] + CART)
    page = site.open(context)
    expect(page.locator("output")).to_have_text("1")
    datastar = site.mercure.datastar
    datastar.patch_signals(TOPIC, {"total": 7})
    datastar.patch_signals(TOPIC, {"note": "new"}, only_if_missing=True)
    datastar.patch_elements(TOPIC, '<p id="item">\n  <b>new</b>\n</p>')
    datastar.remove_elements(TOPIC, ".gone")
    datastar.execute_script(TOPIC, "window.ran = (window.ran ?? 0) + 1")
    page.wait_for_function("window.ran === 1")
    expect(page.locator("output")).to_have_text("7")
    expect(page.locator("i")).to_have_text("old")
    expect(page.locator("#item b")).to_have_text("new")
    expect(page.locator(".gone")).to_have_count(0)
    expect(page.locator("body > script")).to_have_count(page.locator("body > script:not([data-effect])").count())


def test_an_event_that_is_not_datastars_changes_nothing(context: BrowserContext, gate: Make) -> None:
    site = gate("Datastar")
    page = site.open(context)
    site.mercure.publish(TOPIC, "elements <b>wrong</b>", type="other")
    site.publish("right")
    site.expect(page)


def test_the_adapter_may_stand_behind_datastar(context: BrowserContext, gate: Make) -> None:
    map_and_client, script = DATASTAR.strip().split("\n")
    site = gate(
        "Datastar", PAGES["Datastar"].replace(DATASTAR, f"{{{{ mercure_client() }}}}\n{script}\n{map_and_client}")
    )
    page = context.new_page()
    page.goto(site.cable.url)
    site.publish("after")
    wait_for(page, "heard().includes('after')")


DIRECT = f"""<!doctype html><title>page</title>{COUNT}<script type="module" src="/datastar.js"></script>
<div data-init="@get('{{{{ url }}}}', {{ openWhenHidden: true, retry: 'always', retryMaxCount: Infinity }})"></div>
<div id="heard"></div>"""


def test_datastars_own_action_reads_the_hub_and_comes_back_after_a_cut(context: BrowserContext, gate: Make) -> None:
    site = gate("Datastar", DIRECT)
    page = context.new_page()
    page.goto(site.cable.url)
    site.publish("first")
    site.expect(page)
    site.cable.cut()
    site.publish("meanwhile")
    site.cable.mend()
    site.expect(page)
