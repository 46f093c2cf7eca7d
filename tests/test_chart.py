"""The Helm chart: what it refuses, what it grants its pods, and whether the hub runs as its manifests say."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import hubs
from clients import PATIENCE, Request, Stream
from cluster import PUBLISH
from engines import Redis
from ports import Port
from scripts import load
from waiting import wait_until

tomllib = pytest.importorskip("tomllib")
chart = load("chart")
CHART, VALUES = chart.CHART, {values.stem: values for values in chart.VALUES}
# The Secrets that the values in ci/ name, and their entries.
SECRETS = {
    "petasos-keys": {"publisher": hubs.PUBLISHER, "subscriber": hubs.SUBSCRIBER},
    "petasos-metrics": {"token": "t" * 32},
}
# A certificate of petasos' own tests, and its key.
OF_TLS = hubs.ROOT / "crates" / "petasos" / "tests" / "tls"

pytestmark = pytest.mark.skipif(not Path(chart.HELM).exists(), reason="helm is not there: make deploy-tools, with Go")


@cache
def manifests_of(values: str, *options: str, folder: Path = CHART) -> list[dict[str, Any]]:
    text = chart.render("--values", str(VALUES[values]), *options, chart=folder)
    return [document for document in yaml.safe_load_all(text) if document]


def rendered(values: str, *options: str, folder: Path = CHART) -> dict[str, dict[str, Any]]:
    """The manifests, by kind; of several, the first."""
    return {document["kind"]: document for document in reversed(manifests_of(values, *options, folder=folder))}


def workload(manifests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The Deployment or the StatefulSet."""
    return manifests.get("Deployment") or manifests["StatefulSet"]


