"""The pages on Docker, Kubernetes, systemd and platforms: their commands and files give the hub what it takes."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
import yaml

import hubs
from clients import HUB_PATH, PATIENCE, Request, Stream
from ports import Port
from scripts import load
from waiting import wait_until

PAGES, PLATFORMS = hubs.ROOT / "docs" / "how-to", hubs.ROOT / "deploy" / "platforms"
KEYS = {"PETASOS_PUBLISHER_KEY": hubs.PUBLISHER, "PETASOS_SUBSCRIBER_KEY": hubs.SUBSCRIBER}

chart = load("chart")


def blocks(page: str, language: str) -> list[str]:
    text = (PAGES / f"{page}.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def check(environment: dict[str, str], *options: str) -> None:
    """The hub would start with these variables, and warns of nothing but the limits of this machine."""
    command = [*hubs.petasos()[:1], "check", "--json", *options]
    ran = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    found = json.loads(ran.stdout)
    warnings = [each for each in found["warnings"] if each["setting"] != "max_subscribers"]
    assert (found["ok"], found["errors"], warnings) == (True, [], [])


RUNS = [line for block in blocks("docker", "sh") for line in block.replace("\\\n", "").splitlines() if " run " in line]


@pytest.mark.parametrize("line", RUNS)
def test_the_hub_takes_the_variables_of_docker_run(line, tmp_path):
    words = shlex.split(line)
    given = dict(words[at + 1].split("=", 1) for at, word in enumerate(words) if word == "--env")
    assert words[words.index("--env-file") + 1] == "keys.env", "the page has one file of keys for both commands"
    (block,) = [each for each in blocks("docker", "sh") if "> keys.env" in each]
    subprocess.run(["bash", "-euc", block], cwd=tmp_path, check=True)
    keys = tmp_path / "keys.env"
    assert keys.stat().st_mode & 0o077 == 0
    given |= dict(each.split("=", 1) for each in keys.read_text().splitlines())
    assert len(RUNS) == 2
    assert words[-1].startswith("ghcr.io/flask-mercure-sse/petasos:"), "no arguments, which a health check does not see"
    check({name: text.replace("/var/lib", str(tmp_path)) for name, text in given.items()})


@pytest.mark.skipif(not Path(chart.HELM).exists(), reason="helm is not there: make deploy-tools, with Go")
def test_the_chart_takes_the_values_of_the_page_and_finds_its_secrets(tmp_path):
    values = blocks("kubernetes", "yaml")
    options = []
    for at, text in enumerate(values):
        (tmp_path / f"{at}.yaml").write_text(text)
        options.append(["--values", str(tmp_path / f"{at}.yaml")])
    # The second one is for a hub with TLS of its own.
    hub, tls, metrics = options
    manifests = {each["kind"]: each for each in yaml.safe_load_all(chart.render(*hub, *metrics)) if each}
    made: dict[str, set[str]] = {}
    lines = "".join(blocks("kubernetes", "sh")).replace("\\\n", "").splitlines()
    for line in lines:
        if found := re.match(r"kubectl create secret generic (\S+)", line):
            made[found[1]] = set(re.findall(r"--from-literal=(\w+)=", line))
    pod = manifests["Deployment"]["spec"]["template"]["spec"]
    references = [each["valueFrom"]["secretKeyRef"] for each in pod["containers"][0]["env"] if "valueFrom" in each]
    assert all(each["key"] in made[each["name"]] for each in references)
    (keys,) = [each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each]
    files = re.findall(r"/run/secrets/petasos/(\w+)", manifests["ConfigMap"]["data"]["petasos.toml"])
    assert set(files) == made[keys]
    assert set(made) == {each["name"] for each in references} | {keys}
    assert manifests["HorizontalPodAutoscaler"]["spec"]["minReplicas"] == 2
    (certificate,) = [found[1] for line in lines if (found := re.match(r"kubectl create secret tls (\S+)", line))]
    (deployment,) = [
        each for each in yaml.safe_load_all(chart.render(*hub, *tls)) if each and each["kind"] == "Deployment"
    ]
    volumes = deployment["spec"]["template"]["spec"]["volumes"]
    assert {each["secret"]["secretName"] for each in volumes if "secret" in each} == {keys, certificate}


def test_the_settings_and_keys_of_the_page_on_systemd_start_a_hub(tmp_path):
    (block,) = [each for each in blocks("systemd", "sh") if "petasos.toml" in each]
    etc, bin_ = tmp_path / "etc", tmp_path / "bin"
    etc.mkdir()
    bin_.mkdir()
    (bin_ / "petasos").symlink_to(hubs.petasos()[0])
    (bin_ / "systemctl").symlink_to("/bin/true")
    script = block.replace("/etc/petasos", str(etc)).replace("/var/lib/petasos", str(tmp_path / "log"))
    environment = {"PATH": f"{bin_}:{os.environ['PATH']}"}
    ran = subprocess.run(["bash", "-euc", script], env=environment, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    keys = etc / "keys.env"
    assert keys.stat().st_mode & 0o077 == 0
    check(dict(line.split("=", 1) for line in keys.read_text().splitlines()), "--config", str(etc / "petasos.toml"))


def test_the_hub_takes_the_variables_of_the_platforms():
    tomllib = pytest.importorskip("tomllib")
    fly = tomllib.loads((PLATFORMS / "fly.toml").read_text())
    check(fly["env"] | KEYS)
    assert fly["http_service"]["internal_port"] == 5500
    assert fly["kill_timeout"] == fly["env"]["PETASOS_STOP_TIMEOUT"]
    (render,) = yaml.safe_load((PLATFORMS / "render.yaml").read_text())["services"]
    given: dict[str, Any] = {each["key"]: each.get("value", "0123456789abcdef" * 2) for each in render["envVars"]}
    assert given.pop("PORT") == "5500"
    check(given | {"PETASOS_SUBSCRIBER_KEY": hubs.SUBSCRIBER})
    assert f"{render['maxShutdownDelaySeconds']}s" == given["PETASOS_STOP_TIMEOUT"]


APPLICATION = """
from flask import Flask
from flask_mercure_sse import MercureSSE

