"""The hub speaks HTTP/2, with and without TLS, to clients that are not ours."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit
from xml.etree import ElementTree

import pytest

import hubs
from clients import HUB_PATH, PATIENCE, Token
from proxies import HOST, certificate
from servers import needs

PUBLISH = Token.bearer(publish=["*"], key=hubs.PUBLISHER)
H2SPEC = hubs.ROOT / ".build" / "tools" / "bin" / "h2spec"

# Without TLS, what begins otherwise is HTTP/1.1 (RFC 9113, section 3.3), and this client may read an answer of that.
NO_PREFACE = "http2/3.5/2"


@pytest.fixture(params=["http", "https"])
def start(request, stack, tmp_path):
    options: list[str] = []
    if request.param == "https":
        public, private = certificate(tmp_path)
        options = ["--tls-cert", str(public), "--tls-key", str(private)]

    def start(*more: str):
        hub = hubs.HubProcess([*hubs.petasos(), "--compat", *options, *more])
        stack.callback(hub.close)
        return hub

    return start


@pytest.fixture
def hub(start):
    return start()


def ask(tool: str, hub, report: Path, *cases: str) -> tuple[list[str], list[str], str]:
    """Asks a hub for these cases, or for all: all of them, and those that failed, and what was said."""
    parts = urlsplit(hub.url)
    secure = ["-t", "-k"] if parts.scheme == "https" else []
    command = [tool, "-h", "127.0.0.1", "-p", str(parts.port), "-P", "/healthz", "-o", "5", "-j", str(report), *secure]
    ran = subprocess.run([*command, *cases], capture_output=True, text=True, check=False)
    asked, failed = [], []
    for suite in ElementTree.parse(report).getroot():
        for number, case in enumerate(suite.iter("testcase"), 1):
            asked.append(f"{suite.get('package')}/{number}")
            if case.find("failure") is not None or case.find("error") is not None:
                failed.append(asked[-1])
    return asked, failed, ran.stdout


def test_the_rules_of_http_2_are_kept(hub, tmp_path):
    tool = str(H2SPEC) if H2SPEC.exists() else shutil.which("h2spec")
    if tool is None:
        pytest.skip("h2spec is not there: make deploy-tools, with Go")
    asked, failed, _ = ask(tool, hub, tmp_path / "all.xml")
    assert len(asked) > 140
    if urlsplit(hub.url).scheme == "http":
        failed = [case for case in failed if case != NO_PREFACE]
    for case in failed:
        # What is wrong with a request may cross its answer, after which its stream is closed (RFC 9113, section 5.1).
        again = [ask(tool, hub, tmp_path / "one.xml", case) for _ in range(3)]
        assert any(not failed for _, failed, _ in again), again[0][2]


def curl(hub, tmp_path: Path, *options: str) -> list[str]:
    parts = urlsplit(hub.url)
    speaks = (
        ["--http2", "--cacert", str(tmp_path / "hub.crt")] if parts.scheme == "https" else ["--http2-prior-knowledge"]
    )
    name = ["--resolve", f"{HOST}:{parts.port}:127.0.0.1", f"{parts.scheme}://{HOST}:{parts.port}{HUB_PATH}?topic=a"]
    return [needs("curl"), "--silent", "--show-error", "--max-time", str(PATIENCE), *speaks, *options, *name]


@pytest.fixture
def listen(tmp_path, stack):
    """Begins a stream by curl."""
    features = subprocess.run([needs("curl"), "--version"], capture_output=True, text=True, check=True).stdout
    if "HTTP2" not in features.split():
        pytest.skip("this curl does not speak HTTP/2")

    def listen(hub):
        command = curl(hub, tmp_path, "--no-buffer", "--include")
        listening = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(listening.kill)
        assert listening.stdout.readline().split() == ["HTTP/2", "200"]
        return listening

    return listen


def publish(hub, tmp_path: Path, data: str) -> None:
    token = f"Authorization: {PUBLISH['Authorization']}"
    options = ["--data", f"topic=a&data={data}", "--header", token, "--write-out", " %{http_version} %{http_code}"]
    published = subprocess.run(curl(hub, tmp_path, *options), capture_output=True, text=True, check=True)
    assert published.stdout.split()[1:] == ["2", "200"]


def test_curl_publishes_and_listens_by_http_2(hub, listen, tmp_path):
    listening = listen(hub)
    publish(hub, tmp_path, "1")
    assert "data: 1\n" in iter(listening.stdout.readline, "")


def test_a_hub_that_takes_over_gets_the_streams_of_http_2(start, listen, tmp_path):
    takeover = ["--takeover", str(tmp_path / "takeover"), "--transport", f"host://{tmp_path}/log"]
    old = start(*takeover)
    listening = listen(old)
    publish(old, tmp_path, "1")
    assert "data: 1\n" in iter(listening.stdout.readline, "")
    new = start(*takeover)
    assert new.url == old.url
    # The end of a stream that is not whole is an error of curl.
    assert listening.wait(PATIENCE) == 0
    assert old.process.wait(PATIENCE) == 0
    listening = listen(new)
    publish(new, tmp_path, "2")
    assert "data: 2\n" in iter(listening.stdout.readline, "")


@pytest.mark.parametrize("start", ["http"], indirect=True)
def test_a_request_to_switch_to_http_2_is_answered_by_http_1(hub, tmp_path):
    """`Upgrade: h2c` is history (RFC 9113, section 3.1), and a server may ignore it (RFC 9110, section 7.8)."""
    url = hub.url.removesuffix(HUB_PATH) + "/healthz"
    asked = [
        needs("curl"),
        "--silent",
        "--http2",
        "--output",
        str(tmp_path / "body"),
        "--write-out",
        "%{http_version} %{http_code}",
        url,
    ]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split() == ["1.1", "200"]
