"""The same client libraries over TLS, and those of them that speak HTTP/2 over that, with TLS and without: each is cut
off, and comes back where it was. Browsers are in ``browser/test_tls.py``, curl is in ``test_http2.py``."""

from __future__ import annotations

import contextlib
import re
import ssl
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from clients import Request
from clients_matrix.client import GO, NAMES, Client, Outcome, commands, publish
from hubs import HubProcess, petasos
from proxies import HOST, certificate
from waiting import wait_until

EVENTS = 20
CUT_BEFORE = 11

HTTP2 = [*(f"Go {name}" for name in GO), "PyPI httpx_sse"]
SPEAKERS = {"https": NAMES, "h2": HTTP2, "h2c": HTTP2}
CASES = [(carrier, name) for carrier, names in SPEAKERS.items() for name in names]


class Run(NamedTuple):
    outcomes: dict[str, Outcome]
    streams: dict[str, int]
    """How many were open by each protocol when all had begun."""
    started: int


def streams(admin: str) -> dict[str, int]:
    text = Request("GET", f"{admin}/metrics").body.decode()
    found = re.findall(r'(?m)^petasos_http_streams\{protocol="([^"]+)"\} (\d+)', text)
    return {protocol: int(count) for protocol, count in found}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """What came of each carrier. All clients run at the same time, since some wait before they come back."""
    found, missing = commands()
    folder = tmp_path_factory.mktemp("clients")
    public, private = certificate(folder)
    trust = ssl.create_default_context(cafile=str(public))
    with ExitStack() as stack:
        hubs: dict[str, tuple[str, str, ssl.SSLContext | None]] = {}
        running: dict[str, dict[str, Client]] = {}
        for carrier, names in SPEAKERS.items():
            command = [*petasos(admin_listen="127.0.0.1:0"), "--compat", "--retry", "100ms"]
            if carrier != "h2c":
                command += ["--tls-cert", str(public), "--tls-key", str(private)]
            hub = HubProcess(command)
            stack.callback(hub.close)
            assert hub.process.stdout is not None
            admin = hub.process.stdout.readline().strip().removeprefix("Metrics, health and status on ")
            url = hub.url if carrier == "h2c" else hub.url.replace("127.0.0.1", HOST)
            hubs[carrier] = url, admin, None if carrier == "h2c" else trust
            publish(url, 0, hubs[carrier][2])
            running[carrier] = {}
            for name in filter(found.__contains__, names):
                client = Client(
                    found[name],
                    hub.url,
                    folder / f"{carrier} {name}",
                    "http/1.1" if carrier == "https" else carrier,
                    None if carrier == "h2c" else public,
                )
                running[carrier][name] = client
                stack.callback(client.close)

        def all_have_begun() -> bool:
            return all(sum(streams(hubs[carrier][1]).values()) >= len(clients) for carrier, clients in running.items())

        # What does not come by then has failed.
        with contextlib.suppress(AssertionError):
            wait_until(all_have_begun)
        open_by = {carrier: streams(admin) for carrier, (_, admin, _) in hubs.items()}
        for number in range(1, EVENTS + 1):
            if number == CUT_BEFORE:
                for clients in running.values():
                    for client in clients.values():
                        client.wait_for_lines(number - 1)
                        client.proxy.cut()
            for url, _, tls in hubs.values():
                publish(url, number, tls)
        for clients in running.values():
            for client in clients.values():
                client.wait_for_lines(EVENTS)
        for url, _, tls in hubs.values():
            publish(url, EVENTS + 1, tls, last=True)
        return {
            carrier: Run(
                {name: Outcome(missing=why) for name, why in missing.items()}
                | {name: client.outcome() for name, client in clients.items()},
                open_by[carrier],
                len(clients),
            )
            for carrier, clients in running.items()
        }


@pytest.mark.parametrize(("carrier", "name"), CASES)
def test_every_event_comes_once_and_in_order_across_a_cut(carrier: str, name: str, runs: dict[str, Run]) -> None:
    outcome = runs[carrier].outcomes[name]
    if outcome.missing is not None:
        pytest.skip(outcome.missing)
    assert outcome.numbers == [*range(1, EVENTS + 2)], outcome.errors
    assert outcome.ids == [f"urn:x:{number}" for number in outcome.numbers]
    if carrier == "h2c":
        assert [request[:14] for request in outcome.requests] == ["PRI * HTTP/2.0"] * 2


@pytest.mark.parametrize("carrier", SPEAKERS)
def test_clients_speak_what_they_are_told(carrier: str, runs: dict[str, Run]) -> None:
    run = runs[carrier]
    expected = dict.fromkeys(("http/1.1", "http/2"), 0)
    expected["http/1.1" if carrier == "https" else "http/2"] = run.started
    assert run.streams == expected
