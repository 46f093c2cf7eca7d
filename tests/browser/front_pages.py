"""Pages that listen to one topic with a front end and our adapter for it, and what is published for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask_mercure_sse import MercureSSE

COUNT = """
<script>
let opens = 0, ends = 0, states = [], gaps = [], refusals = [];
function heard() { return [...document.querySelectorAll("#heard b")].map((each) => each.textContent); }
document.addEventListener("mercure:state", ({ detail }) => {
  states.push(detail);
  if (detail === "open") opens += 1;
  if (detail === "waiting" || detail === "refused") ends += 1;
});
document.addEventListener("mercure:gap", ({ detail }) => { gaps.push(detail); });
document.addEventListener("mercure:refusal", ({ detail }) => { refusals.push(detail.status); });
</script>
"""
"""Every page has ``heard()``, the texts that it has received, and counts how often its stream has begun and ended."""

HTMX_2 = """
<script src="/htmx.org-2/dist/htmx.js"></script><script src="/htmx-ext-sse/dist/sse.js"></script>
{{ mercure_client("htmx") }}
"""
HTMX_4 = """
<script src="/htmx.org/dist/htmx.js"></script><script src="/htmx.org/dist/ext/hx-sse.js"></script>
{{ mercure_client("htmx") }}
"""
TURBO = """
{{ mercure_client("turbo") }}
<script type="module" src="/@hotwired/turbo/dist/turbo.es2017-esm.js"></script>
"""
DATASTAR = """
{{ mercure_client("datastar") }}
<script type="module" src="/datastar.js"></script>
"""
ALPINE = """
{{ mercure_client("alpine") }}
<script src="/alpinejs/dist/cdn.js" defer></script>
"""

BODIES = {
    "htmx 2": """
<div id="stream" hx-ext="sse" sse-connect="{{ url }}">
  <div id="heard" sse-swap="message" hx-swap="beforeend"></div>
</div>
""",
    "htmx 4": '<div id="heard" hx-sse:connect="{{ url }}" hx-swap="beforeend"></div>',
    "Turbo": '<mercure-turbo-stream src="{{ url }}"></mercure-turbo-stream><div id="heard"></div>',
    "Datastar": '<mercure-datastar-stream src="{{ url }}"></mercure-datastar-stream><div id="heard"></div>',
    "Alpine": """
<div x-data="{ texts: [] }" x-mercure="{{ url }}" x-mercure:order.paid="texts.push($event.json().text)">
  <div id="heard"><template x-for="text in texts"><b x-text="text"></b></template></div>
</div>
""",
}
HEADS = {"htmx 2": HTMX_2, "htmx 4": HTMX_4, "Turbo": TURBO, "Datastar": DATASTAR, "Alpine": ALPINE}

PAGES = {kind: f"<!doctype html><title>page</title>{COUNT}{HEADS[kind]}{body}" for kind, body in BODIES.items()}


def publisher(kind: str, mercure: MercureSSE) -> Callable[..., str]:
    """Publishes a text, so that a page of this kind shows it."""

    def publish(topic: Any, text: str, html: str | None = None, **options: Any) -> str:
        html = html or f"<b>{text}</b>"
        if kind == "Turbo":
            return mercure.turbo.append(topic, "heard", html=html, **options)
        if kind == "Datastar":
            return mercure.datastar.patch_elements(topic, html, selector="#heard", mode="append", **options)
        if kind == "Alpine":
            return mercure.publish(topic, {"text": text}, type="order.paid", **options)
        return mercure.publish(topic, html, **options)

    return publish
