"""The same requests to petasos and to the reference hub, and every difference listed in docs/conformance.md.

The reference hub comes from its module registry and is built here, when Go is there. None of its code is in this
repository."""

from __future__ import annotations

import http.client
import json
import re
import time
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest

from clients import HUB_PATH, PATIENCE, Request, Stream, Token
from hubs import ISSUER, PAGE, PUBLISHER, RESOURCE, ROOT, SUBSCRIBER, HubProcess

DETAIL = "https://mercure.rocks/authorization-detail"
COMPARED = (
    "content-type",
    "cache-control",
    "last-event-id",
    "mercure-last-event-id",
    "link",
    "allow",
    "vary",
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "etag",
)
Seen = dict[str, Any]


class Hub(HubProcess):
    """A hub of a process of its own, and what is said to it in one dialect."""

    def __init__(self, command: list[str], dialect: str) -> None:
        super().__init__(command)
        self.dialect = dialect
        self.streams: list[Stream] = []

    def close(self) -> None:
        for stream in self.streams:
            stream.close()
        super().close()

    def token(
        self,
        *,
        publish: list[Any] | None = None,
        subscribe: list[Any] | None = None,
        key: str | None = None,
        payload: Any = None,
        **changed: Any,
    ) -> str:
        key = key or (PUBLISHER if publish is not None else SUBSCRIBER)
        if self.dialect == "0.x":
            mercure = {"publish": publish, "subscribe": subscribe, "payload": payload}
            claims = {"mercure": {name: value for name, value in mercure.items() if value is not None}, **changed}
            return Token.sign(claims, key)
        details = []
        for action, topics in (("publish", publish), ("subscribe", subscribe)):
            if topics is not None:
                matchers = [topic if isinstance(topic, dict) else {"match": topic} for topic in topics]
                detail = {"type": DETAIL, "actions": [action], "topics": matchers}
                details.append(detail if payload is None else {**detail, "payload": payload})
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": RESOURCE,
            "sub": "someone",
            "client_id": "client",
            "iat": now,
            "exp": now + 600,
            "jti": "a token",
            "authorization_details": details,
            **changed,
        }
        present = {name: value for name, value in claims.items() if value is not None}
        return Token.sign(present, key, {"alg": "HS256", "typ": "at+jwt"})

    def bearer(self, **claims: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(**claims)}"}

    def send(self, method: str, target: str = "", headers: dict[str, str] | None = None, form: Any = None) -> Request:
        return Request(method, self.url + target, headers, form)

    def publish(self, *fields: tuple[str, str]) -> Request:
        return self.send("POST", "", self.bearer(publish=["*"]), list(fields))

    def open(self, target: str, headers: dict[str, str] | None = None) -> Stream:
        stream = Stream(self.url + target, headers)
        self.streams.append(stream)
        return stream

    def head(self, target: str, headers: dict[str, str] | None = None) -> Seen:
        """The answer that begins a stream, which is closed."""
        stream = Stream(self.url + target, headers)
        stream.close()
        return compared(stream.status, stream.headers)

    @property
    def topic(self) -> str:
        """The parameter that asks for an exact topic."""
        return "topic" if self.dialect == "0.x" else "match"


def compared(status: int, headers: http.client.HTTPMessage) -> Seen:
    """What an answer says; of a refusal, the status and the error code of RFC 6750."""
    if status < 400:
        seen: Seen = {name: ", ".join(headers.get_all(name, [])) for name in COMPARED if name in headers}
        for name in {"allow", "vary"} & seen.keys():
            seen[name] = ", ".join(sorted({each.strip().lower() for each in seen[name].split(",")}))
        if "etag" in seen:
            seen["etag"] = "an entity tag"
        return {"status": status, **seen}
    challenge = headers["www-authenticate"]
    error = re.search(r'error="(\w+)"', challenge or "")
    return {"status": f"{status} {error[1]}" if error else status}


