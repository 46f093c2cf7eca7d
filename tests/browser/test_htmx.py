"""htmx with the client: what concerns htmx alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, expect

from browser.front_pages import BODIES, COUNT, HTMX_2, HTMX_4, PAGES
from browser.front_site import HTMX_4_WHOLE, Gate
from browser.pages import TOPIC, wait_for
from waiting import wait_until

pytestmark = pytest.mark.parametrize("browser", ["chromium"], indirect=True)

Make = Callable[..., Gate]


@pytest.mark.parametrize("place", ["inside", "itself"])
def test_an_element_that_htmx_2_processes_again_swaps_each_update_once(
    place: str, context: BrowserContext, gate: Make
) -> None:
    """A morph changes the attribute, since the URL has the cursor of another page. The extension forgets the former
    stream, and does not close it."""
    itself = """
<div id="stream" hx-ext="sse" sse-connect="{{ url }}" sse-swap="message" hx-swap="beforeend" hx-target="#heard">
  <div id="heard"></div>
</div>
"""
    body = BODIES["htmx 2"] if place == "inside" else itself
    site = gate("htmx 2", PAGES["htmx 2"].replace(BODIES["htmx 2"], body))
    page = site.open(context)
    site.publish("before")
    site.expect(page)
    # htmx marks elements with classes for a while, and processes those anew.
    page.wait_for_function("!document.querySelector('.htmx-settling, .htmx-added')")
    for turn in range(2):
        cursor = site.mercure.publish("/other", "moves the cursor")
        page.evaluate(
            """(cursor) => {
              const element = document.querySelector("#stream");
              element.setAttribute("sse-connect", `/.well-known/mercure?topic=%2Fnews&lastEventID=${cursor}`);
              htmx.process(element);
            }""",
            cursor,
        )
        site.publish(f"{turn} after", f"{turn} later")
        site.expect(page)
    wait_until(
        lambda: len(site.mercure.get_subscriptions(TOPIC)["subscriptions"]) == 1, "the former streams are closed"
    )


BACK = f"""<!doctype html><title>page</title><body>
{COUNT}{HTMX_2}
<a id="link" hx-get="/other" hx-push-url="true" hx-target="body">Other</a>{BODIES["htmx 2"]}"""


def test_a_page_of_htmx_2_that_is_come_back_to_has_each_update_once(context: BrowserContext, gate: Make) -> None:
    """htmx keeps the page with what was swapped, and with the URL of its stream, whose cursor is older than that."""
    site = gate("htmx 2", BACK)
    page = site.open(context)
    site.publish("one", "two")
    site.expect(page)
    page.click("#link")
    expect(page.locator("#other")).to_be_visible()
    site.publish("while the page is left")
    page.go_back()
    site.expect(page)
    site.publish("later")
    site.expect(page)


def test_an_element_of_htmx_4_that_is_morphed_swaps_each_update_once(context: BrowserContext, gate: Make) -> None:
    site = gate("htmx 4")
    page = site.open(context)
    site.publish("before")
    site.expect(page)
    cursor = site.mercure.publish("/other", "moves the cursor")
    page.evaluate(
        """(cursor) => {
          const element = document.querySelector("#heard"), copy = element.cloneNode(true);
          copy.setAttribute("hx-sse:connect", `/.well-known/mercure?topic=%2Fnews&lastEventID=${cursor}`);
          htmx.swap({ target: element, text: copy.outerHTML, swap: "outerMorph" });
        }""",
        cursor,
    )
    site.publish("after", "later")
    site.expect(page)


@pytest.mark.parametrize(
    ("version", "attributes"),
    [
        ("htmx 2", 'hx-ext="sse" sse-connect="/clock" sse-swap="message"'),
        ("htmx 4", 'hx-sse:connect="/clock"'),
    ],
)
def test_a_stream_that_is_no_hubs_stays_as_it_is(
    context: BrowserContext, gate: Make, version: str, attributes: str
) -> None:
    site = gate(version, PAGES[version] + f'<div id="clock" {attributes}></div>')
    page = site.open(context)
    expect(page.locator("#clock i")).to_have_text("twelve")
    site.publish("beside it")
    site.expect(page)


def test_an_event_with_a_type_is_an_event_of_the_element_in_htmx_4(context: BrowserContext, gate: Make) -> None:
    site = gate("htmx 4")
    page = site.open(context)
    page.evaluate(
        """() => {
          document.querySelector("#heard").addEventListener("order-paid", ({ detail }) => { window.paid = detail; });
        }"""
    )
    given = site.mercure.publish(TOPIC, "two\nlines", type="order-paid")
    page.wait_for_function("window.paid")
    assert page.evaluate("paid") == {"data": "two\nlines", "id": given}
    assert page.evaluate("heard()") == []


ORDERS = {
    # The adapter stands behind the library, and before it.
    "htmx 2": PAGES["htmx 2"].replace(
        HTMX_2,
        """{{ mercure_client("htmx") }}<script src="/htmx.org-2/dist/htmx.js" defer></script>
<script src="/htmx-ext-sse/dist/sse.js" defer></script>""",
    ),
    "htmx 4": PAGES["htmx 4"].replace(
        HTMX_4,
        f"""{{{{ mercure_client("htmx") }}}}<script src="{HTMX_4_WHOLE}" defer></script>""",
    ),
}


@pytest.mark.parametrize("version", list(ORDERS))
def test_the_adapter_may_stand_before_htmx(context: BrowserContext, gate: Make, version: str) -> None:
    site = gate(version, ORDERS[version])
    page = site.open(context)
    site.refuses = True
    site.cut(page)
    wait_until(lambda: site.refused >= 2, "it is the client's stream, which tries again")
    site.refuses = False
    site.publish("after")
    wait_for(page, "heard().includes('after')")


@pytest.mark.parametrize("version", ["htmx 2", "htmx 4"])
def test_an_element_tells_of_its_stream(context: BrowserContext, gate: Make, version: str) -> None:
    site = gate(version)
    page = site.open(context)
    site.refuses = True
    site.cut(page)
    wait_for(page, "refusals.includes(401) && states.includes('refused')")


def test_htmx_2_sends_its_own_events(context: BrowserContext, gate: Make) -> None:
    listen = """<script>
let told = [];
for (const name of ["htmx:sseOpen", "htmx:sseError", "htmx:sseMessage"])
  document.addEventListener(name, () => { told.push(name); });
</script>"""
    site = gate("htmx 2", PAGES["htmx 2"].replace(HTMX_2, listen + HTMX_2))
    page = site.open(context)
    site.publish("one")
    site.expect(page)
    site.cut(page)
    # It may take more than one attempt.
    once = "told.filter((name, index) => name !== told[index - 1])"
    wait_for(page, f"{once}.length >= 4")
    expected = ["htmx:sseOpen", "htmx:sseMessage", "htmx:sseError", "htmx:sseOpen"]
    assert page.evaluate(f"{once}.slice(0, 4)") == expected
