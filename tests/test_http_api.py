"""docs/reference/openapi.yaml says what a hub does: each documented request is sent to it, and each answer compared."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

import hubs
from clients import HUB_PATH, Request, Stream, Token
from scripts import TOOLS
from waiting import wait_until

DOCUMENT: dict[str, Any] = yaml.safe_load((hubs.ROOT / "docs/reference/openapi.yaml").read_text(encoding="utf-8"))
ADMIN_TOKEN = "the token of the operators, in tests"
DETAIL = "https://mercure.rocks/authorization-detail"
# What any answer of a server may have, and what CORS adds.
COMMON = {
    *("connection", "content-length", "content-type", "date", "transfer-encoding", "vary"),
    *("access-control-allow-credentials", "access-control-allow-origin", "access-control-expose-headers"),
}
# The operations below the path of all subscriptions.
LISTINGS = ("listSubscriptionsOfTopic", "readSubscription", "listSubscriptionsOfMatcher", "readSubscriptionOfMatcher")
# Answers that no request brings about at will. Tests of crates do: that of all refusals, and those of failing stores.
ELSEWHERE = {
    # Of a hub inside an application, which publishes by a function.
    ("publish", "405"),
    ("publish", "408"),
    ("publish", "503"),
    ("publish", "507"),
    ("subscribe", "503"),
    *((operation, "503") for operation in ("listSubscriptions", *LISTINGS)),
    ("healthz", "503"),
}


def operations() -> dict[str, dict[str, Any]]:
    return {
        operation["operationId"]: operation
        for path in DOCUMENT["paths"].values()
        for method, operation in path.items()
        if method not in ("servers", "parameters")
    }


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """What a reference leads to."""
    while "$ref" in part:
        names = part["$ref"].removeprefix("#/").split("/")
        part = DOCUMENT
        for name in names:
            part = part[name]
    return part


def check(schema: dict[str, Any], value: Any) -> None:
    Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(value)


class Hub:
    """petasos in a process of its own, with the operators' port."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.settings = folder / "petasos.toml"
        self.settings.write_text("retry = 3\n")
        command = [*hubs.petasos(admin_listen="127.0.0.1:0", drain_delay="1h"), "--compat", *options]
        command += ["--admin-token", ADMIN_TOKEN, "--config", str(self.settings)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.streams: list[Stream] = []
        found: list[str] = []
        assert self.process.stdout is not None
        while len(found) < 2:
            line = self.process.stdout.readline()
            assert line, "petasos does not start"
            found += re.findall(r"http://127\.0\.0\.1:\d+", line)
        self.url, self.admin = found

    def send(self, method: str, path: str, headers: Any = None, form: Any = None) -> Request:
        return Request(method, self.url + path, headers, form)

    def hub(self, method: str, query: str = "", headers: Any = None, form: Any = None) -> Request:
        return self.send(method, HUB_PATH + query, headers, form)

    def ask(self, method: str, path: str, **headers: str) -> Request:
        """An operator's request."""
        return Request(method, self.admin + path, {"Authorization": f"Bearer {ADMIN_TOKEN}", **headers})

    def open(self, query: str, **headers: str) -> Stream:
        self.streams.append(Stream(self.url + HUB_PATH + query, headers))
        return self.streams[-1]

    def lists(self, headers: dict[str, str]) -> bool:
        """Whether there is an active subscription in the dialect of the token."""
        return bool(json.loads(self.send("GET", SUBSCRIPTIONS, headers).body)["subscriptions"])

    def close(self) -> None:
        for stream in self.streams:
            stream.close()
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with ExitStack() as stack:
        hub = Hub(tmp_path_factory.mktemp("hub"))
        stack.callback(hub.close)
        for query in ("?topic=/books/1", "?match=/books/1"):
            assert hub.open(query).opens()
        for headers in (READER, reader_1_0()):
            wait_until(partial(hub.lists, headers))
        yield hub


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Hub]:
    """A hub that may come to harm."""
    hub = Hub(tmp_path, "--max-subscribers", "1")
    yield hub
    hub.close()


SUBSCRIPTIONS = HUB_PATH + "/subscriptions"
PUBLISHER = Token.bearer(publish=["*"], key=hubs.PUBLISHER)
NARROW = Token.bearer(publish=["/other"], key=hubs.PUBLISHER)
READER = Token.bearer(subscribe=["*"], key=hubs.SUBSCRIBER)
NOBODY = Token.bearer(subscribe=[], key=hubs.SUBSCRIBER)


def reader_1_0(*rests: str) -> dict[str, str]:
    """A token of 1.0 for paths of subscriptions; by default for all."""
    now = int(time.time())
    claims = {"iss": hubs.ISSUER, "aud": hubs.RESOURCE, "sub": "reader", "client_id": "tests", "iat": now, "jti": "1"}
    topics = [{"match": SUBSCRIPTIONS + rest, "match_type": "urlpattern"} for rest in rests or ("", "/*")]
    detail = {"type": DETAIL, "actions": ["subscribe"], "topics": topics}
    whole = {**claims, "exp": now + 600, "authorization_details": [detail]}
    return {"Authorization": f"Bearer {Token.sign(whole, hubs.SUBSCRIBER, {'alg': 'HS256', 'typ': 'at+jwt'})}"}