def answer(request: Request) -> Seen:
    seen = compared(request.status, request.headers)
    if request.status == 200:
        seen["body"] = request.body.decode()
    return seen


Scenario = Callable[[Hub], Iterator[tuple[str, Any]]]


def publications(hub: Hub) -> Iterator[tuple[str, Any]]:
    """Each kind of publication, and the status and headers of its answer."""
    allowed = hub.bearer(publish=["https://example.com/a", "https://example.com/b"])
    all_topics = hub.bearer(publish=["*"])
    topic, data = ("topic", "https://example.com/a"), ("data", "hello")
    yield "granted", answer(hub.send("POST", "", allowed, [topic, data]))
    yield "with an id", answer(hub.send("POST", "", allowed, [topic, data, ("id", "urn:x:1")]))
    yield "two topics", answer(hub.send("POST", "", allowed, [topic, ("topic", "https://example.com/b"), data]))
    yield "one of two topics not granted", answer(hub.send("POST", "", allowed, [topic, ("topic", "c"), data]))
    yield "topic not granted", answer(hub.send("POST", "", allowed, [("topic", "c"), data]))
    yield "private, topic not granted", answer(hub.send("POST", "", allowed, [("topic", "c"), data, ("private", "on")]))
    yield "granted by *", answer(hub.send("POST", "", all_topics, [topic, data]))
    yield "no data", answer(hub.send("POST", "", allowed, [topic]))
    yield "no topic", answer(hub.send("POST", "", allowed, [data]))
    yield "no token", answer(hub.send("POST", "", {}, [topic, data]))
    yield "token of a subscriber", answer(hub.send("POST", "", hub.bearer(subscribe=["*"]), [topic, data]))
    yield "token without grant", answer(hub.send("POST", "", hub.bearer(publish=[]), [topic, data]))
    yield "token of another key", answer(hub.send("POST", "", hub.bearer(publish=["*"], key="x" * 32), [topic, data]))
    yield "token expired", answer(hub.send("POST", "", hub.bearer(publish=["*"], exp=1), [topic, data]))
    yield "token malformed", answer(hub.send("POST", "", {"Authorization": "Bearer x"}, [topic, data]))
    yield "Basic authentication", answer(hub.send("POST", "", {"Authorization": "Basic eDp5"}, [topic, data]))
    for retry in ("5000", "soon", "-1"):
        yield f"retry {retry}", answer(hub.send("POST", "", all_topics, [topic, data, ("retry", retry)]))
    yield "id with a line break", answer(hub.send("POST", "", all_topics, [topic, data, ("id", "a\nb")]))
    yield "type with a line break", answer(hub.send("POST", "", all_topics, [topic, data, ("type", "a\nb")]))
    yield "id with #", answer(hub.send("POST", "", all_topics, [topic, data, ("id", "#a")]))
    yield "reserved topic", answer(hub.send("POST", "", all_topics, [("topic", f"{HUB_PATH}/x"), data]))
    json_form = {**all_topics, "Content-Type": "application/json"}
    yield "JSON", answer(hub.send("POST", "", json_form, b'{"topic":"a"}'))
    yield "no form at all", answer(hub.send("POST", "", all_topics))
    for count in (100, 101, 1001):
        topics = [("topic", str(number)) for number in range(count)]
        yield f"{count} topics", answer(hub.send("POST", "", all_topics, [*topics, data]))
    for exp in ("9999999999", "1"):
        seen = answer(hub.send("POST", "", hub.bearer(publish=["*"], exp=exp), [topic, data]))
        yield f"exp as the string {exp}", {"status": seen["status"]}
    if hub.dialect == "0.x":
        claims = {"mercure": {"publish": ["*"]}}
        access = Token.sign(claims, PUBLISHER, {"alg": "HS256", "typ": "at+jwt"})
        seen = answer(hub.send("POST", "", {"Authorization": f"Bearer {access}"}, [topic, data]))
        yield "token of 1.0 with the claim of 0.x", {"status": seen["status"]}
    for method in ("PUT", "DELETE", "PATCH"):
        yield method, answer(hub.send(method, "", all_topics))