app = Flask(__name__)
app.config["SECRET_KEY"] = "k" * 32
app.config["MERCURE_HUB"] = True
app.config["TRUSTED_HOSTS"] = ["127.0.0.1"]
mercure = MercureSSE(app)

@app.get("/publish")
def publish():
    return mercure.publish("a", "x")

@app.get("/url")
def url():
    return mercure.hub_url("a")
"""


def test_the_procfile_starts_an_application_with_its_hub(tmp_path, stack):
    (shown,) = blocks("platforms", "")
    procfile = (PLATFORMS / "Procfile").read_text()
    assert procfile == shown
    (tmp_path / "app.py").write_text(APPLICATION)
    (tmp_path / "Procfile").write_text(procfile.replace("0.0.0.0", "127.0.0.1"))
    port = stack.enter_context(Port())
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    python = os.pathsep.join(path for path in sys.path if path)
    process = subprocess.Popen(
        [sys.executable, "-m", "honcho", "start", "--port", str(port.number)],
        cwd=tmp_path,
        env={**os.environ, "PATH": search, "PYTHONPATH": python},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )

    def end() -> None:
        # honcho ends what it has started.
        process.terminate()
        process.communicate(timeout=PATIENCE)

    stack.callback(end)

    def is_there() -> bool:
        assert process.poll() is None, process.communicate()
        try:
            return Request("GET", f"http://{port}/nothing").status == 404
        except OSError:
            return False

    wait_until(is_there)
    stream = Stream(f"http://{port}{HUB_PATH}?topic=a")
    stack.callback(stream.close)
    assert stream.opens()
    assert Request("GET", f"http://{port}/publish").status == 200
    assert stream.event()["data"] == "x"
    # The router is another machine.
    router = HTTPConnection("127.0.0.1", port.number, timeout=PATIENCE, source_address=("127.0.0.2", 0))
    router.request("GET", "/url", headers={"X-Forwarded-Proto": "https"})
    assert router.getresponse().read().startswith(b"https://127.0.0.1")
    router.close()
