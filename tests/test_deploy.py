"""What deploy/ has: the configuration of the proxy, in front of two nodes and a log, as compose files start them."""

from __future__ import annotations

import re
import socket
import subprocess
import time

import pytest

import hubs
from clients import HUB_PATH, PATIENCE, Request
from cluster import PUBLISH, SUBSCRIBE, Node
from engines import Redis, listens

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
def proxy(stack, tmp_path, nodes) -> str:
    """The URL of the hub behind nginx."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    server = (DEPLOY / "nginx.conf").read_text().replace("listen 80;", f"listen 127.0.0.1:{port};")
    for number, node in enumerate(nodes, start=1):
        server = server.replace(f"petasos{number}:5500", node.listen)
    main = "daemon off; pid nginx.pid; error_log stderr; events {} http { access_log off;"
    paths = "".join(f"{kind}_temp_path {kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (tmp_path / "nginx.conf").write_text(f"{main} {paths}\n{server}\n}}")
    command = ["nginx", "-p", str(tmp_path), "-c", "nginx.conf", "-e", "stderr"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    deadline = time.monotonic() + PATIENCE
    while not listens("127.0.0.1", port):
        assert process.poll() is None, "nginx runs"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return f"http://127.0.0.1:{port}{HUB_PATH}"


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


@pytest.mark.parametrize("name", ["redis", "nats", "postgres"])
def test_compose_files_name_settings_that_exist(name):
    text = (DEPLOY / f"compose.{name}.yaml").read_text()
    documented = (hubs.ROOT / "docs" / "configuration.md").read_text()
    settings = set(re.findall(r"^ +PETASOS_([A-Z_]+):", text, re.MULTILINE))
    assert {"TRANSPORT", "PUBLISHER_KEY"} <= settings
    for setting in settings:
        assert f"| `{setting.lower()}` |" in documented
    assert f"PETASOS_TRANSPORT: {name}://" in text