def cookies(hub: Hub) -> Iterator[tuple[str, Any]]:
    """Publications with the hub's cookie, from here and there."""
    cookie_name = "mercureAuthorization" if hub.dialect == "0.x" else "__Secure-mercure_access_token"
    cookie = {"Cookie": f"{cookie_name}={hub.token(publish=['*'])}"}
    form = [("topic", "a"), ("data", "hello")]
    for name, headers in (
        ("nothing", {}),
        ("an allowed Origin", {"Origin": PAGE}),
        ("another Origin", {"Origin": "https://evil.example"}),
        ("Origin null", {"Origin": "null"}),
        ("an allowed Referer", {"Referer": f"{PAGE}/x?y"}),
        ("another Referer", {"Referer": f"https://evil.example/{PAGE}"}),
        ("an allowed Origin, another Referer", {"Origin": PAGE, "Referer": "https://evil.example/"}),
    ):
        yield f"publish by cookie, {name}", answer(hub.send("POST", "", {**cookie, **headers}, form))
    own = {"Cookie": f"{cookie_name}={hub.token(subscribe=['*'])}"}
    yield "subscribe by cookie", hub.head(f"?{hub.topic}=a", own)
    stale = f"{cookie_name}={hub.token(subscribe=['*'], exp=1)}"
    several = {"Cookie": f"{stale}; {own['Cookie']}"}
    yield "subscribe by the second of two cookies", {"status": hub.head(f"?{hub.topic}=a", several)["status"]}
    basic = {**own, "Authorization": "Basic eDp5"}
    yield "subscribe by cookie, Basic authentication", {"status": hub.head(f"?{hub.topic}=a", basic)["status"]}


def cross_origin(hub: Hub) -> Iterator[tuple[str, Any]]:
    """What browsers ask before and with a request from another origin."""
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    for name, origin in (("an allowed", PAGE), ("another", "https://evil.example")):
        yield f"GET from {name} origin", hub.head(f"?{hub.topic}=a", {"Origin": origin})
        asked = hub.send("OPTIONS", "", {"Origin": origin, **preflight})
        yield (
            f"preflight from {name} origin",
            {key: value for key, value in answer(asked).items() if key.startswith("access") or key == "status"},
        )


