"""Pages that listen to one topic: each has ``heard()``, the texts that it has received."""

from __future__ import annotations

from playwright.sync_api import Page, TimeoutError

from documents import Document

TOPIC = "/news"

SCRIPT = Document("how-to/renew-tokens").named("reopen.js")
PAUSE = "pause = 1000"
assert PAUSE in SCRIPT
LISTEN = SCRIPT.replace(PAUSE, "pause = 100")
"""The script that opens a stream again which the browser has given up, after a tenth of the time."""

PAGES = {
    "EventSource": """
<!doctype html><title>page</title>
<script>
const texts = [];
function heard() { return texts; }
let opens = 0, ends = 0;
const source = new EventSource({{ url | tojson }}, { withCredentials: true });
source.onopen = () => { opens += 1; };
source.onmessage = (event) => { texts.push(event.data.replace(/<.?b>/g, "")); };
source.onerror = () => { ends += 1; };
</script>
""",
    # A page that has read its data when it was made.
    "loading": """
<!doctype html><title>page</title>
<script>
const rows = {{ rows | tojson }}, texts = [];
function heard() { return texts; }
let opens = 0, ends = 0;
const source = new EventSource({{ url | tojson }}, { withCredentials: true });
source.onopen = () => { opens += 1; };
source.onmessage = (event) => { texts.push(event.data.replace(/<.?b>/g, "")); };
source.onerror = () => { ends += 1; };
</script>
""",
    # A page that renews its token, with the script of docs/how-to/renew-tokens.md.
    "renewing": """
<!doctype html><title>page</title>
<script>{{ listen | safe }}</script>
<script>
const texts = [];
function heard() { return texts; }
let opens = 0, ends = 0;
class Counted extends EventSource {
  constructor(...all) {
    super(...all);
    this.addEventListener("open", () => { opens += 1; });
    this.addEventListener("error", () => { ends += 1; });
  }
}
EventSource = Counted;
listen({{ url | tojson }}, "/_mercure/token", (event) => { texts.push(event.data.replace(/<.?b>/g, "")); });
</script>
""",
    "htmx 2": """
<!doctype html><title>page</title>
<script src="/htmx.org-2/dist/htmx.js"></script><script src="/htmx-ext-sse/dist/sse.js"></script>
<script>
let opens = 0, ends = 0;
function heard() { return [...document.querySelectorAll("#heard b")].map((each) => each.textContent); }
document.addEventListener("htmx:sseOpen", () => { opens += 1; });
document.addEventListener("htmx:sseError", () => { ends += 1; });
</script>
<body hx-ext="sse" sse-connect="{{ url }}"><div id="heard" sse-swap="message" hx-swap="beforeend"></div></body>
""",
    "htmx 4": """
<!doctype html><title>page</title>
<script src="/htmx.org/dist/htmx.js"></script><script src="/htmx.org/dist/ext/hx-sse.js"></script>
<script>
let opens = 0, ends = 0;
function heard() { return [...document.querySelectorAll("#heard b")].map((each) => each.textContent); }
document.addEventListener("htmx:sse:after:connection", () => { opens += 1; });
// Before it connects again, too.
document.addEventListener("htmx:sse:before:connection", () => { ends += 1; });
</script>
<body><div id="heard" hx-sse:connect="{{ url }}" hx-swap="beforeend"
  hx-config='{"sse": {"reconnectDelay": 100, "reconnectMaxDelay": 200}}'></div></body>
""",
}
"""Each has ``heard()``, the texts that it has received, and counts how often its stream has begun and ended."""


def wait_for(page: Page, condition: str, argument: object = None) -> None:
    """Until a condition of the page holds. It fails with the state of the page."""
    try:
        page.wait_for_function(condition, arg=argument)
    except TimeoutError:
        state = page.evaluate("() => ({ opens, ends, heard: heard() })")
        raise AssertionError(f"waited in vain for {condition}, {argument}: {state}") from None
