"""A page that listens to a hub with TLS of its own, in real browsers, while its certificate is replaced."""

from __future__ import annotations

import os
import signal
import ssl
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

import hubs
from clients import HUB_PATH, Request, Token
from proxies import HOST, certificate
from waiting import wait_until

PUBLISH = Token.bearer(publish=["*"], key=hubs.PUBLISHER)

LISTEN = """
    const items = document.createElement("ul");
    document.body.replaceChildren(items);
    new Promise((opens, fails) => {
        const source = new EventSource(location.href.replace("/readyz", "%s?topic=a"));
        source.onopen = () => opens(location.protocol);
        source.onerror = () => fails(new Error("the stream has ended"));
        source.onmessage = (event) => {
            const item = document.createElement("li");
            item.textContent = event.data;
            items.append(item);
        };
    })
"""


def files(directory: Path) -> tuple[Path, Path]:
    directory.mkdir()
    return certificate(directory)


@pytest.fixture
def own(tmp_path):
    return files(tmp_path / "own")


@pytest.fixture
def hub(stack, own):
    public, private = map(str, own)
    hub = hubs.HubProcess([*hubs.petasos(), "--compat", "--tls-cert", public, "--tls-key", private])
    stack.callback(hub.close)
    return hub


def listen(context, hub):
    """A page of the hub's own origin that shows what comes."""
    page = context.new_page()
    page.goto(f"https://{HOST}:{urlsplit(hub.url).port}/readyz")
    assert page.evaluate(LISTEN % HUB_PATH) == "https:"
    return page


def publish(hub, own, data, topic="a"):
    trust = ssl.create_default_context(cafile=str(own[0]))
    url = f"https://{HOST}:{urlsplit(hub.url).port}{HUB_PATH}"
    assert Request("POST", url, PUBLISH, [("topic", topic), ("data", data)], tls=trust).status == 200


STREAMS = """
    new Promise((done, fails) => {
        const heard = new Map();
        for (let number = 0; number < %d; number++) {
            const source = new EventSource(location.href.replace("/readyz", `%s?topic=t${number}`));
            source.onerror = () => fails(new Error(`stream ${number} has ended`));
            source.onmessage = (event) => heard.set(number, event.data);
            source.onopen = () => {
                heard.set(number, "");
                if (heard.size === %d) {
                    window.heard = heard;
                    done(performance.getEntriesByType("navigation")[0].nextHopProtocol);
                }
            };
        }
    })
"""


def test_a_page_has_thirty_streams_at_once(hub, own, context):
    """HTTP/1.1 gives a page six connections to a host, and the seventh stream would wait for ever."""
    page = context.new_page()
    page.goto(f"https://{HOST}:{urlsplit(hub.url).port}/readyz")
    assert page.evaluate(STREAMS % (30, HUB_PATH, 30)) == "h2"
    for number in range(30):
        publish(hub, own, f"update {number}", topic=f"t{number}")
    page.wait_for_function("[...window.heard].every(([number, data]) => data === `update ${number}`)")


def test_pages_get_updates_over_tls_before_and_after_the_certificate_is_replaced(hub, own, context, tmp_path):
    first = listen(context, hub)
    publish(hub, own, "one")
    expect(first.locator("li")).to_have_text(["one"])
    for new, old in zip(files(tmp_path / "new"), own, strict=True):
        os.replace(new, old)
    hub.process.send_signal(signal.SIGHUP)
    address, text = ("127.0.0.1", urlsplit(hub.url).port), own[0].read_text()
    wait_until(lambda: ssl.get_server_certificate(address) == text, "the new certificate is there")
    second = listen(context, hub)
    publish(hub, own, "two")
    expect(second.locator("li")).to_have_text(["two"])
    expect(first.locator("li")).to_have_text(["one", "two"])