def subscriptions(hub: Hub) -> Iterator[tuple[str, Any]]:
    """The answers that begin streams."""
    yield "exact", hub.head(f"?{hub.topic}=a")
    yield "two", hub.head(f"?{hub.topic}=a&{hub.topic}=b")
    yield "none", hub.head("")
    yield "empty", hub.head(f"?{hub.topic}=")
    yield "with a token", hub.head(f"?{hub.topic}=a", hub.bearer(subscribe=["a"]))
    yield "with a token without grant", hub.head(f"?{hub.topic}=a", hub.bearer(subscribe=[]))
    yield "with a publisher's token", hub.head(f"?{hub.topic}=a", hub.bearer(publish=["a"]))
    yield "with a bad token", hub.head(f"?{hub.topic}=a", {"Authorization": "Bearer a.b.c"})
    yield "with an expired token", hub.head(f"?{hub.topic}=a", hub.bearer(subscribe=["a"], exp=1))
    yield "HEAD", answer(hub.send("HEAD", f"?{hub.topic}=a"))
    yield "an empty history, Last-Event-ID", hub.head(f"?{hub.topic}=a", {"Last-Event-ID": "unknown"})
    hub.publish(("topic", "a"), ("data", "1"), ("id", "urn:x:1"))
    hub.publish(("topic", "a"), ("data", "2"), ("id", "urn:x:2"))
    yield "Last-Event-ID known", hub.head(f"?{hub.topic}=a", {"Last-Event-ID": "urn:x:1"})
    yield "Last-Event-ID unknown", hub.head(f"?{hub.topic}=a", {"Last-Event-ID": "urn:x:9"})
    yield "Last-Event-ID earliest", hub.head(f"?{hub.topic}=a", {"Last-Event-ID": "earliest"})
    for name in ("lastEventID", "last_event_id", "Last-Event-ID", "lastEventId"):
        yield f"parameter {name}", hub.head(f"?{hub.topic}=a&{name}=urn:x:1")
    parameter = "lastEventID" if hub.dialect == "0.x" else "last_event_id"
    two = f"?{hub.topic}=a&{parameter}=urn:x:1&{parameter}=urn:x:2"
    yield "two cursors in a URL", hub.head(two)
    yield "two cursors in a URL, another in the header", hub.head(two, {"Last-Event-ID": "urn:x:1"})
    yield "a blank parameter", hub.head(f"?{hub.topic}=a&{parameter}=")
    yield "a blank Last-Event-ID", hub.head(f"?{hub.topic}=a", {"Last-Event-ID": ""})
    if hub.dialect == "0.x":
        token = hub.token(subscribe=["a"])
        yield "token in the URL", hub.head(f"?topic=a&authorization={token}")
        yield "bad token in the URL", hub.head("?topic=a&authorization=x")
        yield "a broken template", hub.head("?topic=" + quote("https://example.com/{"))
    else:
        yield "a broken pattern", hub.head("?match_urlpattern=" + quote("https://example.com/(", safe=""))
        yield "an unknown matcher", hub.head("?match_x=a")
        yield "another case", hub.head("?MATCH=a")
        yield "topic of 0.x", hub.head("?topic=a")
        yield "token in the URL", hub.head(f"?match=a&authorization={hub.token(subscribe=['a'])}")
        form = "application/x-www-form-urlencoded"
        for kind in (form, "application/json"):
            connection = http.client.HTTPConnection(urlsplit(hub.url).netloc, timeout=PATIENCE)
            connection.request("QUERY", HUB_PATH, urlencode([("match", "a")]).encode(), {"Content-Type": kind})
            response = connection.getresponse()
            yield f"QUERY with {kind}", compared(response.status, response.headers)
            response.close()
            connection.close()


def tokens(hub: Hub) -> Iterator[tuple[str, Any]]:
    """What 1.0 asks of a token, one claim after the other."""
    form = [("topic", "a"), ("data", "x")]
    now = int(time.time())
    for name, changed in (
        ("iss of nobody", {"iss": "https://nobody.example"}),
        ("no iss", {"iss": None}),
        ("another aud", {"aud": "https://other.example"}),
        ("aud in a list", {"aud": ["https://other.example", RESOURCE]}),
        ("no aud", {"aud": None}),
        ("no exp", {"exp": None}),
        ("exp now", {"exp": now - 1}),
        ("nbf later", {"nbf": now + 300}),
        ("no sub", {"sub": None}),
        ("no client_id", {"client_id": None}),
        ("no iat", {"iat": None}),
        ("no jti", {"jti": None}),
        ("no details", {"authorization_details": None}),
        ("details that are no list", {"authorization_details": {}}),
        ("details of another type", {"authorization_details": [{"type": "x"}]}),
        ("no actions", {"authorization_details": [{"type": DETAIL, "topics": [{"match": "*"}]}]}),
        ("no topics", {"authorization_details": [{"type": DETAIL, "actions": ["publish"]}]}),
        (
            "an unknown action beside",
            {"authorization_details": [{"type": DETAIL, "actions": ["x", "publish"], "topics": [{"match": "*"}]}]},
        ),
        (
            "an unknown matcher type",
            {
                "authorization_details": [
                    {"type": DETAIL, "actions": ["publish"], "topics": [{"match": "*", "match_type": "x"}]}
                ]
            },
        ),
        ("topics as strings", {"authorization_details": [{"type": DETAIL, "actions": ["publish"], "topics": ["*"]}]}),
        (
            "a pattern",
            {
                "authorization_details": [
                    {"type": DETAIL, "actions": ["publish"], "topics": [{"match": "*", "match_type": "urlpattern"}]}
                ]
            },
        ),
        ("the claim of 0.x", {"authorization_details": None, "mercure": {"publish": ["*"]}}),
    ):
        seen = answer(hub.send("POST", "", hub.bearer(publish=["*"], **changed), form))
        yield f"publish, {name}", {"status": seen["status"]}
    claims = {"mercure": {"publish": ["*"]}}
    seen = answer(hub.send("POST", "", {"Authorization": f"Bearer {Token.sign(claims, PUBLISHER)}"}, form))
    yield "publish, a token of 0.x", {"status": seen["status"]}