def subscription(hub: Hub, headers: dict[str, str]) -> str:
    """The path of an active subscription, in the dialect of the token."""
    path: str = json.loads(hub.send("GET", SUBSCRIPTIONS, headers).body)["subscriptions"][0]["id"]
    return path


def etag(hub: Hub) -> dict[str, str]:
    return {**READER, "If-None-Match": hub.send("GET", SUBSCRIPTIONS, READER).headers["ETag"]}


BOOK = "/%2Fbooks%2F1"
UPDATE = [("topic", "/books/1"), ("data", "Walden")]
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
Send = Callable[[Hub], Request]
CASES: list[tuple[str, str, Send]] = [
    ("subscribe", "400", lambda hub: hub.hub("GET")),
    ("subscribe", "401", lambda hub: hub.hub("GET", "?match=a", {"Authorization": "Bearer x.y.z"})),
    ("subscribe", "405", lambda hub: hub.hub("DELETE")),
    ("publish", "200", lambda hub: hub.hub("POST", "", PUBLISHER, UPDATE)),
    ("publish", "400", lambda hub: hub.hub("POST", "", PUBLISHER, [("data", "x")])),
    ("publish", "400", lambda hub: hub.hub("POST", "", {"Authorization": "Bearer"}, UPDATE)),
    ("publish", "401", lambda hub: hub.hub("POST", "", None, UPDATE)),
    ("publish", "403", lambda hub: hub.hub("POST", "", NARROW, UPDATE)),
    (
        "publish",
        "403",
        lambda hub: hub.hub("POST", "", {"Cookie": PUBLISHER["Authorization"].replace("Bearer ", COOKIE)}, UPDATE),
    ),
    ("publish", "413", lambda hub: hub.hub("POST", "", PUBLISHER, [("topic", str(n)) for n in range(101)])),
    ("publish", "415", lambda hub: hub.hub("POST", "", {**PUBLISHER, **FORM, "Content-Encoding": "gzip"}, b"x")),
    ("publish", "501", lambda hub: hub.hub("POST", "", {**PUBLISHER, **FORM, "Transfer-Encoding": "gzip, chunked"})),
    ("preflight", "204", lambda hub: hub.hub("OPTIONS", "", PREFLIGHT)),
    ("listSubscriptions", "200", lambda hub: hub.send("GET", SUBSCRIPTIONS, READER)),
    ("listSubscriptions", "200", lambda hub: hub.send("GET", SUBSCRIPTIONS, reader_1_0())),
    ("listSubscriptions", "304", lambda hub: hub.send("GET", SUBSCRIPTIONS, etag(hub))),
    ("listSubscriptions", "401", lambda hub: hub.send("GET", SUBSCRIPTIONS)),
    ("listSubscriptions", "403", lambda hub: hub.send("GET", SUBSCRIPTIONS, NOBODY)),
    ("listSubscriptions", "405", lambda hub: hub.send("POST", SUBSCRIPTIONS, READER)),
    ("listSubscriptionsOfTopic", "200", lambda hub: hub.send("GET", SUBSCRIPTIONS + BOOK, READER)),
    ("listSubscriptionsOfTopic", "401", lambda hub: hub.send("GET", SUBSCRIPTIONS + BOOK)),
    ("listSubscriptionsOfTopic", "403", lambda hub: hub.send("GET", SUBSCRIPTIONS + BOOK, NOBODY)),
    ("readSubscription", "200", lambda hub: hub.send("GET", subscription(hub, READER), READER)),
    ("readSubscription", "401", lambda hub: hub.send("GET", SUBSCRIPTIONS + BOOK + "/x")),
    ("readSubscription", "403", lambda hub: hub.send("GET", SUBSCRIPTIONS + BOOK + "/x", NOBODY)),
    ("readSubscription", "404", lambda hub: hub.send("GET", SUBSCRIPTIONS + BOOK + "/x", READER)),
    ("listSubscriptionsOfMatcher", "200", lambda hub: hub.send("GET", SUBSCRIPTIONS + "/exact" + BOOK, reader_1_0())),
    ("listSubscriptionsOfMatcher", "401", lambda hub: hub.send("GET", SUBSCRIPTIONS + "/exact" + BOOK)),
    (
        "listSubscriptionsOfMatcher",
        "403",
        lambda hub: hub.send("GET", SUBSCRIPTIONS + "/exact" + BOOK, reader_1_0("/other")),
    ),
    ("readSubscriptionOfMatcher", "200", lambda hub: hub.send("GET", subscription(hub, reader_1_0()), reader_1_0())),
    ("readSubscriptionOfMatcher", "401", lambda hub: hub.send("GET", SUBSCRIPTIONS + "/exact" + BOOK + "/x")),
    (
        "readSubscriptionOfMatcher",
        "403",
        lambda hub: hub.send("GET", SUBSCRIPTIONS + "/exact" + BOOK + "/x", reader_1_0("/other")),
    ),
    (
        "readSubscriptionOfMatcher",
        "404",
        lambda hub: hub.send("GET", SUBSCRIPTIONS + "/exact" + BOOK + "/x", reader_1_0()),
    ),
    ("metadata", "200", lambda hub: hub.send("GET", "/.well-known/oauth-protected-resource" + HUB_PATH)),
    ("healthz", "200", lambda hub: hub.send("GET", "/healthz")),
    ("readyz", "200", lambda hub: hub.send("GET", "/readyz")),
    ("metrics", "200", lambda hub: hub.ask("GET", "/metrics")),
    ("metrics", "200", lambda hub: hub.ask("GET", "/metrics", Accept="application/openmetrics-text")),
    ("metrics", "401", lambda hub: hub.ask("GET", "/metrics", Authorization="Bearer x")),
    ("metrics", "405", lambda hub: hub.ask("POST", "/metrics")),
    ("status", "200", lambda hub: hub.ask("GET", "/status")),
    ("status", "401", lambda hub: hub.ask("GET", "/status", Authorization="Bearer x")),
    ("reload", "200", lambda hub: hub.ask("POST", "/reload")),
    ("reload", "401", lambda hub: hub.ask("POST", "/reload", Authorization="Bearer x")),
    ("reload", "405", lambda hub: hub.ask("GET", "/reload")),
]
COOKIE = "__Secure-mercure_access_token="
PREFLIGHT = {"Origin": hubs.PAGE, "Access-Control-Request-Method": "POST"}


