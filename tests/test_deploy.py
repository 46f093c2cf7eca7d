"""What deploy/ has: the configuration of the proxy, in front of two nodes and a log, as compose files start them."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
from urllib.parse import urlsplit

import pytest

import hubs
from clients import HUB_PATH, PATIENCE, Request
from cluster import PUBLISH, SUBSCRIBE, Node, Trial
from documents import Document
from engines import Redis
from ports import Port
from proxies import PROXIES, Nginx

DEPLOY = hubs.ROOT / "deploy"


@pytest.fixture
def nodes(stack, tmp_path_factory):
    engine = Redis(tmp_path_factory.mktemp("redis"))
    stack.callback(engine.close)
    nodes = []
    for _ in range(2):
        nodes.append(Node(engine.url))
        stack.callback(nodes[-1].close)
    return nodes


@pytest.fixture
def start_nginx(stack, tmp_path):
    """Starts nginx with deploy/nginx.conf, in which lines may be replaced."""

    def start(listen: list[str], replaced: dict[str, str] | None = None) -> Nginx:
        nginx = Nginx(tmp_path, listen, replaced)
        stack.callback(nginx.close)
        return nginx

    return start


@pytest.fixture
def proxy(start_nginx, nodes) -> str:
    """The URL of the hub behind nginx."""
    return start_nginx([node.listen for node in nodes]).url


@pytest.fixture
def start_hub(stack):
    """Starts one node with its log in memory; returns where it listens."""

    def start(*options: str) -> str:
        hub = hubs.HubProcess([*hubs.petasos(), "--compat", *options])
        stack.callback(hub.close)
        return hub.url.split("/")[2]

    return start


def test_a_stream_through_the_proxy_gets_every_update_and_outlasts_a_node(proxy, nodes, open_stream):
    stream = open_stream(f"{proxy}?topic=a", SUBSCRIBE)
    stream.first_bytes()
    for number in range(20):
        form = [("topic", "a"), ("id", str(number)), ("private", "on")]
        assert Request("POST", proxy, PUBLISH, form).status == 200
        assert stream.event()["id"] == str(number), "it comes at once, not with the next buffer"
    nodes[0].kill()
    # Whichever node it was on.
    again = open_stream(f"{proxy}?topic=a&lastEventID=9", SUBSCRIBE)
    assert [again.event()["id"] for _ in range(10)] == [str(number) for number in range(10, 20)]
    assert Request("POST", proxy, PUBLISH, [("topic", "a"), ("id", "last")]).status == 200
    assert again.event()["id"] == "last"


# Caddy answers 502 to a publisher whose node is gone, until its health checks are told of the node.
@pytest.mark.parametrize("name", ["Nginx", "HAProxy", "Apache"])
def test_publishers_and_subscribers_behind_a_proxy_notice_no_end_of_a_node(name, nodes, stack, tmp_path):
    proxy = PROXIES[name](tmp_path, [node.listen for node in nodes])
    stack.callback(proxy.close)
    trial = Trial([proxy], seed=1)
    trial.run_for(50)
    nodes[0].process.terminate()
    assert nodes[0].process.wait(PATIENCE) == 0
    trial.run_for(50)
    assert [publisher.failures for publisher in trial.publishers] == [[]] * 3
    trial.finish()
    for publisher in trial.publishers:
        assert publisher.attempts == len(publisher.acknowledged), "each update was taken at once"


def test_a_request_after_an_idle_time_is_never_answered_with_502(start_hub, start_nginx, open_stream):
    # Both are shorter than in production. A silent stream that sends a comment each 50 ms is the clock.
    listen = start_hub("--idle-timeout", "1s", "--keep-alive", "50ms")
    proxy = start_nginx([listen], {"keepalive_timeout 60s;": "keepalive_timeout 500ms;"}).url
    clock = open_stream(f"http://{listen}{HUB_PATH}?topic=clock")
    for ticks in (1, 9, 10, 11, 19, 20, 21):
        assert Request("POST", proxy, PUBLISH, [("topic", "a")]).status == 200
        while ticks:
            ticks -= clock.response.readline() == b":\n"
    assert Request("POST", proxy, PUBLISH, [("topic", "a")]).status == 200


def test_nginx_closes_idle_connections_before_the_hub_does():
    nginx = re.search(r"keepalive_timeout (\d+)s;", (DEPLOY / "nginx.conf").read_text())
    documented = (hubs.ROOT / "docs" / "configuration.md").read_text()
    hub = re.search(r"\| `idle_timeout` \| DURATION \| `(\d+)s`", documented)
    assert int(nginx[1]) < int(hub[1])


STREAM = {"Accept": "text/event-stream"}


@pytest.fixture
def away(stack) -> str:
    """Where a hub would listen: connections are refused."""
    return str(stack.enter_context(Port()))


@pytest.fixture(params=PROXIES)
def start_proxy(request, stack, tmp_path):
    def start(listen: str):
        proxy = PROXIES[request.param](tmp_path, [listen])
        stack.callback(proxy.close)
        return proxy

    return start


def test_a_proxy_answers_a_stream_in_the_place_of_a_hub_that_is_away(away, start_proxy):
    proxy = start_proxy(away).url
    answer = Request("GET", f"{proxy}?topic=a", {**STREAM, "Origin": "https://page.example"})
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert re.fullmatch(rb"retry: \d+\n\n", answer.body), "and no event"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Access-Control-Allow-Origin"] == "https://page.example"
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert answer.headers["Vary"] == "Origin"
    answer = Request("GET", f"{proxy}?topic=a", STREAM)
    assert answer.status == 200
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert "Access-Control-Allow-Credentials" not in answer.headers


def test_a_proxy_answers_nothing_else_in_the_place_of_a_hub_that_is_away(away, start_proxy):
    proxy = start_proxy(away).url
    for request in (
        Request("POST", proxy, {**PUBLISH, **STREAM}, [("topic", "a")]),
        Request("HEAD", f"{proxy}?topic=a", STREAM),
        # No stream is asked for.
        Request("GET", f"{proxy}?topic=a"),
        Request("GET", f"{proxy}/subscriptions", {**SUBSCRIBE, **STREAM}),
    ):
        assert request.status in (502, 503)


def test_nginx_does_not_let_all_browsers_come_back_at_once(away, start_nginx):
    proxy = start_nginx([away]).url
    retries = {Request("GET", f"{proxy}?topic=a", STREAM).body for _ in range(50)}
    assert len(retries) > 1


@pytest.mark.parametrize(("status", "field"), [(403, {}), (503, {"Retry-After": "1"})])
def test_a_proxy_passes_on_what_a_hub_that_is_there_answers(status, field, fake_hub, start_proxy):
    fields = "".join(f"{name}: {value}\r\n" for name, value in field.items())
    hub = fake_hub(f"HTTP/1.1 {status} x\r\n{fields}Content-Length: 2\r\n\r\nno".encode())
    answer = Request("GET", start_proxy(hub.split("/")[2]).url + "?topic=a", STREAM)
    assert (answer.status, answer.body) == (status, b"no")
    assert all(answer.headers[name] == value for name, value in field.items())


def test_a_proxy_carries_streams_and_encoded_slashes(start_hub, start_proxy, open_stream):
    proxy = start_proxy(start_hub()).url
    stream = open_stream(f"{proxy}?topic=https://example.com/books/1", STREAM)
    stream.first_bytes()
    for number in range(5):
        form = [("topic", "https://example.com/books/1"), ("id", str(number))]
        assert Request("POST", proxy, PUBLISH, form).status == 200
        assert stream.event()["id"] == str(number), "it comes at once, not with the next buffer"
    path = "/subscriptions/https%3A%2F%2Fexample.com%2Fbooks%2F1"
    answer = Request("GET", proxy + path, SUBSCRIBE)
    assert answer.status == 200
    assert len(json.loads(answer.body)["subscriptions"]) == 1


def test_a_proxy_speaks_http_2_with_browsers(start_hub, start_proxy):
    url = urlsplit(start_proxy(start_hub()).secure_url)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection((url.hostname, url.port)) as plain,
        context.wrap_socket(plain, server_hostname=url.hostname) as connection,
    ):
        assert connection.selected_alpn_protocol() == "h2"


NGINX_LINES = Document("how-to/nginx").block("nginx", "location / {")
(APACHE_LINE,) = re.findall(r"`(ProxyPass / .*?)`", Document("how-to/apache").text)
# What the pages say of an application with the embedded hub.
FOR_AN_APPLICATION = {
    "Nginx": {"    location @away {": f"{NGINX_LINES}    location @away {{"},
    "Apache": {"    # While no node": f"    {APACHE_LINE}\n    # While no node"},
}


@pytest.mark.parametrize("name", PROXIES)
def test_a_proxy_stands_in_front_of_an_application_with_the_embedded_hub(
    name, app, mercure, serve, open_stream, stack, tmp_path
):
    app.add_url_rule("/page", "page", lambda: mercure.hub_url("a"))
    proxy = PROXIES[name](tmp_path, [urlsplit(serve(app)).netloc], FOR_AN_APPLICATION.get(name))
    stack.callback(proxy.close)
    url = Request("GET", proxy.url.replace(HUB_PATH, "/page")).body.decode()
    assert url == f"{proxy.url}?topic=a"
    stream = open_stream(url, STREAM)
    stream.first_bytes()
    mercure.publish("a", "b")
    assert stream.event()["data"] == "b"


def test_encoded_slashes_pass_the_proxy_and_a_proxy_that_decodes_them_is_named(start_hub, start_nginx, open_stream):
    listen = start_hub()
    stream = open_stream(f"http://{listen}{HUB_PATH}?topic=https://example.com/books/1")
    stream.first_bytes()
    path = "/subscriptions/https%3A%2F%2Fexample.com%2Fbooks%2F1"
    right = start_nginx([listen]).url
    answer = Request("GET", right + path, SUBSCRIBE)
    assert answer.status == 200
    assert len(json.loads(answer.body)["subscriptions"]) == 1
    decoding = {
        "location /.well-known/ {": "location / {",
        "404.\n        proxy_pass http://petasos;": "\n        proxy_pass http://petasos/;",
    }
    answer = Request("GET", start_nginx([listen], decoding).url + path, SUBSCRIBE)
    assert answer.status == 404
    assert "%2F" in json.loads(answer.body)["detail"]


@pytest.mark.parametrize("status", [401, 413])
def test_an_upload_that_is_refused_is_answered_through_the_proxy(status, start_hub, start_nginx):
    listen = start_hub()
    # All of the body reaches the hub: nginx neither refuses it nor waits for it.
    passing = "proxy_buffering off; proxy_request_buffering off; client_max_body_size 10m;"
    proxy = start_nginx([listen], {"proxy_buffering off;": passing}).url
    form = b"topic=a&data=" + bytes(5 * 1024 * 1024)
    headers = {"Content-Type": "application/x-www-form-urlencoded", **(PUBLISH if status == 413 else {})}
    for _ in range(10):
        assert Request("POST", proxy, headers, form).status == status


@pytest.mark.parametrize("name", ["memory", "durable", "redis", "nats", "postgres"])
def test_compose_files_name_settings_that_exist(name):
    text = (DEPLOY / f"compose.{name}.yaml").read_text()
    documented = (hubs.ROOT / "docs" / "configuration.md").read_text()
    settings = set(re.findall(r"^ +PETASOS_([A-Z_]+):", text, re.MULTILINE))
    assert {"TRANSPORT", "PUBLISHER_KEY"} <= settings
    for setting in settings:
        assert f"| `{setting.lower()}` |" in documented
    assert re.search(f'PETASOS_TRANSPORT: "?{name}:', text)


def test_the_certificate_for_trying_is_made_once(tmp_path):
    directory = tmp_path / "certificates"
    made = set()
    for _ in range(2):
        subprocess.run([DEPLOY / "certificate.sh", directory], check=True, capture_output=True)
        made.add((directory / "hub.crt").read_text())
    assert len(made) == 1
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(directory / "hub.crt", directory / "hub.key")