def events(hub: Hub) -> Iterator[tuple[str, Any]]:
    """What subscribers receive, until the update that ends each."""
    last = ("data", "the end"), ("private", "")
    cases: list[tuple[str, str, dict[str, str], list[list[tuple[str, str]]]]] = [
        ("plain", f"{hub.topic}=a", {}, [[("topic", "a"), ("data", "hello")]]),
        ("lines", f"{hub.topic}=a", {}, [[("topic", "a"), ("data", "1\n2\r\n3\r4\n")]]),
        ("no data", f"{hub.topic}=a", {}, [[("topic", "a")]]),
        (
            "all fields",
            f"{hub.topic}=a",
            {},
            [[("topic", "a"), ("data", " x"), ("type", "kind"), ("retry", "7"), ("id", "urn:x:1")]],
        ),
        ("an alternate topic", f"{hub.topic}=b", {}, [[("topic", "a"), ("topic", "b"), ("data", "hello")]]),
        ("everything", f"{hub.topic}=*", {}, [[("topic", "a"), ("data", "1")], [("topic", "b"), ("data", "2")]]),
        ("private without a token", f"{hub.topic}=a", {}, [[("topic", "a"), ("data", "x"), ("private", "on")]]),
        ("private, empty value", f"{hub.topic}=a", {}, [[("topic", "a"), ("data", "x"), ("private", "")]]),
        (
            "private, granted",
            f"{hub.topic}=a",
            hub.bearer(subscribe=["a"]),
            [[("topic", "a"), ("data", "x"), ("private", "on")]],
        ),
        (
            "private, granted and not asked for",
            f"{hub.topic}=b",
            hub.bearer(subscribe=["a"]),
            [[("topic", "a"), ("data", "x"), ("private", "on")]],
        ),
        (
            "private, one of two topics granted",
            f"{hub.topic}=a",
            hub.bearer(subscribe=["b"]),
            [[("topic", "a"), ("topic", "b"), ("data", "x"), ("private", "on")]],
        ),
    ]
    if hub.dialect == "0.x":
        template = "topic=" + quote("https://example.com/books/{id}", safe="")
        for topic in ("https://example.com/books/1", "https://example.com/books/1/2", "https://example.com/books/"):
            cases.append((f"template, {topic}", template, {}, [[("topic", topic), ("data", "x")]]))
        optional = "topic=" + quote("https://example.com{/a,b}{?c}", safe="")
        for topic in ("https://example.com/1/2?c=3", "https://example.com/1", "https://example.com"):
            cases.append((f"operators, {topic}", optional, {}, [[("topic", topic), ("data", "x")]]))
    else:
        pattern = "match_urlpattern=" + quote("https://example.com/books/:id", safe="")
        for topic in ("https://example.com/books/1", "https://example.com/books/1/2", "https://EXAMPLE.com/books/x"):
            cases.append((f"pattern, {topic}", pattern, {}, [[("topic", topic), ("data", "x")]]))
        relative = "match_urlpattern=" + quote("/books/:id", safe="")
        for topic in ("/books/1", "https://hub.example/books/1", "https://example.com/books/1"):
            cases.append((f"relative pattern, {topic}", relative, {}, [[("topic", topic), ("data", "x")]]))
    for name, query, headers, updates in cases:
        stream = hub.open(f"?{query}&{hub.topic}=last", headers)
        stream.first_bytes()
        for update in updates:
            hub.publish(*update)
        hub.publish(("topic", "last"), last[0])
        received = []
        while (event := stream.event()).get("data") != "the end":
            received.append(event)
        yield name, {"events": received}


