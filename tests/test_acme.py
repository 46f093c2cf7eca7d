"""A hub that gets its certificates from a certification authority: a real one, on this machine."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest

import hubs
from authority import Authority
from clients import HUB_PATH, PATIENCE, Request, Token
from engines import ENGINES
from odd_authority import OddAuthority
from ports import Port
from servers import needs
from test_metrics import OF_CERTIFICATES
from waiting import wait_until

NAME = "hub.example.com"
EXPIRES = f'petasos_tls_certificate_expires_timestamp_seconds{{name="{NAME}",source="acme"}}'
PUBLISH = Token.bearer(publish=["*"], key=hubs.PUBLISHER)


class Hub:
    """A hub with a name, always on the same port."""

    def __init__(self, authority: Authority | OddAuthority, listen: Port, directory: Path, **options: str) -> None:
        self.authority, self.listen, self.directory = authority, listen, directory
        self.log = directory / "log"
        given = {"acme_domains": NAME, "acme_directory": authority.directory, "acme_ca": str(authority.ca)}
        if "transport" not in options:
            given["acme_cache"] = str(directory / "acme")
        given |= options
        self.options = [f"--{key.replace('_', '-')}={value}" for key, value in given.items()]
        self.start()

    def start(self) -> None:
        command = [*hubs.petasos(str(self.listen), admin_listen="127.0.0.1:0"), "--compat", *self.options]
        self.hub = hubs.HubProcess(command, str(self.log))
        self.process, self.began = self.hub.process, time.monotonic()
        line = self.process.stdout.readline()
        if line.startswith("Redirecting"):
            line = self.process.stdout.readline()
        self.admin = line.split()[-1]

    def stop(self) -> None:
        """Not while it orders: it might not get to say that it does so no more, on a busy machine."""
        orders = list((self.directory / "acme").glob("acme-order-*"))
        wait_until(lambda: all('"lease":null' in each.read_text() for each in orders), "the order is over")
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)
        self.hub.close()

    def close(self) -> None:
        self.hub.close()

    def connect(self, protocols: tuple[str, ...] = ()) -> ssl.SSLSocket:
        """As a client that trusts the authority alone."""
        trust = self.authority.trust()
        if protocols:
            trust.set_alpn_protocols(list(protocols))
        plain = socket.create_connection((self.listen.host, self.listen.number), timeout=PATIENCE)
        try:
            return trust.wrap_socket(plain, server_hostname=NAME)
        except BaseException:
            plain.close()
            raise

    def serial(self) -> str | None:
        """Of the certificate that clients get."""
        try:
            with self.connect() as connection:
                return str(connection.getpeercert()["serialNumber"])
        except OSError:
            return None

    def metrics(self) -> dict[str, float]:
        text = Request("GET", f"{self.admin}/metrics").body.decode()
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in lines}

    def check(self) -> dict[str, object]:
        """What /readyz says of the certificate."""
        checks = json.loads(Request("GET", f"{self.admin}/readyz").body)["checks"]
        return dict(checks["certificate"])

    def has_certificate(self) -> None:
        wait_until(lambda: self.serial() is not None, f"a certificate: {self.log.read_text()}")


@pytest.fixture
def held(stack):
    def held():
        port = Port()
        stack.callback(port.close)
        return port

    return held


@pytest.fixture
def authority(stack, tmp_path):
    def start(port, **options):
        authority = Authority(tmp_path, port.number, **options)
        stack.callback(authority.close)
        return authority

    return start


@pytest.fixture
def start(stack, tmp_path):
    def start(authority, port, name="hub", **options):
        directory = tmp_path / name
        directory.mkdir()
        hub = Hub(authority, port, directory, **options)
        stack.callback(hub.close)
        return hub

    return start


@pytest.mark.parametrize("nonce_reject", [0, 10])
def test_an_empty_start_has_a_certificate_within_seconds(nonce_reject, authority, start, held):
    port = held()
    ca = authority(port, nonce_reject=nonce_reject)
    hub = start(ca, port)
    hub.has_certificate()
    # Nonces that are refused cost a request each, and perhaps a whole attempt.
    assert nonce_reject or time.monotonic() - hub.began < 15, hub.log.read_text()
    assert ca.issued == 1
    with hub.connect() as connection:
        names = [value for _, value in connection.getpeercert()["subjectAltName"]]
    assert names == [NAME]
    assert hub.check() == {"ok": True, "found": "it is there"}
    metrics = hub.metrics()
    expires = metrics[EXPIRES]
    assert {name.partition("{")[0] for name in metrics} >= OF_CERTIFICATES
    assert 80 * 86_400 < expires - time.time() < 91 * 86_400
    assert metrics['petasos_acme_orders_total{outcome="issued"}'] == 1
    assert metrics["petasos_acme_last_order_successful"] == 1
    with hub.connect(("http/1.1",)) as connection:
        connection.sendall(f"GET /healthz HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
        assert connection.recv(12) == b"HTTP/1.1 200"
    for secret in ("PRIVATE", "key_pkcs8", hubs.PUBLISHER):
        assert secret not in hub.log.read_text()
    kept = hub.directory / "acme"
    assert {path.name.rsplit("-", 1)[0] for path in kept.glob("acme-*")} == {
        "acme-account",
        "acme-certificate",
        "acme-order",
    }
    assert {path.stat().st_mode & 0o777 for path in kept.iterdir()} == {0o600}


def test_a_hub_that_starts_again_takes_what_is_kept_and_orders_nothing(authority, start, held):
    port = held()
    ca = authority(port)
    hub = start(ca, port)
    hub.has_certificate()
    serial = hub.serial()
    hub.stop()
    hub.start()
    hub.has_certificate()
    assert (hub.serial(), ca.issued) == (serial, 1)
    # Without the authority, too.
    hub.stop()
    ca.stop()
    hub.start()
    wait_until(lambda: "is offered" in hub.log.read_text(), "the certificate is offered")
    assert hub.metrics()[EXPIRES] > time.time()


def test_a_hub_that_starts_again_refuses_no_client_that_waits_at_its_socket(authority, start, held):
    port = held()
    hub = start(authority(port), port)
    hub.has_certificate()
    hub.stop()
    port.socket.listen()
    trust, clients = hub.authority.trust(), []
    try:
        for _ in range(20):
            plain = socket.create_connection((port.host, port.number), timeout=PATIENCE)
            client = trust.wrap_socket(plain, server_hostname=NAME, do_handshake_on_connect=False)
            clients.append(client)
            client.setblocking(False)
            with pytest.raises(ssl.SSLWantReadError):
                client.do_handshake()
        # As systemd does it.
        script = 'export LISTEN_PID=$$ LISTEN_FDS=1; exec "$0" "$@" 3<&0 </dev/null'
        command = [*hubs.petasos(str(port)), "--compat", *hub.options]
        hub.hub = hubs.HubProcess(["sh", "-c", script, *command], str(hub.log), stdin=port.socket.fileno())
        for client in clients:
            client.settimeout(PATIENCE)
            client.do_handshake()
    finally:
        for client in clients:
            client.close()


def test_an_authority_asks_over_plain_http_and_browsers_are_sent_to_https(authority, start, held):
    port, plain = held(), held()
    ca = authority(held(), http_port=plain.number)
    hub = start(ca, port, acme_challenge="http-01", redirect_listen=str(plain))
    hub.has_certificate()
    url = f"http://{plain}/.well-known/mercure?topic=a%2Fb"
    for host, status, location in [
        (NAME, 308, f"https://{NAME}/.well-known/mercure?topic=a%2Fb"),
        ("other.example.com", 421, None),
    ]:
        answer = Request("GET", url, {"Host": host})
        assert (answer.status, answer.headers.get("Location")) == (status, location), host
    assert Request("GET", f"http://{plain}/.well-known/acme-challenge/unknown").status == 404


def test_an_order_that_fails_says_why_and_is_not_made_again_at_once(authority, start, held):
    port = held()
    # The authority looks where nobody is.
    ca = authority(held())
    hub = start(ca, port)
    wait_until(lambda: hub.metrics()['petasos_acme_orders_total{outcome="failed"}'] == 1, "a failed order")
    said = "there is no certificate, so clients are refused; the next attempt is in 1m"
    wait_until(lambda: said in hub.log.read_text(), f"it is said: {hub.log.read_text()}")
    log = hub.log.read_text()
    assert f"let {NAME} lead to this hub in DNS, and port 443 there reach it" in log, log
    found = hub.check()
    assert found["ok"] is False
    assert "lead to this hub" in str(found["found"])
    assert Request("GET", f"{hub.admin}/readyz").status == 503
    with pytest.raises(ssl.SSLError, match="ACCESS_DENIED"):
        hub.connect()
    # A start does not forget it.
    hub.stop()
    hub.start()
    wait_until(lambda: hub.metrics()["petasos_acme_last_order_successful"] == 0, "it is known")
    assert hub.metrics()['petasos_acme_orders_total{outcome="failed"}'] == 0


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"acme_directory": "https://localhost:1/dir"}, "localhost:1: client error"),
        ({"acme_directory": "{management}/roots/0"}, "correct acme_directory"),
        ({"acme_domains": "refused.example.com"}, "policy"),
        ({}, "give acme_eab_key_id and acme_eab_key"),
    ],
    ids=["no authority", "no directory", "a refused name", "an account is needed"],
)
def test_a_problem_says_what_to_change(options, problem, authority, start, held):
    port = held()
    external = None if options else {"kid": "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"}
    ca = authority(port, external=external)
    hub = start(ca, port, **{key: value.format(management=ca.management) for key, value in options.items()})
    wait_until(lambda: problem in hub.log.read_text(), f"{problem}: {hub.log.read_text()}")
    assert ca.issued == 0


TOO_LONG = json.dumps({"type": "urn:ietf:params:acme:error:malformed", "detail": "\n\x1b[31mno" * 20_000}).encode()
NO_CERTIFICATE = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("path", "answer", "problem"),
    [
        ("/order/1", (503, {"Retry-After": str(2**64 - 1)}, b"{}"), ""),
        ("/order", (400, {"Content-Type": "application/problem+json"}, TOO_LONG), "API error"),
        ("/certificate", (200, {}, NO_CERTIFICATE), "the authority has given a certificate that cannot be used"),
    ],
    ids=["an endless pause", "a very long problem", "no certificate"],
)
def test_an_authority_that_answers_oddly_costs_one_attempt(path, answer, problem, start, held, stack, tmp_path):
    odd = OddAuthority(tmp_path, {path: answer})
    stack.callback(odd.close)
    hub = start(odd, held())
    wait_until(lambda: hub.metrics()["petasos_acme_last_order_successful"] == 0, "an order that fails")
    assert path in odd.asked
    # Lines are written by a thread of their own.
    wait_until(lambda: "the next attempt is in" in hub.log.read_text(), "it is said")
    log = hub.log.read_text()
    assert problem in log, log
    assert "defect" not in log, log
    assert (max(map(len, log.splitlines())) < 2_000, "\x1b[31m" in log) == (True, False), log
    # It is written down, without a certificate, so that the next start knows it.
    (order,) = (hub.directory / "acme").glob("acme-order-*")
    wait_until(lambda: json.loads(order.read_text())["failures"] == 1, "the failure is written down")
    assert not list((hub.directory / "acme").glob("acme-certificate-*"))


def test_a_certificate_that_cannot_be_saved_is_offered_and_saved_later(start, held, stack, tmp_path):
    kept, elsewhere = tmp_path / "hub" / "acme", tmp_path / "hub" / "elsewhere"

    def issue(authority):
        # The store breaks when the order is nearly over.
        kept.rename(elsewhere)
        kept.write_text("no directory")
        return authority.issue()

    odd = OddAuthority(tmp_path, {"/certificate": issue})
    stack.callback(odd.close)
    hub = start(odd, held())
    wait_until(lambda: "could not be saved yet" in str(hub.check()["found"]), f"it is said: {hub.log.read_text()}")
    assert hub.check()["ok"]
    serial = own_serial(hub)
    metrics = hub.metrics()
    assert metrics['petasos_acme_orders_total{outcome="issued"}'] == 1
    assert metrics["petasos_acme_last_order_successful"] == 0
    kept.unlink()
    elsewhere.rename(kept)
    wait_until(lambda: list(kept.glob("acme-certificate-*")), f"it is saved: {hub.log.read_text()}")
    wait_until(lambda: hub.check() == {"ok": True, "found": "it is there"}, "it is said")
    assert hub.metrics()["petasos_acme_last_order_successful"] == 1
    assert [hub.log.read_text().count(text) for text in ("cannot be saved yet", "is saved\n")] == [1, 1]
    hub.stop()
    hub.start()
    wait_until(lambda: hub.check()["ok"], "it is taken up")
    assert own_serial(hub) == serial
    assert odd.asked.count("/order") == 1


def own_serial(hub: Hub) -> bytes:
    """The certificate that clients get, whoever has signed it."""
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((hub.listen.host, hub.listen.number), timeout=PATIENCE) as plain,
        trust.wrap_socket(plain, server_hostname=NAME) as connection,
    ):
        certificate = connection.getpeercert(binary_form=True)
    assert certificate is not None
    return certificate


def test_the_authority_gets_another_address_once(start, held, stack, tmp_path):
    odd = OddAuthority(tmp_path, {"/certificate": OddAuthority.issue})
    stack.callback(odd.close)
    hub = start(odd, held(), acme_email="one@example.com")
    wait_until(lambda: hub.check()["ok"], "a certificate")
    assert [each["contact"] for each in odd.told["/account"]] == [["mailto:one@example.com"]]
    assert "/account/1" not in odd.told
    hub.options = [option.replace("one@", "another@") for option in hub.options]
    for _ in range(2):
        hub.stop()
        before = odd.asked.count("/directory")
        hub.start()
        # It asks for advice when it starts.
        wait_until(lambda before=before: odd.asked.count("/directory") > before, "it asks the authority")
    wait_until(lambda: "/account/1" in odd.told, f"another address: {hub.log.read_text()}")
    assert odd.told["/account/1"] == [{"contact": ["mailto:another@example.com"]}]
    assert len(odd.told["/account"]) == 1


def test_an_account_that_the_operator_has_is_used(authority, start, held):
    port, key = held(), "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
    ca = authority(port, external={"kid": key})
    hub = start(ca, port, acme_eab_key_id="kid", acme_eab_key=key)
    hub.has_certificate()
    assert key not in hub.log.read_text()


def test_three_nodes_order_once_whichever_the_authority_asks(authority, start, held, engine):
    ports = [held() for _ in range(3)]
    # One of them orders, and any of them is asked.
    ca = authority(ports[2])
    nodes = [start(ca, port, transport=engine.url, name=f"node-{number}") for number, port in enumerate(ports)]
    for node in nodes:
        node.has_certificate()
    assert (len({node.serial() for node in nodes}), ca.issued) == (1, 1)
    assert sum(node.metrics()['petasos_acme_orders_total{outcome="issued"}'] for node in nodes) == 1


def test_a_store_that_is_down_leaves_the_certificate(authority, start, held, stack, tmp_path_factory):
    engine = ENGINES["redis"](tmp_path_factory.mktemp("redis"))
    stack.callback(engine.close)
    port = held()
    ca = authority(port, lasts=10)
    hub = start(ca, port, transport=engine.url)
    hub.has_certificate()
    trust = ca.trust()
    engine.stop()
    # It would look for the next one by then.
    wait_until(lambda: "the one that is there goes on" in hub.log.read_text(), "it looks in vain", 90)
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((port.host, port.number), timeout=PATIENCE) as plain:
        trust.wrap_socket(plain, server_hostname=NAME).close()


def test_every_node_takes_a_renewed_certificate(authority, start, held, stack, tmp_path_factory):
    engine = ENGINES["redis"](tmp_path_factory.mktemp("redis"))
    stack.callback(engine.close)
    ports = [held() for _ in range(2)]
    ca = authority(ports[0], lasts=20)
    nodes = [start(ca, port, transport=engine.url, name=f"node-{number}") for number, port in enumerate(ports)]
    for node in nodes:
        node.has_certificate()
    first = nodes[0].serial()
    for node in nodes:
        wait_until(lambda node=node: node.serial() not in (None, first), "another certificate", 90)


def test_a_renewal_cuts_none_of_a_thousand_streams(authority, start, held):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8_192), hard))
    port = held()
    ca = authority(port, lasts=30)
    hub = start(ca, port)
    hub.has_certificate()
    trust, streams = ca.trust(), []
    request = f"GET {HUB_PATH}?topic=a HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode()
    try:
        for _ in range(1_000):
            plain = socket.create_connection((port.host, port.number), timeout=PATIENCE)
            stream = trust.wrap_socket(plain, server_hostname=NAME)
            stream.sendall(request)
            streams.append(stream)
        first, issued = hub.serial(), ca.issued
        wait_until(lambda: ca.issued > issued and hub.serial() not in (None, first), "a renewal", 90)
        form = b"topic=a&data=after"
        head = f"POST {HUB_PATH} HTTP/1.1\r\nHost: {NAME}\r\nAuthorization: {PUBLISH['Authorization']}\r\n"
        head += f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(form)}\r\n\r\n"
        with hub.connect() as publisher:
            publisher.sendall(head.encode() + form)
            assert publisher.recv(12) == b"HTTP/1.1 200"
        for stream in streams:
            received = b""
            while b"data: after\n" not in received:
                part = stream.recv(65_536)
                assert part, received
                received += part
    finally:
        for stream in streams:
            stream.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_authority_may_advise_to_renew_early(authority, start, held):
    port = held()
    ca = authority(port)
    hub = start(ca, port)
    hub.has_certificate()
    first = hub.serial()
    ca.advise(ssl.get_server_certificate((port.host, port.number)), "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")
    # It asks at a start, and then some times a day.
    hub.stop()
    hub.start()
    wait_until(lambda: hub.serial() not in (None, first), f"a renewal: {hub.log.read_text()}")
    assert ca.issued == 2
    assert any("is a replacement of" in line for line in ca.server.lines), "the authority knows that it is a renewal"


def test_a_hub_takes_over_with_its_port_of_plain_http(authority, start, held, tmp_path):
    port, plain = held(), held()
    ca = authority(port)
    how = {"redirect_listen": str(plain), "takeover": str(tmp_path / "takeover"), "transport": f"host://{tmp_path}/log"}
    old = start(ca, port, name="old", **how)
    old.has_certificate()
    new = start(ca, port, name="new", **how)
    old.process.wait(PATIENCE)
    new.has_certificate()
    answer = Request("GET", f"http://{plain}/a", {"Host": NAME})
    assert (answer.status, answer.headers["Location"]) == (308, f"https://{NAME}/a")
    assert ca.issued == 1
    # Beside the log of this host.
    assert list((tmp_path / "log" / "mercure-documents").glob("acme-certificate-*"))


def test_a_socket_of_the_service_manager_redirects(stack, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        script = 'export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=redirect; exec "$0" "$@" 3<&0 </dev/null'
        command = ["env", f"XDG_STATE_HOME={tmp_path}", "sh", "-c", script, *hubs.petasos(), "--tls-dev"]
        hub = hubs.HubProcess(command, stdin=listener.fileno())
        stack.callback(hub.close)
        assert "https://" in hub.url
        address = "127.0.0.1:{1}".format(*listener.getsockname())
        answer = Request("GET", f"http://{address}/a", {"Host": "localhost"})
    assert (answer.status, answer.headers["Location"]) == (308, "https://localhost/a")


def test_a_name_is_enough(tmp_path):
    command = [*hubs.petasos()[:1], "config", "--show", "--acme-domains", NAME]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    assert 'listen = "0.0.0.0:443"  # default with acme_domains' in ran.stdout
    environment = {"HOME": str(tmp_path), "PATH": ""}
    command = [*hubs.petasos()[:1], "check", "--acme-domains", NAME]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE, env=environment)
    assert f"kept in {tmp_path}/.local/state/petasos/acme\n" in ran.stdout
    assert (ran.returncode, ran.stdout.splitlines()[-1]) == (0, "The hub would start with these settings.")


def test_a_certificate_for_development_is_trusted_with_the_file_that_is_printed(stack, tmp_path):
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    authorities = []
    for _ in range(2):
        command = ["env", f"XDG_STATE_HOME={tmp_path}", *hubs.petasos(), "--tls-dev"]
        hub = hubs.HubProcess(command)
        stack.callback(hub.close)
        line = ""
        while not line.startswith("curl "):
            line = hub.process.stdout.readline()
        for url in (line, line.replace("localhost", "127.0.0.1")):
            command = f"{needs('curl')} --silent {url.removeprefix('curl ')}"
            ran = subprocess.run(["sh", "-c", command], capture_output=True, check=False, timeout=PATIENCE)
            assert ran.stdout == b"ok\n", ran
        authorities.append((tmp_path / "petasos" / "tls-dev" / "authority.pem").read_text())
    assert authorities[0] == authorities[1]
    assert (tmp_path / "petasos" / "tls-dev" / "authority.key").stat().st_mode & 0o777 == 0o600
    command = [*hubs.petasos()[:1], "check", "--dev", "--tls-dev", "--acme-domains", NAME]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert ran.returncode == 1
    assert "--tls-dev: acme_domains is given, too" in ran.stdout


def test_check_may_try_whether_the_authority_answers(authority, held):
    ca = authority(held())
    command = [*hubs.petasos()[:1], "check", "--connect", "--acme-domains", NAME, "--acme-ca", str(ca.ca)]
    for directory, outcome in [
        (ca.directory, f"ok: acme_directory: {ca.directory}\n"),
        (f"{ca.management}/roots/0", f"error: acme_directory: {ca.management}/roots/0: it does not answer as"),
        ("https://localhost:1/dir", "error: acme_directory: https://localhost:1/dir: localhost:1: client error"),
    ]:
        ran = subprocess.run([*command, "--acme-directory", directory], capture_output=True, text=True, check=False)
        assert outcome in ran.stdout, ran
    assert ca.issued == 0


def test_while_the_authority_is_down_the_certificate_goes_on_and_a_metric_says_so(authority, start, held):
    port = held()
    ca = authority(port, lasts=40)
    hub = start(ca, port)
    hub.has_certificate()
    trust = ca.trust()
    ca.stop()
    wait_until(lambda: hub.metrics()["petasos_acme_last_order_successful"] == 0, "an order that fails", 90)
    with socket.create_connection((port.host, port.number), timeout=PATIENCE) as plain:
        trust.wrap_socket(plain, server_hostname=NAME).close()
    said = "was not renewed, and the one that is there goes on"
    wait_until(lambda: said in hub.log.read_text(), "it is said")
    found = hub.check()
    assert found["ok"] is True
    assert str(found["found"]).startswith("it is there and was not renewed")


def test_check_says_what_acme_would_do_and_asks_nobody(tmp_path):
    command = [*hubs.petasos(), "--acme-domains", f"{NAME},b.example.com", "--acme-cache", str(tmp_path / "acme")]
    command = [command[0], "check", *command[1:], "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    found = json.loads(ran.stdout)
    assert ran.returncode == 0, ran
    acme = found["acme"]
    assert (acme["domains"], acme["kept_in"]) == ([NAME, "b.example.com"], str(tmp_path / "acme"))
    assert re.fullmatch(r"https://acme-v02\.api\.letsencrypt\.org/directory", acme["directory"])
    assert not (tmp_path / "acme").exists()
