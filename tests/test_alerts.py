"""The alerts and the dashboard of deploy/: each alert fires when it shall, and both ask for metrics that there are."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

import hubs
from servers import ServerProcess, needs
from test_docs import anchors
from test_metrics import DOCUMENTED, Hub

DEPLOY = hubs.ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "rules.yaml"
TESTED = DEPLOY / "prometheus" / "rules.test.yaml"

ALERTS = re.findall(r"- alert: (\w+)", RULES.read_text())


def expressions() -> list[str]:
    """What the dashboard asks Prometheus for, with its variables replaced."""
    dashboard = json.loads((DEPLOY / "grafana" / "petasos.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    values = {"$job": "petasos", "$instance": ".*", "$__rate_interval": "1m"}
    for name, value in values.items():
        asked = [each.replace(name, value) for each in asked]
    return asked


def documented() -> set[str]:
    """The metrics of docs/metrics.md, with the series that histograms have."""
    return {*DOCUMENTED} | {f"{name}_{part}" for name in DOCUMENTED for part in ("bucket", "count", "sum")}


def test_each_alert_fires_when_it_shall():
    ran = subprocess.run([needs("promtool"), "test", "rules", TESTED], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    fires = re.findall(r"alertname: (\w+)\n\s+eval_time: \w+\n\s+exp_alerts:\n", TESTED.read_text())
    assert sorted(fires) == sorted(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_a_section_that_says_what_to_do(alert):
    assert alert.lower() in anchors(hubs.ROOT / "docs" / "operations.md")
    assert f"runbook_url: docs/operations.md#{alert.lower()}" in RULES.read_text()


def test_alerts_and_dashboard_ask_for_metrics_that_are_documented():
    texts = [RULES.read_text(), *expressions()]
    asked = {name for text in texts for name in re.findall(r"\b(?:petasos|mercure|process)_\w+", text)}
    assert len(asked) > 20
    assert asked - documented() == set()


@pytest.fixture
def prometheus(stack, tmp_path):
    """Starts a Prometheus that scrapes that address every second; returns its URL."""

    def start(target: str, token: Path | None = None) -> str:
        needs("prometheus")
        lines = [
            "global: {scrape_interval: 1s}",
            f"rule_files: [{RULES}]",
            "scrape_configs:",
            "  - job_name: petasos",
            *([f"    authorization: {{credentials_file: {token}}}"] if token else []),
            f"    static_configs: [{{targets: ['{target}']}}]",
        ]
        (tmp_path / "prometheus.yml").write_text("\n".join(lines))
        options = {
            "config.file": tmp_path / "prometheus.yml",
            "storage.tsdb.path": tmp_path / "data",
            "web.listen-address": "127.0.0.1:0",
        }
        command = ["prometheus", *(f"--{name}={value}" for name, value in options.items())]
        server = ServerProcess(command, ready="Server is ready to receive web requests")
        stack.callback(server.kill)
        listening = re.search(r'msg="Listening on" address=(\S+)', "".join(server.lines))
        assert listening, server.lines
        return f"http://{listening[1]}"

    return start


def query(prometheus: str, expression: str) -> list[dict]:
    """The result of an instant query."""
    url = f"{prometheus}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    with urllib.request.urlopen(url) as answer:
        return json.load(answer)["data"]["result"]


def test_a_prometheus_scrapes_the_hub_and_knows_all_that_the_dashboard_asks(prometheus, stack, tmp_path, wait_until):
    hub = Hub("--admin-token", "t" * 32)
    stack.callback(hub.close)
    (tmp_path / "token").write_text("t" * 32)
    url = prometheus(hub.admin.removeprefix("http://"), tmp_path / "token")
    wait_until(lambda: query(url, "count_over_time(petasos_build_info[1m]) >= 2"))
    assert query(url, "up")[0]["value"][1] == "1"
    unanswered = [expression for expression in expressions() if not query(url, expression)]
    # A log in memory writes no batches, an empty one has no oldest update, and groups of topics are opt-in.
    absent = ("petasos_append_batch_size", "petasos_log_oldest_timestamp_seconds", "petasos_topic_updates_total")
    assert [each for each in unanswered if not any(name in each for name in absent)] == []
    assert query(url, 'ALERTS{alertstate="firing"}') == []
