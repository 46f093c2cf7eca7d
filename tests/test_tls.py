"""A hub with TLS of its own: clients ask it, its certificate is replaced, and its sockets come from elsewhere."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from flask import Flask

import hubs
from clients import HUB_PATH, PATIENCE, Request, Stream, Token
from documents import Document
from flask_mercure_sse import HubUnreachableError, MercureSSE
from proxies import HOST, certificate
from servers import needs
from waiting import wait_until

PUBLISH = Token.bearer(publish=["*"], key=hubs.PUBLISHER)


class Certificate:
    """The files of a hub, and what a client needs that trusts this certificate alone."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.path, self.key = certificate(directory)

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.path))

    @classmethod
    def of_client(cls, directory: Path, authority: Certificate) -> Certificate:
        """One for a client, which an authority has signed."""
        self = cls.__new__(cls)
        directory.mkdir()
        self.path, self.key = directory / "app.pem", directory / "app.key"
        command = [needs("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        command += ["-nodes", "-days", "2", "-subj", "/CN=app"]
        command += ["-CA", str(authority.path), "-CAkey", str(authority.key)]
        command += ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "extendedKeyUsage=clientAuth"]
        command += ["-out", str(self.path), "-keyout", str(self.key)]
        subprocess.run(command, check=True, capture_output=True)
        return self

    def replace(self, other: Certificate) -> None:
        """Takes over the files of another one: the key first, so that for a moment they do not fit."""
        os.replace(other.key, self.key)
        os.replace(other.path, self.path)


@pytest.fixture
def own(tmp_path):
    return Certificate(tmp_path / "own")


@pytest.fixture
def other(tmp_path):
    return Certificate(tmp_path / "other")


class Hub:
    """A hub with a certificate."""

    def __init__(
        self, own: Certificate, *options: str, before: tuple[str, ...] = (), stdin: socket.socket | None = None
    ) -> None:
        self.command = [*before, *hubs.petasos(), "--compat", "--keep-alive", "100ms"]
        self.command += ["--tls-cert", str(own.path), "--tls-key", str(own.key), *options]
        self.hub = hubs.HubProcess(self.command, stdin=None if stdin is None else stdin.fileno())
        self.process = self.hub.process
        parts = urlsplit(self.hub.url)
        assert (parts.scheme, parts.path) == ("https", HUB_PATH)
        self.address = ("127.0.0.1", parts.port)
        self.url = f"https://{HOST}:{parts.port}{HUB_PATH}"
        self.streams: list[Stream] = []

    def shows(self, own: Certificate) -> bool:
        """Whether a new connection gets this certificate."""
        return ssl.get_server_certificate(self.address) == own.path.read_text()

    def subscribe(self, own: Certificate) -> Stream:
        stream = Stream(f"{self.url}?topic=a", tls=own.trust)
        self.streams.append(stream)
        assert (stream.status, stream.opens()) == (200, True)
        return stream

    def publish(self, own: Certificate, data: str) -> None:
        assert Request("POST", self.url, PUBLISH, [("topic", "a"), ("data", data)], tls=own.trust).status == 200

    def close(self) -> None:
        for stream in self.streams:
            stream.close()
        self.hub.close()


@pytest.fixture
def start(stack):
    def start(*arguments, **options):
        hub = Hub(*arguments, **options)
        stack.callback(hub.close)
        return hub

    return start


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_curl_publishes_and_python_receives_over_tls(version, start, own):
    hub = start(own)
    stream = hub.subscribe(own)
    command = [needs("curl"), "--silent", "--cacert", str(own.path), f"--tlsv{version}", "--tls-max", version]
    command += ["-H", f"Authorization: {PUBLISH['Authorization']}", "-d", "topic=a", "-d", "data=hello", hub.url]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (ran.returncode, ran.stdout[:9]) == (0, "urn:uuid:"), ran
    assert stream.event()["data"] == "hello"
    # Without trust, nobody is asked.
    ran = subprocess.run([*command[:2], hub.url], capture_output=True, check=False, timeout=PATIENCE)
    assert ran.returncode == 60, "the certificate is not verified"


@pytest.mark.parametrize("way", ["the files change", "a signal"])
def test_a_stream_goes_on_while_the_certificate_is_replaced(way, start, own, other):
    hub = start(own, "--key-files-interval", "20ms" if way == "the files change" else "0")
    stream = hub.subscribe(own)
    hub.publish(own, "before")
    assert hub.shows(own)
    own.replace(other)
    if way == "a signal":
        hub.process.send_signal(signal.SIGHUP)
    wait_until(lambda: hub.shows(own), "a new connection gets the new certificate")
    hub.publish(own, "after")
    assert [stream.event()["data"] for _ in range(2)] == ["before", "after"]


def test_a_publisher_shows_the_certificate_that_the_page_asks_for(start, own, other, tmp_path):
    page = Document("how-to/tls")
    authorities = tmp_path / "publishers.pem"
    authorities.write_bytes(own.path.read_bytes())
    first, second = (Certificate.of_client(tmp_path / f"of {each.path.parent.name}", each) for each in (own, other))
    settings = tmp_path / "petasos.toml"
    settings.write_text(page.named("mtls").replace("/etc/petasos/tls", str(tmp_path)))
    hub = start(own, "--config", str(settings), "--key-files-interval", "20ms")
    stream = hub.subscribe(own)
    command = page.named("publish")
    for text, here in (
        ("curl ", f"{needs('curl')} --silent "),
        ("hub.pem", str(own.path)),
        ("topic=news", "topic=a"),
        ("https://hub.example.com/.well-known/mercure", hub.url),
    ):
        assert text in command
        command = command.replace(text, here)
    environment = {**os.environ, "TOKEN": PUBLISH["Authorization"].removeprefix("Bearer ")}

    def publish(shown: Certificate | None) -> subprocess.CompletedProcess[str]:
        show = "" if shown is None else f"--cert '{shown.path}' --key '{shown.key}'"
        shell = command.replace("--cert app.pem --key app.key", show)
        return subprocess.run(
            shell, shell=True, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE
        )

    assert publish(first).stdout.startswith("urn:uuid:")
    assert stream.event()["data"] == "hello"
    assert '"urn:petasos:problem:certificate-missing"' in publish(None).stdout
    assert publish(second).returncode != 0, "an alert ends the connection"
    os.replace(other.path, authorities)
    wait_until(lambda: publish(second).stdout.startswith("urn:uuid:"), "the other authority is taken")
    assert publish(first).returncode != 0, "the former authority is gone"
    assert stream.event()["data"] == "hello"


def test_the_extension_publishes_to_a_hub_with_tls(start, own, monkeypatch):
    hub = start(own)
    mercure = MercureSSE(Flask("app"), hub_url=hub.url, publisher_secret_key=hubs.PUBLISHER)
    with pytest.raises(HubUnreachableError):
        mercure.publish("a", "x")
    monkeypatch.setenv("SSL_CERT_FILE", str(own.path))
    stream = hub.subscribe(own)
    mercure = MercureSSE(Flask("app"), hub_url=hub.url, publisher_secret_key=hubs.PUBLISHER)
    mercure.publish("a", "hello")
    assert stream.event()["data"] == "hello"


def test_a_socket_of_the_service_manager_speaks_tls(start, own):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        script = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$0" "$@" 3<&0 </dev/null'
        hub = start(own, before=("sh", "-c", script), stdin=listener)
        assert hub.address == listener.getsockname()
        stream = hub.subscribe(own)
        hub.publish(own, "hello")
        assert stream.event()["data"] == "hello"


def test_a_hub_that_takes_over_has_a_certificate_of_its_own(start, own, other, tmp_path):
    takeover = ("--takeover", str(tmp_path / "takeover"), "--transport", f"host://{tmp_path}/log")
    old = start(own, *takeover)
    stream = old.subscribe(own)
    new = start(other, *takeover)
    assert new.address == old.address
    wait_until(lambda: new.shows(other), "the new hub has the port alone")
    assert old.process.wait(PATIENCE) == 0
    with pytest.raises(EOFError):
        stream.event()
    stream = new.subscribe(other)
    new.publish(other, "hello")
    assert stream.event()["data"] == "hello"


def test_the_hook_and_the_settings_of_the_page_give_a_hub_its_certificate(own, tmp_path):
    page, folder = Document("how-to/tls"), tmp_path / "etc"
    lineage = tmp_path / "live"
    lineage.mkdir()
    for path, name in ((own.path, "fullchain.pem"), (own.key, "privkey.pem")):
        (lineage / name).write_bytes(path.read_bytes())
    hook = page.named("hook")
    # The group of the packages is not on this machine.
    assert "-g petasos" in hook
    hook = hook.replace("-g petasos", "").replace("/etc/petasos", str(folder))
    environment = {**os.environ, "RENEWED_LINEAGE": str(lineage)}
    for _ in range(2):
        subprocess.run(["sh", "-c", hook], env=environment, check=True)
    assert sorted(path.name for path in (folder / "tls").iterdir()) == ["fullchain.pem", "privkey.pem"]
    (folder / "tls" / "privkey.pem").chmod(0o600)
    settings = folder / "petasos.toml"
    # The certificate is for this machine's name.
    settings.write_text(
        page.block("toml", "tls_cert").replace("/etc/petasos", str(folder)).replace("hub.example.com", HOST)
    )
    keys = ["--publisher-key", hubs.PUBLISHER, "--subscriber-key", hubs.SUBSCRIBER]
    command = [*hubs.petasos()[:1], "check", "--config", str(settings), *keys]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    # openssl says it as "Nov 30 10:44:11 2026 GMT".
    date = ["openssl", "x509", "-noout", "-enddate", "-in", str(own.path)]
    until = subprocess.run(date, capture_output=True, text=True, check=True).stdout.strip().removeprefix("notAfter=")
    day = datetime.strptime(until, "%b %d %H:%M:%S %Y %Z").date()
    line = f"ok: tls_cert: {folder}/tls/fullchain.pem: until {day}, for {HOST}, the host of public_url"
    assert (ran.returncode, ran.stdout.splitlines()[0]) == (0, line), ran.stdout + ran.stderr


def test_the_sockets_of_the_page_are_what_systemd_takes(tmp_path):
    (block,) = Document("how-to/tls").blocks("ini")
    for unit in ("petasos.socket", "petasos.service"):
        text = (hubs.ROOT / "deploy" / unit).read_text().replace("/usr/local/bin/petasos", "/bin/true")
        (tmp_path / unit).write_text(text.replace("Type=notify-reload\n", "Type=notify\n"))
    (tmp_path / "petasos.socket.d").mkdir()
    (tmp_path / "petasos.socket.d" / "page.conf").write_text(block)
    units = [str(tmp_path / unit) for unit in ("petasos.socket", "petasos.service")]
    command = [needs("systemd-analyze"), "verify", *units]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert [line for line in ran.stderr.splitlines() if "petasos" in line] == []