def history(hub: Hub) -> Iterator[tuple[str, Any]]:
    """What a subscriber that comes back receives."""
    for number in range(1, 4):
        hub.publish(("topic", "a"), ("data", str(number)), ("id", f"urn:x:{number}"))
    hub.publish(("topic", "secret"), ("data", "s"), ("id", "urn:x:s"), ("private", "on"))
    parameter = "lastEventID" if hub.dialect == "0.x" else "last_event_id"
    cases: list[tuple[str, str, dict[str, str]]] = [
        ("after 1", "", {"Last-Event-ID": "urn:x:1"}),
        ("after 1, by parameter", f"&{parameter}=urn:x:1", {}),
        ("header and parameter", f"&{parameter}=urn:x:2", {"Last-Event-ID": "urn:x:1"}),
        ("earliest", "", {"Last-Event-ID": "earliest"}),
        ("unknown", "", {"Last-Event-ID": "urn:x:9"}),
        ("not granted", f"&{hub.topic}=secret", {"Last-Event-ID": "urn:x:3"}),
        ("granted", f"&{hub.topic}=secret", {"Last-Event-ID": "urn:x:3", **hub.bearer(subscribe=["secret"])}),
    ]
    for number, (name, query, headers) in enumerate(cases):
        stream = hub.open(f"?{hub.topic}=a&{hub.topic}={number}{query}", headers)
        stream.first_bytes()
        hub.publish(("topic", str(number)), ("data", "the end"))
        received = []
        while (event := stream.event()).get("data") != "the end":
            received.append(event["data"])
        yield name, {"events": received}


def active(hub: Hub) -> Iterator[tuple[str, Any]]:
    """Subscription events and the subscription API."""
    api = f"{HUB_PATH}/subscriptions"
    everything = hub.bearer(subscribe=["*"])
    hub.publish(("topic", "x"), ("data", "first"), ("id", "urn:x:first"))
    watching = hub.open(f"?{hub.topic}=*", everything)
    watching.first_bytes()
    subscriber = hub.bearer(subscribe=["https://example.com/é?x=1&y"], payload={"name": "someone"})
    topic = quote("https://example.com/é?x=1&y", safe="")
    stream = hub.open(f"?{hub.topic}={topic}", subscriber)
    stream.first_bytes()
    yield "subscribed", {"event": event_of(watching)}
    for name, target in (
        ("all", "/subscriptions"),
        ("of a topic", f"/subscriptions/{topic}" if hub.dialect == "0.x" else f"/subscriptions/exact/{topic}"),
        ("of no topic", "/subscriptions/nothing" if hub.dialect == "0.x" else "/subscriptions/exact/nothing"),
    ):
        found = hub.send("GET", target, everything)
        seen = answer(found)
        seen["body"] = json.loads(found.body) if found.status == 200 else None
        yield name, seen
        yield f"{name}, HEAD", {"status": hub.send("HEAD", target, everything).status}
        if "etag" in seen:
            again = hub.send("GET", target, {**everything, "If-None-Match": found.headers["etag"]})
            yield f"{name}, unchanged", {"status": again.status}
    yield "all, without a token", answer(hub.send("GET", "/subscriptions"))
    yield "all, not granted", answer(hub.send("GET", "/subscriptions", hub.bearer(subscribe=["a"])))
    yield "all, granted by path", {"status": hub.send("GET", "/subscriptions", hub.bearer(subscribe=[api])).status}
    yield "all, POST", {"status": hub.send("POST", "/subscriptions", everything).status}
    stream.close()
    yield "unsubscribed", {"event": event_of(watching)}
    hub.open(f"?{hub.topic}=a%20b").first_bytes()
    yield "a topic with a space", {"id": event_of(watching)["data"]["id"]}


