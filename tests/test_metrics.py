"""The operators' port of the binary: metrics that Prometheus can read, each documented, and who may ask."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

import hubs
from clients import PATIENCE, Request, Stream
from cluster import PUBLISH, SUBSCRIBE
from servers import needs
from waiting import wait_until

DOCUMENTED = re.findall(r"^\| `(\w+)` \|", (hubs.ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def get(url: str, **headers: str) -> tuple[int, str, str]:
    """The status, the type and the text of an answer."""
    request = urllib.request.Request(url, headers={name.replace("_", "-"): text for name, text in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


class Hub(hubs.HubProcess):
    """A hub with an operators' port, which it names on the second line of its output."""

    def __init__(self, *options: str, admin: str = "127.0.0.1:0", drain_delay: str = "0") -> None:
        super().__init__([*hubs.petasos(admin_listen=admin, drain_delay=drain_delay), "--compat", *options])
        assert self.process.stdout is not None
        self.admin = self.process.stdout.readline().strip().removeprefix("Metrics, health and status on ")

    def values(self) -> dict[str, float]:
        """Each sample with its labels, and its value."""
        families = parse_openmetrics(get(f"{self.admin}/metrics", Accept=OPENMETRICS)[2])
        samples = [sample for family in families for sample in family.samples]
        return {
            sample.name + "".join(f" {name}={text}" for name, text in sorted(sample.labels.items())): sample.value
            for sample in samples
        }


@pytest.fixture
def start(stack) -> Callable[..., Hub]:
    def start(*options: str, **how: Any) -> Hub:
        hub = Hub(*options, **how)
        stack.callback(hub.close)
        return hub

    return start


def exported(families: Iterator[Any]) -> set[str]:
    """The names as they are documented: a counter with its end, a histogram without."""
    ends = {"counter": "_total", "info": "_info"}
    return {family.name + ends.get(family.type, "") for family in families}


OF_CERTIFICATES = {name for name in DOCUMENTED if name.startswith(("petasos_tls_certificate_", "petasos_acme_"))}
"""A hub without them has none. tests/test_acme.py asks one that has."""


def test_what_is_exported_is_documented_and_the_reverse(start, tmp_path):
    hub = start("--transport", f"durable://{tmp_path}/log", "--metrics-groups", "/books/{id}")
    assert Request("POST", hub.url, PUBLISH, [("topic", "/books/1")]).status == 200
    _, kind, text = get(f"{hub.admin}/metrics")
    assert kind == "text/plain; version=0.0.4; charset=utf-8"
    assert exported(parse_text(text)) == set(DOCUMENTED) - OF_CERTIFICATES
    _, kind, text = get(f"{hub.admin}/metrics", Accept=OPENMETRICS)
    assert kind == f"{OPENMETRICS}; charset=utf-8"
    assert exported(parse_openmetrics(text)) == set(DOCUMENTED) - OF_CERTIFICATES


