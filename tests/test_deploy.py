"""What deploy/ has: the configuration of the proxy, in front of two nodes and a log, as compose files start them."""

from __future__ import annotations

import json
import re

import pytest

import hubs
from clients import HUB_PATH, Request
from cluster import PUBLISH, SUBSCRIBE, Node
from engines import Redis
from ports import Port
from servers import ServerProcess

DEPLOY = hubs.ROOT / "deploy"


@pytest.fixture
def nodes(stack, tmp_path_factory):
    engine = Redis(tmp_path_factory.mktemp("redis"))
    stack.callback(engine.close)
    nodes = []
    for _ in range(2):
        nodes.append(Node(engine))
        stack.callback(nodes[-1].close)
    return nodes


@pytest.fixture
def start_nginx(stack, tmp_path):
    """Starts nginx with deploy/nginx.conf, in which lines may be replaced; returns the URL of the hub behind it."""

    def start(listen: list[str], replaced: dict[str, str] | None = None) -> str:
        port = stack.enter_context(Port())
        server = (DEPLOY / "nginx.conf").read_text()
        nodes = {f"petasos{number}:5500": node for number, node in enumerate(listen, start=1)}
        for old, new in {**nodes, **(replaced or {}), "listen 80;": f"listen {port};"}.items():
            assert old in server
            server = server.replace(old, new)
        main = "daemon off; pid nginx.pid; error_log stderr notice; events {} http { access_log off;"
        paths = "".join(f"{kind}_temp_path {kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (tmp_path / "nginx.conf").write_text(f"{main} {paths}\n{server}\n}}")
        command = ["nginx", "-p", str(tmp_path), "-c", "nginx.conf", "-e", "stderr"]
        stack.callback(ServerProcess(command, "start worker process").stop)
        return f"http://{port}{HUB_PATH}"

    return start


@pytest.fixture
def proxy(start_nginx, nodes) -> str:
    """The URL of the hub behind nginx."""
    return start_nginx([node.listen for node in nodes])


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


def test_a_request_after_an_idle_time_is_never_answered_with_502(start_hub, start_nginx, open_stream):
    # Both are shorter than in production. A silent stream that sends a comment each 50 ms is the clock.
    listen = start_hub("--idle-timeout", "1s", "--keep-alive", "50ms")
    replaced = {"keepalive_timeout 60s;": "keepalive_timeout 500ms;", "petasos2:5500": listen}
    proxy = start_nginx([listen], replaced)
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


def test_encoded_slashes_pass_the_proxy_and_a_proxy_that_decodes_them_is_named(start_hub, start_nginx, open_stream):
    listen = start_hub()
    stream = open_stream(f"http://{listen}{HUB_PATH}?topic=https://example.com/books/1")
    stream.first_bytes()
    path = "/subscriptions/https%3A%2F%2Fexample.com%2Fbooks%2F1"
    right = start_nginx([listen], {"petasos2:5500": listen})
    answer = Request("GET", right + path, SUBSCRIBE)
    assert answer.status == 200
    assert len(json.loads(answer.body)["subscriptions"]) == 1
    decoding = {"petasos2:5500": listen, "location /.well-known/": "location /", "http://petasos;": "http://petasos/;"}
    answer = Request("GET", start_nginx([listen], decoding) + path, SUBSCRIBE)
    assert answer.status == 404
    assert "%2F" in json.loads(answer.body)["detail"]


@pytest.mark.parametrize("status", [401, 413])
def test_an_upload_that_is_refused_is_answered_through_the_proxy(status, start_hub, start_nginx):
    listen = start_hub()
    # All of the body reaches the hub: nginx neither refuses it nor waits for it.
    passing = "proxy_buffering off; proxy_request_buffering off; client_max_body_size 10m;"
    proxy = start_nginx([listen], {"petasos2:5500": listen, "proxy_buffering off;": passing})
    form = b"topic=a&data=" + bytes(5 * 1024 * 1024)
    headers = {"Content-Type": "application/x-www-form-urlencoded", **(PUBLISH if status == 413 else {})}
    for _ in range(10):
        assert Request("POST", proxy, headers, form).status == status


@pytest.mark.parametrize("name", ["redis", "nats", "postgres"])
def test_compose_files_name_settings_that_exist(name):
    text = (DEPLOY / f"compose.{name}.yaml").read_text()
    documented = (hubs.ROOT / "docs" / "configuration.md").read_text()
    settings = set(re.findall(r"^ +PETASOS_([A-Z_]+):", text, re.MULTILINE))
    assert {"TRANSPORT", "PUBLISHER_KEY"} <= settings
    for setting in settings:
        assert f"| `{setting.lower()}` |" in documented
    assert f"PETASOS_TRANSPORT: {name}://" in text