def event_of(stream: Stream) -> Any:
    """The next event that tells of somebody else; its data taken apart."""
    while True:
        event = stream.event()
        if event["data"].startswith("{"):
            document = json.loads(event["data"])
            if document.get("topic", document.get("match")) != "*":
                return {**event, "data": document}


def metadata(hub: Hub) -> Iterator[tuple[str, Any]]:
    """Protected resource metadata."""
    origin = hub.url.removesuffix(HUB_PATH)
    found = Request("GET", f"{origin}/.well-known/oauth-protected-resource{HUB_PATH}", {"Host": "hub.example"})
    seen = answer(found)
    seen["body"] = json.loads(found.body) if found.status == 200 else None
    yield "metadata", seen
    yield "nothing there", {"status": Request("GET", f"{origin}/nothing").status}


SCENARIOS: dict[str, list[Scenario]] = {
    "0.x": [publications, cookies, cross_origin, subscriptions, events, history, active],
    "1.0": [publications, cookies, cross_origin, subscriptions, tokens, events, history, active, metadata],
}


def normal(value: Any, names: dict[str, str]) -> Any:
    """Identifiers that each hub chooses, by the order in which they come."""
    if isinstance(value, dict):
        return {key: normal(each, names) for key, each in value.items()}
    if isinstance(value, list):
        return [normal(each, names) for each in value]
    if isinstance(value, str):
        value = re.sub(
            r"urn(?::|%3A)uuid(?::|%3A)[0-9a-f-]{36}", lambda m: names.setdefault(m[0], f"id-{len(names)}"), value
        )
        return re.sub(r"http://127\.0\.0\.1:\d+", "http://hub", value)
    return value


def observe(command: list[str], dialect: str, scenario: Scenario) -> dict[str, Seen]:
    """What a hub of its own does in a scenario: by case, then by part of the answer."""
    hub, names = Hub(command, dialect), dict[str, str]()
    try:
        return {case: normal(seen, names) for case, seen in scenario(hub)}
    finally:
        hub.close()


def rows() -> list[tuple[str, str, str]]:
    """The differences that are listed: a pattern of names, and what each hub says."""
    text = (ROOT / "docs/conformance.md").read_text().split("## The reference hub")[1].split("\n## ")[0]
    table = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return [(name.strip("`"), ours, theirs) for name, ours, theirs, _ in table]


def is_listed(row: tuple[str, str, str], name: str, ours: Any, theirs: Any) -> bool:
    """Whether a row is about a difference; a value in backticks must be the one seen."""
    pattern, *stated = row
    fits = [
        not text.startswith("`") or fnmatchcase(str(seen), text.strip("`"))
        for text, seen in zip(stated, (ours, theirs), strict=True)
    ]
    return fnmatchcase(name, pattern) and all(fits)


@pytest.mark.parametrize(
    ("dialect", "scenario"), [(dialect, each) for dialect, scenarios in SCENARIOS.items() for each in scenarios]
)
def test_the_reference_hub_answers_the_same_but_for_what_is_listed(
    hub_commands: dict[str, tuple[list[str], list[str]]], dialect: str, scenario: Scenario, tmp_path: Path
) -> None:
    own, reference = hub_commands[dialect]
    ours, theirs = observe(own, dialect, scenario), observe([*reference, str(tmp_path / "updates")], dialect, scenario)
    assert list(ours) == list(theirs)
    listed = [row for row in rows() if row[0].startswith(f"{dialect} {scenario.__name__}: ")]
    used, unlisted = set(), []
    for case in ours:
        for part in dict.fromkeys([*ours[case], *theirs[case]]):
            values = ours[case].get(part), theirs[case].get(part)
            if values[0] == values[1]:
                continue
            name = f"{dialect} {scenario.__name__}: {case}: {part}"
            found = {row for row in listed if is_listed(row, name, *values)}
            used |= found
            if not found:
                unlisted.append((name, *values))
            if part == "status":
                break
    assert not unlisted
    assert used == set(listed), "a difference is listed that does not exist"