def pod_of(manifests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = workload(manifests)["spec"]["template"]["spec"]
    return spec


def settings_of(manifests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return tomllib.loads(manifests["ConfigMap"]["data"]["petasos.toml"])


@pytest.mark.parametrize(
    ("template", "right", "wrong"),
    [
        ("_pod.tpl", "periodSeconds: 2", "periodSecond: 2"),
        ("httproute.yaml", "backendRequest: 0s", "backendRequests: 0s"),
        ("monitoring.yaml", "interval: {{", "intervals: {{"),
    ],
)
def test_the_check_of_the_chart_names_a_field_that_is_wrong(template, right, wrong, monkeypatch, tmp_path, capsys):
    pytest.importorskip("kubernetes_validate")
    copy = shutil.copytree(CHART, tmp_path / "petasos")
    file = copy / "templates" / template
    assert right in file.read_text()
    file.write_text(file.read_text().replace(right, wrong))
    monkeypatch.setattr(chart, "CHART", copy)
    monkeypatch.setattr(chart, "VALUES", [VALUES["redis"]])
    assert chart.main() == 1
    assert f"additional properties '{wrong.split(':')[0]}' not allowed" in capsys.readouterr().out


REFUSED = {
    "replica=2": "additional properties 'replica' not allowed",
    "replicas=two": "'/replicas': got string, want integer",
    "replicas=3": 'replicas: 3 pods cannot share the log "memory:". Set replicas to 1, or log.url to redis://',
    "autoscaling.enabled=true": 'autoscaling.enabled: several pods cannot share the log "memory:"',
    "log.url=mysql://db": "'/log/url': 'mysql://db' does not match pattern",
    "log.url=redis://user:secret@redis": "log.url: this URL has a password",
    "log.url=redis://user:se/cret@redis": "log.url: this URL has a password",
    "log.url=postgres:///hub?password=secret": "log.url: this URL has a password",
    "log.url=redis+sentinel://one/main?sentinel_password=secret": "log.url: this URL has a password or a token",
    "log.url=nats://secret@nats:4222": "log.url: this URL has a password or a token",
    "log.url=tls://one\\,secret@two": "log.url: this URL has a password or a token",
    "log.url=durable:///var/lib/petasos2": "'/log/url': 'durable:///var/lib/petasos2' does not match pattern",
    "keys.publisher=,keys.subscriber=": "keys.publisher: name the entry",
    "keys.subscriber=,config.anonymous=false": "keys.subscriber: nobody could subscribe",
    "keys.publisherJwks=a,config.publisher_jwks_url=https://a": "keys.publisherJwks: config.publisher_jwks_url names",
    "keys.existingSecret=": "keys.existingSecret: name a Secret with the keys",
    "config.anonymus=true": "'/config': additional properties 'anonymus' not allowed",
    "config.keep_alive=soon": "'/config/keep_alive': 'soon' does not match pattern",
    "config.max_topics=many": "'/config/max_topics': got string, want integer",
    "config.publisher_key=secret": "'/config': additional properties 'publisher_key' not allowed",
    "tls.existingSecret=A": "'/tls/existingSecret': 'A' does not match pattern",
    "tls.certEntry=": "'/tls/certEntry': '' does not match pattern",
    "config.tls_cert=a": "'/config': additional properties 'tls_cert' not allowed",
    "image.digest=sha256:12": "'/image/digest': 'sha256:12' does not match pattern",
    "drain.seconds=30s": "'/drain/seconds': got string, want null or integer",
    "runAsUser=0": "'/runAsUser': minimum: got 0, want 1",
    "ingress.controller=nginy": "'/ingress/controller': value must be one of",
    "ingress.enabled=true": "ingress.host: name the host",
    "ingress.enabled=true,ingress.host=*.example.com": "config.public_url: name the URL of the hub",
    "config.public_url=https://*.example.com/hub": "'/config/public_url': 'https://*.example.com/hub' does not match",
    "httpRoute.enabled=true": "httpRoute.parentRefs: name the Gateway",
    "metrics.enabled=true": "metrics.existingSecret: the port for operators needs a token",
    "metrics.serviceMonitor.enabled=true": "metrics.enabled: set it to true",
    "log.url=redis://redis,autoscaling.enabled=true": "metrics.enabled: set it to true, because the autoscaler",
}


@pytest.mark.parametrize("value", REFUSED)
def test_a_value_that_cannot_be_used_is_named(value):
    with pytest.raises(subprocess.CalledProcessError) as failure:
        rendered("memory", "--set", value)
    assert REFUSED[value] in failure.value.stderr
    assert "secret@" not in failure.value.stderr


@pytest.mark.parametrize(("most", "admitted"), [(20000, False), (20001, True), (0, True)])
def test_the_autoscaler_acts_before_pods_refuse_streams(most, admitted):
    def target() -> str:
        options = ("--set", f"config.max_subscribers={most}")
        scaler = rendered("redis", *options)["HorizontalPodAutoscaler"]["spec"]
        found: str = scaler["metrics"][0]["pods"]["target"]["averageValue"]
        return found

    if admitted:
        assert target() == "20000"
    else:
        with pytest.raises(subprocess.CalledProcessError) as failure:
            target()
        assert "autoscaling.targetStreams: pods refuse streams beyond" in failure.value.stderr


def test_a_hub_may_have_the_key_of_publishers_only():
    settings = settings_of(rendered("memory", "--set", "keys.subscriber=,config.anonymous=true"))
    assert settings["publisher_key_file"] == "/run/secrets/petasos/publisher"
    assert "subscriber_key_file" not in settings


def test_a_host_with_a_wildcard_has_a_public_url_beside_it():
    url = "https://a.example.com/hub"
    manifests = rendered("durable", "--set", f"ingress.host=*.example.com,config.public_url={url}")
    assert manifests["Ingress"]["spec"]["rules"][0]["host"] == "*.example.com"
    assert manifests["Ingress"]["spec"]["tls"][0]["hosts"] == ["*.example.com"]
    assert settings_of(manifests)["public_url"] == url


@pytest.mark.parametrize(("given", "made"), [("", None), ("-", ""), ("fast", "fast")])
def test_a_volume_has_the_class_that_is_named(given, made):
    manifests = rendered("durable", "--set", f"log.persistence.storageClassName={given}")
    assert manifests["StatefulSet"]["spec"]["volumeClaimTemplates"][0]["spec"].get("storageClassName") == made


@pytest.mark.parametrize("url", ["durable:///var/lib/petasos", "durable:///var/lib/petasos/a?name=b"])
def test_a_durable_log_is_on_the_volume(url):
    assert settings_of(rendered("durable", "--set", f"log.url={url}"))["transport"] == url


def test_the_schema_knows_the_settings_of_the_hub():
    """Each setting is a value of config, but those that the chart sets itself."""
    documented = (hubs.ROOT / "docs" / "configuration.md").read_text()
    settings = set(re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]* \| (?:yes|no) \|", documented, re.MULTILINE))
    known = set(json.loads((CHART / "values.schema.json").read_text())["properties"]["config"]["properties"])
    assert len(known) > 30
    assert known - settings == set()
    keys = {f"{role}_{form}" for role in ("publisher", "subscriber") for form in ("key", "key_file", "jwks")}
    own = {"listen", "admin_listen", "admin_token", "transport", "drain", "drain_delay", "stop_timeout", "takeover"}
    # A certificate is in a Secret: cert-manager orders and renews it, for Ingress, HTTPRoute or the hub.
    acme = {
        f"acme_{part}"
        for part in ("domains", "email", "directory", "ca", "challenge", "cache", "eab_key_id", "eab_key")
    }
    clients = {"tls_client_ca", "tls_client_publish"}
    assert settings - known == own | keys | acme | {"tls_cert", "tls_key", "tls_dev", "redirect_listen"} | clients


def test_each_value_has_its_schema():
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(yaml.safe_load((CHART / "values.yaml").read_text())) == set(schema["properties"]) - {"global"}


def test_the_chart_has_the_version_of_the_hub():
    version = tomllib.loads((hubs.ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    described = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (described["version"], described["appVersion"]) == (version, version)
    assert pod_of(rendered("memory"))["containers"][0]["image"].endswith(f"/petasos:{version}")


@pytest.mark.parametrize("values", VALUES)
def test_the_pods_keep_to_the_restricted_standard(values):
    """The levels of Kubernetes' "Pod Security Standards", section "Restricted"."""
    pods = [
        document["spec"] if document["kind"] == "Pod" else document["spec"]["template"]["spec"]
        for document in manifests_of(values)
        if document["kind"] in ("Pod", "Deployment", "StatefulSet")
    ]
    assert len(pods) == 2, "the workload's and the one of helm test"
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False, "PETASOS_PORT would look like a setting"
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        assert {kind for volume in pod.get("volumes", []) for kind in set(volume) - {"name"}} <= {"configMap", "secret"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }


def test_a_platform_may_choose_the_user_of_the_pods():
    chosen = pod_of(rendered("durable", "--set", "runAsUser=null"))["securityContext"]
    assert set(chosen) == {"runAsNonRoot", "fsGroupChangePolicy", "seccompProfile"}
    assert pod_of(rendered("durable", "--set", "runAsUser=1000650000"))["securityContext"]["fsGroup"] == 1000650000


def test_the_image_of_the_pods_can_be_a_digest():
    assert re.search(r"petasos@sha256:[0-9a-f]{64}$", pod_of(rendered("nats"))["containers"][0]["image"])


@pytest.mark.parametrize("values", VALUES)
def test_the_grace_of_a_pod_has_room_for_its_drain(values):
    manifests = rendered(values)
    settings, grace = settings_of(manifests), pod_of(manifests)["terminationGracePeriodSeconds"]
    seconds = {name: int(settings[name].removesuffix("s")) for name in ("drain_delay", "drain", "stop_timeout")}
    assert seconds["drain_delay"] + seconds["drain"] + 2 < grace == seconds["stop_timeout"]


def test_a_pod_leaves_as_its_log_allows():
    shared, memory, durable = (rendered(values) for values in ("redis", "memory", "durable"))
    assert shared["Deployment"]["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    assert memory["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}, "two pods would be two hubs"
    claim = durable["StatefulSet"]["spec"]["volumeClaimTemplates"][0]
    assert claim["spec"]["resources"]["requests"]["storage"] == "20Gi"
    assert settings_of(shared)["drain"] == "30s"
    assert settings_of(memory)["drain"] == settings_of(durable)["drain"] == "2s", "there is nowhere else to go"


def test_pods_start_again_with_a_changed_config_unless_told_not_to():
    def checksum(*options: str) -> str | None:
        template = workload(rendered("memory", *options))["spec"]["template"]
        found: str | None = template["metadata"]["annotations"].get("checksum/config")
        return found

    assert checksum() != checksum("--set", "config.anonymous=true")
    assert checksum() == checksum("--set", "podLabels.team=web")
    assert checksum("--set", "rollOnConfigChange=false") is None


def test_every_way_into_the_cluster_leaves_streams_open():
    route = rendered("redis")["HTTPRoute"]["spec"]["rules"][0]
    assert route["timeouts"] == {"request": "0s", "backendRequest": "0s"}
    keep_alive = 15
    for values, waits in (
        ("durable", "nginx.ingress.kubernetes.io/proxy-read-timeout"),
        ("postgres", "nginx.org/proxy-read-timeout"),
        ("nats", "haproxy.org/timeout-server"),
    ):
        annotations = rendered(values)["Ingress"]["metadata"]["annotations"]
        assert int(annotations[waits].removesuffix("s")) >= 2 * keep_alive
        if "nginx" in waits:
            assert annotations[waits.replace("read-timeout", "buffering")] in ("off", "false")
    assert rendered("durable")["Ingress"]["metadata"]["annotations"]["cert-manager.io/cluster-issuer"] == "letsencrypt"


@pytest.mark.parametrize(
    ("keep_alive", "seconds"), [("15s", 75), ("1500ms", 75), ("2m", 600), ("1h", 18000), ("20", 100), ("0", 86400)]
)
def test_the_proxies_wait_longer_than_the_hub_is_silent_and_take_its_bodies(keep_alive, seconds):
    options = ("--set", f"config.keep_alive={keep_alive},config.max_body_bytes=8000000")
    expected = {
        "durable": {
            "nginx.ingress.kubernetes.io/proxy-read-timeout": f"{seconds}",
            "nginx.ingress.kubernetes.io/proxy-body-size": "8000000",
        },
        "postgres": {"nginx.org/proxy-read-timeout": f"{seconds}s", "nginx.org/client-max-body-size": "8000000"},
        "nats": {"haproxy.org/timeout-server": f"{seconds}s"},
    }
    for values, some in expected.items():
        annotations = rendered(values, *options)["Ingress"]["metadata"]["annotations"]
        assert some.items() <= annotations.items()
        assert all(isinstance(text, str) for text in annotations.values())


def test_paths_and_urls_follow_the_public_url():
    manifests = rendered("nats")
    paths = [each["path"] for each in manifests["Ingress"]["spec"]["rules"][0]["http"]["paths"]]
    assert paths == ["/live/hub", "/.well-known/oauth-protected-resource/live/hub"]
    assert settings_of(rendered("redis"))["public_url"] == "https://hub.example.com/.well-known/mercure"


def test_the_alerts_are_those_of_deploy():
    rules = rendered("redis")["PrometheusRule"]["spec"]
    own = yaml.safe_load((hubs.ROOT / "deploy" / "prometheus" / "rules.yaml").read_text())
    for group in own["groups"]:
        for rule in group["rules"]:
            path = rule["annotations"]["runbook_url"].removeprefix("docs/")
            rule["annotations"]["runbook_url"] = (
                f"https://github.com/flask-mercure-sse/flask-mercure-sse/blob/main/docs/{path}"
            )
    assert rules == own


def test_a_network_policy_names_who_comes_and_where_the_hub_goes():
    policy = rendered("redis")["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert [rule["ports"][0]["port"] for rule in policy["ingress"]] == ["http", "metrics"]
    assert [rule["ports"][0]["port"] for rule in policy["egress"]] == [53, 6379]
    assert [rule["ports"][0]["port"] for rule in rendered("postgres")["NetworkPolicy"]["spec"]["egress"]] == [53, 5432]
    free = rendered("memory", "--set", "networkPolicy.enabled=true")["NetworkPolicy"]["spec"]
    assert free["policyTypes"] == ["Ingress"]


def test_a_budget_is_there_where_a_pod_can_be_spared():
    assert "PodDisruptionBudget" in rendered("redis")
    assert "PodDisruptionBudget" not in rendered("memory")
    assert "replicas" not in rendered("redis")["Deployment"]["spec"], "the autoscaler's number would be undone"


@pytest.mark.parametrize("values", VALUES)
def test_the_notes_say_where_the_hub_is(values, tmp_path):
    copy = shutil.copytree(CHART, tmp_path / "petasos")
    # Helm shows them after an installation only, which needs a cluster.
    shown = 'kind: Notes\ntext: {{ include (print $.Template.BasePath "/NOTES.txt") . | toJson }}\n'
    (copy / "templates" / "shown.yaml").write_text(shown)
    notes = rendered(values, folder=copy)["Notes"]["text"]
    port, scheme = ":8080" if values == "postgres" else "", "https" if values == "tls" else "http"
    path = "/live/hub" if values == "nats" else "/.well-known/mercure"
    assert f"  {scheme}://petasos.live{port}{path}\n" in notes
    assert ("https://hub.example.com" in notes) == (values != "memory")
    assert ("seriesQuery" in notes) == (values == "redis")


def test_the_chart_is_a_package_that_renders_the_same(tmp_path):
    command = [chart.HELM, "package", CHART, "--destination", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    (package,) = tmp_path.iterdir()
    assert rendered("redis", folder=package) == rendered("redis")


class Pod:
    """The hub, started as the container of the manifests: its variables, its files, its ports."""

    def __init__(self, manifests: dict[str, dict[str, Any]], directory: Path, secrets: dict[str, dict[str, str]]):
        spec = pod_of(manifests)
        self.grace: int = spec["terminationGracePeriodSeconds"]
        (self.container,) = spec["containers"]
        self.held = {port["name"]: Port() for port in self.container["ports"]}
        # What is mounted is in a directory of the test, and each port is a free one.
        moved = {mount["mountPath"]: str(directory / mount["name"]) for mount in self.container["volumeMounts"]}
        for port in self.container["ports"]:
            moved[f"0.0.0.0:{port['containerPort']}"] = str(self.held[port["name"]])
        for volume in spec["volumes"]:
            source = volume.get("secret", {}).get("secretName")
            files = secrets[source] if source else manifests["ConfigMap"]["data"]
            (directory / volume["name"]).mkdir()
            for name, text in files.items():
                file = directory / volume["name"] / name
                file.touch(mode=volume.get("secret", {}).get("defaultMode", 0o644))
                file.write_text(_replaced(text, moved))
        environment = {"PATH": os.environ["PATH"], "KUBERNETES_SERVICE_HOST": "10.96.0.1"}
        for variable in self.container["env"]:
            reference = variable.get("valueFrom", {}).get("secretKeyRef")
            text = secrets[reference["name"]][reference["key"]] if reference else variable["value"]
            environment[variable["name"]] = _replaced(text, moved)
        assert "command" not in self.container
        assert "args" not in self.container, "the image's entry point is all"
        self.log = directory / "log.txt"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                hubs.petasos()[:1], env=environment, cwd=directory, stdout=subprocess.DEVNULL, stderr=log
            )

    def probe(self, name: str) -> int:
        """The status that the kubelet gets for that probe. 0: nothing answers."""
        asked = self.container[f"{name}Probe"]["httpGet"]
        assert asked.get("scheme", "HTTP").lower() == self.scheme(asked["port"])
        return self.get(asked["port"], asked["path"])[0]

    def get(self, port: str, path: str, **headers: str) -> tuple[int, str]:
        request = urllib.request.Request(f"{self.scheme(port)}://{self.held[port]}{path}", headers=headers)
        # The kubelet verifies no certificate.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE, context=context) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def scheme(self, port: str) -> str:
        return "https" if port == "https" else "http"

    def is_started(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return self.probe("startup") == 200

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE)
        for port in self.held.values():
            port.close()


def _replaced(text: str, parts: dict[str, str]) -> str:
    for part, other in parts.items():
        text = text.replace(part, other)
    return text


@pytest.fixture
def start(stack, tmp_path) -> Callable[..., Pod]:
    def start(values: str, *options: str, **secrets: dict[str, str]) -> Pod:
        # So few streams are within every limit of open files.
        config = "config.compat=true,config.anonymous=true,config.max_subscribers=1000,autoscaling.targetStreams=500"
        manifests = rendered(values, "--set", config, *options)
        pod = Pod(manifests, tmp_path, {**SECRETS, **{name.replace("_", "-"): text for name, text in secrets.items()}})
        stack.callback(pod.close)
        wait_until(pod.is_started)
        return pod

    return start


def receives_what_is_published(pod: Pod, path: str = hubs.HUB_PATH) -> Stream:
    """Its stream, which stays open."""
    url = f"http://{pod.held['http']}{path}"
    stream = Stream(f"{url}?topic=a")
    assert stream.opens()
    assert Request("POST", url, PUBLISH, [("topic", "a"), ("data", "x")]).status == 200
    assert stream.event()["data"] == "x"
    return stream


@pytest.mark.parametrize("values", ["memory", "durable"])
def test_a_hub_of_one_pod_runs_as_the_manifests_say(values, start, stack):
    pod = start(values)
    stack.callback(receives_what_is_published(pod).close)
    assert (pod.probe("liveness"), pod.probe("readiness")) == (200, 200)
    pod.process.terminate()
    assert pod.process.wait(pod.grace) == 0
    assert not re.search("WARN|ERROR", pod.log.read_text()), pod.log.read_text()


def test_a_hub_with_tls_of_its_own_runs_as_the_manifests_say(start, stack, tmp_path, tmp_path_factory):
    engine = Redis(tmp_path_factory.mktemp("redis"))
    stack.callback(engine.close)
    secret = {"tls.crt": (OF_TLS / "server.pem").read_text(), "tls.key": (OF_TLS / "server.key").read_text()}
    options = ("--set", f"log.url={engine.url},drain.delaySeconds=0,drain.seconds=1")
    pod = start("tls", *options, petasos_tls=secret)
    assert set(pod.held) == {"https"}
    assert [pod.probe(name) for name in ("startup", "liveness", "readiness")] == [200] * 3
    manifests = rendered("tls")
    (port,) = manifests["Service"]["spec"]["ports"]
    assert (port["name"], port["port"], port["targetPort"]) == ("https", 443, "https")
    assert manifests["NetworkPolicy"]["spec"]["ingress"][0]["ports"] == [{"port": "https"}]
    (tested,) = manifests["Pod"]["spec"]["containers"]
    assert tested["args"] == ["health", "https://petasos/readyz"]
    # As helm test does it.
    url = tested["args"][1].replace("//petasos", f"//{pod.held['https']}")
    assert subprocess.run([*hubs.petasos()[:1], "health", url], check=False, timeout=PATIENCE).returncode == 0
    pod.process.terminate()
    assert pod.process.wait(pod.grace) == 0


@pytest.mark.parametrize(
    ("values", "annotation", "value"),
    [
        ("durable", "nginx.ingress.kubernetes.io/backend-protocol", "HTTPS"),
        ("postgres", "nginx.org/ssl-services", "petasos"),
        ("nats", "haproxy.org/server-ssl", "true"),
    ],
)
def test_an_ingress_speaks_tls_to_a_hub_that_does(values, annotation, value):
    assert annotation not in rendered(values)["Ingress"]["metadata"]["annotations"]
    manifests = rendered(values, "--set", "tls.existingSecret=petasos-tls")
    assert manifests["Ingress"]["metadata"]["annotations"][annotation] == value
    backend = manifests["Ingress"]["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["port"]
    assert backend == {"name": "https"}


def test_a_hub_of_several_pods_runs_as_the_manifests_say(start, stack, tmp_path_factory):
    engine = Redis(tmp_path_factory.mktemp("redis"))
    stack.callback(engine.close)
    drain = ("--set", "drain.delaySeconds=2,drain.seconds=1")
    pod = start("redis", *drain, petasos_log={"url": engine.url})
    stream = receives_what_is_published(pod)
    stack.callback(stream.close)
    wait_until(lambda: pod.probe("readiness") == 200)
    assert pod.get("metrics", "/metrics")[0] == 401
    status, metrics = pod.get("metrics", "/metrics", Authorization=f"Bearer {'t' * 32}")
    assert status == 200
    autoscaler = rendered("redis")["HorizontalPodAutoscaler"]["spec"]["metrics"][0]["pods"]["metric"]["name"]
    assert re.search(rf"^{autoscaler}\{{.*\}} 1$", metrics, re.MULTILINE)
    status, answer = pod.get("http", "/.well-known/oauth-protected-resource/.well-known/mercure")
    assert json.loads(answer)["resource"] == "https://hub.example.com/.well-known/mercure"
    pod.process.terminate()
    # It is leaving, but alive, and streams begin and go on: what brings them here has not heard of it yet.
    wait_until(lambda: pod.get("http", "/readyz")[0] == 503)
    assert pod.probe("liveness") == 200
    stack.callback(receives_what_is_published(pod).close)
    assert stream.event()["data"] == "x"
    assert pod.process.wait(pod.grace) == 0


def test_pods_stay_in_the_service_while_their_log_is_unavailable(start, stack, tmp_path_factory):
    """All of them would leave it at once. The proxy would answer 503, and an EventSource would give up for good."""
    engine = Redis(tmp_path_factory.mktemp("redis"))
    stack.callback(engine.close)
    pod = start("redis", "--set", "drain.delaySeconds=0,drain.seconds=1", petasos_log={"url": engine.url})
    engine.pause()
    wait_until(lambda: pod.get("http", "/readyz")[0] == 503)
    assert [pod.probe(name) for name in ("startup", "liveness", "readiness")] == [200] * 3
    stream = Stream(f"http://{pod.held['http']}{hubs.HUB_PATH}?topic=a")
    stack.callback(stream.close)
    assert stream.opens()
    engine.resume()
    url = f"http://{pod.held['http']}{hubs.HUB_PATH}"
    wait_until(lambda: Request("POST", url, PUBLISH, [("topic", "a"), ("data", "x")]).status == 200)
    assert stream.event()["data"] == "x"


def test_keys_of_a_changed_secret_are_taken_over(start, tmp_path):
    """The kubelet swaps a symbolic link; no restart and no reload is needed."""
    pod = start("memory", "--set", "config.key_files_interval=1s")
    url = f"http://{pod.held['http']}{hubs.HUB_PATH}"
    assert Request("POST", url, PUBLISH, [("topic", "a")]).status == 200
    (tmp_path / "new").write_text(base64.b64encode(os.urandom(32)).decode())
    (tmp_path / "new").rename(tmp_path / "keys" / "publisher")
    wait_until(lambda: Request("POST", url, PUBLISH, [("topic", "a")]).status == 401)


def test_a_changed_config_is_taken_over_where_pods_are_asked_to_reload(start, stack, tmp_path, tmp_path_factory):
    engine = Redis(tmp_path_factory.mktemp("redis"))
    stack.callback(engine.close)
    pod = start("redis", "--set", "drain.delaySeconds=0,drain.seconds=1", petasos_log={"url": engine.url})
    file = tmp_path / "config" / "petasos.toml"
    file.write_text(file.read_text().replace("anonymous = true", "anonymous = false"))
    url = f"http://{pod.held['metrics']}/reload"
    assert Request("POST", url).status == 401
    answer = Request("POST", url, {"Authorization": f"Bearer {'t' * 32}"})
    assert (answer.status, json.loads(answer.body)["changed"]) == (200, ["anonymous"])


def test_the_url_of_the_metrics_is_not_public(start):
    assert start("memory").get("http", "/metrics")[0] == 404