def test_promtool_has_no_objection(start):
    text = get(f"{start().admin}/metrics")[2]
    ran = subprocess.run(
        [needs("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")
    assert len(DOCUMENTED) == len(set(DOCUMENTED))


def test_the_same_name_is_never_described_twice(start):
    hub = start()
    for accept in ("text/plain", OPENMETRICS):
        text = get(f"{hub.admin}/metrics", Accept=accept)[2]
        described = re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE)
        samples = [line.rsplit(" ", 1)[0] for line in text.splitlines() if not line.startswith("#")]
        assert len(described) == len(set(described))
        assert len(samples) == len(set(samples))


def test_numbers_of_the_process_are_those_of_the_system(start):
    hub = start()
    values = hub.values()
    proc = Path(f"/proc/{hub.process.pid}")
    # Threads come and go with what they wait for.
    threads = proc / "task"
    wait_until(lambda: hub.values()["process_threads"] == len(list(threads.iterdir())), "as many threads as there are")
    assert abs(values["process_open_fds"] - len(list((proc / "fd").iterdir()))) <= 3, "but for the connection itself"
    assert 1 << 20 < values["process_resident_memory_bytes"] < values["process_virtual_memory_bytes"]
    assert 0 < values["process_cpu_seconds_total"] < 60
    started = values["process_start_time_seconds"]
    # The system knows its own start to the second.
    assert abs(values["petasos_config_last_reload_success_timestamp_seconds"] - started) < 30
    assert values["petasos_config_last_reload_successful"] == 1
    assert values["petasos_log_lines_dropped_total"] == 0
    for _ in range(50):
        hub.values()
    assert hub.values()["process_cpu_seconds_total"] > values["process_cpu_seconds_total"]


def test_a_stream_and_an_update_are_counted_through_the_whole_process(start):
    hub = start("--metrics-groups", "/books/{id} /films/{id}")
    stream = Stream(hub.url + "?topic=/books/1", SUBSCRIBE)
    assert Request("POST", hub.url, PUBLISH, [("topic", "/books/1"), ("data", "x"), ("id", "1")]).status == 200
    assert stream.event()["data"] == "x"
    wait_until(lambda: hub.values()["petasos_delivery_seconds_count"] >= 1, "the delivery is counted")
    values = hub.values()
    assert values["mercure_subscribers_connected"] == 1
    assert values["mercure_updates_total"] == 1
    assert values["petasos_streams carrier=socket dialect=0.x"] == 1
    assert values["petasos_topic_updates_total group=/books/{id}"] == 1
    assert values["petasos_topic_updates_total group=/films/{id}"] == 0
    status = json.loads(get(f"{hub.admin}/status")[2])
    assert (status["streams"]["open"], status["log"]["updates"]) == (1, 1)
    stream.close()
    closed = "petasos_streams_closed_total reason=client_left"
    wait_until(lambda: hub.values()[closed] == 1, "the end is counted")


def test_ports_that_other_machines_reach_need_a_token(start):
    refused = subprocess.run(
        hubs.petasos(admin_listen="0.0.0.0:0"), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert refused.returncode != 0
    assert "--admin-listen: other machines reach 0.0.0.0:0: give admin_token (--admin-token)" in refused.stderr
    hub = start("--admin-token", "an operator's token", admin="0.0.0.0:0")
    hub.admin = hub.admin.replace("0.0.0.0", "127.0.0.1")
    assert get(f"{hub.admin}/metrics")[0] == 401
    assert get(f"{hub.admin}/metrics", Authorization="Bearer an operator's token")[0] == 200
    status, kind, text = get(f"{hub.admin}/readyz")
    assert (status, kind, json.loads(text)["ready"]) == (200, "application/json", True)


def test_a_chosen_port_that_is_taken_is_an_error_and_the_default_one_a_warning(start, tmp_path):
    first = start()
    taken = first.admin.removeprefix("http://")
    refused = subprocess.run(
        hubs.petasos(admin_listen=taken), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert refused.returncode != 0
    assert f"cannot listen on {taken} for operators" in refused.stderr
    assert "--admin-listen" in refused.stderr
    # Whoever has the default port, a hub of this machine or of another test: the second one does not get it.
    command = [part for part in hubs.petasos() if part not in ("--admin-listen", "off")]
    log = tmp_path / "log"
    one = hubs.HubProcess(command)
    try:
        other = hubs.HubProcess(command, str(log))
        try:
            assert Request("GET", other.url.removesuffix("/.well-known/mercure") + "/readyz").status == 200
            wait_until(lambda: "there are no metrics" in log.read_text(), "it warns")
            assert log.read_text().count("admin_listen") == 1
        finally:
            other.close()
    finally:
        one.close()


def test_it_answers_while_the_hub_is_about_to_stop(start):
    hub = start(drain_delay="60s")
    stream = Stream(hub.url + "?topic=a", SUBSCRIBE)
    hub.process.terminate()
    wait_until(lambda: get(f"{hub.admin}/readyz")[0] == 503, "it is not ready")
    checks = json.loads(get(f"{hub.admin}/readyz")[2])["checks"]
    assert [name for name, check in checks.items() if not check["ok"]] == ["drain"]
    values = hub.values()
    assert (values["petasos_ready check=drain"], values["petasos_ready check=hub"]) == (0, 1)
    assert values["mercure_subscribers_connected"] == 1
    stream.close()


def test_a_scrape_of_many_streams_costs_what_a_scrape_of_none_costs(start):
    """It adds up counters and looks at no stream: the texts differ in their numbers only."""
    hub = start()
    names = set(hub.values())
    streams = [Stream(f"{hub.url}?topic={number}", SUBSCRIBE) for number in range(50)]
    values = hub.values()
    assert values["mercure_subscribers_connected"] == 50
    assert set(values) == names
    for stream in streams:
        stream.close()
