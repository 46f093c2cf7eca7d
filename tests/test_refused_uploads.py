"""Clients that write all of a refused body before they read, and clients that stop sending, get the answer."""

from __future__ import annotations

import http.client
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest

from clients import PATIENCE

SECRETS = ["--publisher-secret", "p" * 32, "--subscriber-secret", "s" * 32]
FORM = "application/x-www-form-urlencoded"
BODY = b"topic=a&data=" + b"x" * (5 * 1024 * 1024)
TIMES = 50
"""Often, since a connection that is closed too early is a race."""


def with_http_client(url: str, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
    connection.request("POST", urlsplit(url).path, BODY, headers)
    status = connection.getresponse().status
    connection.close()
    return status


def with_urllib(url: str, headers: dict[str, str]) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, BODY, headers), timeout=PATIENCE) as response:
            return response.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def with_chunks(url: str, headers: dict[str, str]) -> int:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE)
    parts = (BODY[start : start + 65536] for start in range(0, len(BODY), 65536))
    connection.request("POST", urlsplit(url).path, parts, headers, encode_chunked=True)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.parametrize("upload", [with_http_client, with_urllib, with_chunks])
@pytest.mark.parametrize("status", [401, 413, 415, 404])
def test_python_reads_the_answer(upload, status, standalone, token):
    hub = standalone(*SECRETS)
    headers = {"Content-Type": FORM}
    if status != 401:
        headers.update(token.bearer(publish=["*"], key="p" * 32))
    if status == 415:
        headers["Content-Encoding"] = "gzip"
    url = hub.url + "/nothing" if status == 404 else hub.hub
    if upload is with_chunks:
        headers["Transfer-Encoding"] = "chunked"
    assert {upload(url, headers) for _ in range(TIMES)} == {status}


NODE = """
const [url, authorization] = process.argv.slice(1)
const headers = {'content-type': 'application/x-www-form-urlencoded', authorization}
const body = 'topic=a&data=' + 'x'.repeat(5 * 1024 * 1024)
for (let i = 0; i < 50; i++) {
  const answer = await fetch(url, {method: 'POST', headers, body})
  console.log(answer.status, (await answer.json()).type)
}
"""


def test_node_reads_the_answer(standalone, token):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    hub = standalone(*SECRETS)
    authorization = token.bearer(publish=["*"], key="p" * 32)["Authorization"]
    command = [node, "--input-type=module", "-e", NODE, hub.hub, authorization]
    result = subprocess.run(command, capture_output=True, text=True, timeout=6 * PATIENCE)
    assert result.stdout.splitlines() == ["413 urn:petasos:problem:too-large"] * TIMES, result.stderr


@pytest.mark.parametrize("expect", ["Expect: 100-continue", "Expect:"])
def test_curl_reads_the_answer(expect, standalone, token, tmp_path):
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    hub = standalone(*SECRETS)
    file = tmp_path / "body"
    file.write_bytes(BODY)
    authorization = token.bearer(publish=["*"], key="p" * 32)["Authorization"]
    command = [curl, "--silent", "--show-error", "--noproxy", "*", "--max-time", str(PATIENCE), "--output", "-"]
    command += ["--header", expect, "--header", f"Authorization: {authorization}", "--header", f"Content-Type: {FORM}"]
    command += ["--data-binary", f"@{file}", hub.hub]
    for _ in range(TIMES // 2):
        result = subprocess.run(command, capture_output=True, text=True)
        assert (result.returncode, "too-large" in result.stdout) == (0, True), result.stderr


@pytest.mark.parametrize("server", ["standalone", "embedded"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_client_that_stops_sending_gets_its_answer(server, version, standalone, token, request):
    if server == "standalone":
        hub = standalone("--publisher-secret", "p" * 32, "--subscriber-secret", "s" * 32).hub
        bearer = token.bearer(publish=["*"], key="p" * 32)
    else:
        request.getfixturevalue("app").config["MERCURE_HUB_ALLOW_PUBLISH"] = True
        hub, bearer = request.getfixturevalue("hub_url"), token.bearer(publish=["*"])
    host, path = urlsplit(hub).netloc, urlsplit(hub).path
    form = "topic=a&id=1"
    with socket.create_connection(tuple(host.rsplit(":", 1)), timeout=PATIENCE) as connection:
        head = f"POST {path} HTTP/{version}\r\nHost: {host}\r\nContent-Type: {FORM}\r\nContent-Length: {len(form)}\r\n"
        connection.sendall(f"{head}Authorization: {bearer['Authorization']}\r\n\r\n{form}".encode())
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.split()[1] == b"200", answer
    assert answer.endswith(b"\r\n\r\n1")