def compare(operation: str, status: str, answer: Request | Stream) -> None:
    """The status, each header field, the content type and the body."""
    responses = operations()[operation]["responses"]
    assert str(answer.status) == status
    documented = resolved(responses[status])
    names = set()
    for name, header in documented.get("headers", {}).items():
        header = resolved(header)
        names.add(name.lower())
        value = answer.headers[name]
        if value is not None or header.get("required", True):
            check(header["schema"], value)
    assert {name.lower() for name in answer.headers} <= names | COMMON
    contents = documented.get("content", {})
    assert (answer.headers["Content-Type"] in contents) == bool(contents)
    if contents and isinstance(answer, Request):
        kind = answer.headers["Content-Type"]
        text = answer.body.decode()
        check(contents[kind]["schema"], json.loads(text) if "json" in kind else text)


@pytest.mark.parametrize(("operation", "status", "send"), CASES)
def test_an_answer_is_as_documented(hub: Hub, operation: str, status: str, send: Send) -> None:
    compare(operation, status, send(hub))


@pytest.mark.parametrize("operation", LISTINGS)
def test_a_listing_that_has_not_changed_and_one_that_is_sent_are_answered_as_documented(
    hub: Hub, operation: str
) -> None:
    token = reader_1_0() if operation.endswith("Matcher") else READER
    one = subscription(hub, token)
    path = one if operation.startswith("read") else one.rpartition("/")[0]
    unchanged = {**token, "If-None-Match": hub.send("GET", path, token).headers["ETag"]}
    compare(operation, "304", hub.send("GET", path, unchanged))
    compare(operation, "405", hub.send("POST", path, token))


@pytest.mark.parametrize("query", ["?match=a", "?match_urlpattern=/a/:b", "?topic=a&lastEventID=earliest", "?topic=*"])
def test_a_stream_begins_as_documented(hub: Hub, query: str) -> None:
    stream = hub.open(query)
    compare("subscribe", "200", stream)
    assert (stream.headers["Last-Event-ID"] is not None) == ("lastEventID" in query)


def test_a_hub_that_is_full_or_stops_answers_as_documented(other: Hub) -> None:
    assert other.open("?match=a").opens()
    compare("subscribe", "429", other.hub("GET", "?match=a"))
    other.settings.write_text("retry = 'soon'\n")
    compare("reload", "422", other.ask("POST", "/reload"))
    other.process.send_signal(signal.SIGTERM)
    wait_until(lambda: other.send("GET", "/readyz").status == 503)
    compare("readyz", "503", other.send("GET", "/readyz"))


def test_every_documented_answer_is_compared() -> None:
    documented = {(name, status) for name, operation in operations().items() for status in operation["responses"]}
    others = {("subscribe", "200"), ("subscribe", "429"), ("reload", "422"), ("readyz", "503")}
    others |= {(operation, status) for operation in LISTINGS for status in ("304", "405")}
    assert {(operation, status) for operation, status, _ in CASES} | others | ELSEWHERE == documented


def test_the_problems_are_those_that_a_hub_counts(hub: Hub) -> None:
    counted = re.findall(r'petasos_refused_total\{.*?reason="([^"]+)"', hub.ask("GET", "/metrics").body.decode())
    reasons = set(counted) - {"other"}
    documented = DOCUMENT["components"]["schemas"]["Problem"]["properties"]["type"]["enum"]
    assert {f"urn:petasos:problem:{reason}" for reason in reasons} == set(documented)


def test_the_document_is_valid_and_has_the_version_of_the_hub() -> None:
    validate(DOCUMENT)
    manifest = (TOOLS.parent / "Cargo.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{DOCUMENT["info"]["version"]}"\n' in manifest
