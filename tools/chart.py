"""Checks the Helm chart: lints it, renders it with each file in ci/, and validates what comes out.

``make check`` runs it. The schemas come from packages: those of Kubernetes from kubernetes-validate, those of the other
kinds from the Go modules that define them."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "deploy" / "chart" / "petasos"
VALUES = sorted((CHART / "ci").glob("*.yaml"))
TOOLS = ROOT / ".build" / "tools"
HELM, KUBECONFORM = str(TOOLS / "bin" / "helm"), str(TOOLS / "bin" / "kubeconform")
SCHEMAS = TOOLS / "schemas"

# The oldest Kubernetes of the chart (kubeVersion in Chart.yaml), and the newest that has schemas.
KUBERNETES = ("1.29.0", "1.37.0")

# Where the kinds are defined that Kubernetes itself does not have.
OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
DEFINED = {
    "sigs.k8s.io/gateway-api@v1.4.1": ["config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"],
    OPERATOR: [
        f"example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml"
        for kind in ("servicemonitors", "prometheusrules")
    ],
}


def render(*options: str, chart: Path = CHART, kubernetes: str = KUBERNETES[-1]) -> str:
    """The manifests of a release "petasos" in the namespace "live".

    # Errors
    ``subprocess.CalledProcessError``, whose ``stderr`` names the value that is wrong."""
    command = [HELM, "template", "petasos", str(chart), "--namespace=live", f"--kube-version={kubernetes}", *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> int:
    locations = [f"--schema-location={_kinds_elsewhere()}/{{{{.ResourceKind}}}}-{{{{.ResourceAPIVersion}}}}.json"]
    for values in VALUES:
        lint = [
            HELM,
            "lint",
            "--strict",
            "--quiet",
            f"--kube-version={KUBERNETES[-1]}",
            f"--values={values}",
            str(CHART),
        ]
        ran = subprocess.run([*lint, str(CHART)], check=False, capture_output=True, text=True)
        if ran.returncode:
            print(ran.stdout + ran.stderr)
            return 1
        for version in KUBERNETES:
            own = f"--schema-location={_kinds_of(version)}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
            manifests = render("--values", str(values), chart=CHART, kubernetes=version)
            command = [KUBECONFORM, "-strict", "-summary", own, *locations, "-"]
            ran = subprocess.run(command, check=False, input=manifests, capture_output=True, text=True)
            print(f"{values.name}, Kubernetes {version}: {ran.stdout.strip()}{ran.stderr.strip()}")
            if ran.returncode:
                return 1
    return 0


def _kinds_of(version: str) -> Path:
    """A directory with the schemas of that Kubernetes."""
    directory = SCHEMAS / version
    if not directory.exists():
        package = importlib.util.find_spec("kubernetes_validate")
        if package is None or package.origin is None:
            raise SystemExit("kubernetes-validate is missing: it is among the tools of pyproject.toml")
        schemas = Path(package.origin).parent / "kubernetes-json-schema" / f"v{version}-local-strict"
        _write(directory, {file.name: _found_here(file.read_text()) for file in schemas.iterdir()})
    return directory


def _found_here(schema: str) -> str:
    """The same schema, which names its definitions beside it, and no dialect that would have to be fetched."""
    return re.sub(r'"\$schema": "[^"]*",?', "", schema).replace("/api/_definitions.json", "_definitions.json")


def _kinds_elsewhere() -> Path:
    """A directory with the schemas of the kinds that are no part of Kubernetes."""
    directory = SCHEMAS / "elsewhere"
    if not directory.exists():
        files = {}
        for module, definitions in DEFINED.items():
            ran = subprocess.run(["go", "mod", "download", "-json", module], check=True, capture_output=True, text=True)
            for definition in definitions:
                spec = yaml.safe_load(Path(json.loads(ran.stdout)["Dir"], definition).read_text())["spec"]
                for version in spec["versions"]:
                    name = f"{spec['names']['kind'].lower()}-{version['name']}.json"
                    files[name] = json.dumps(_strict(version["schema"]["openAPIV3Schema"]))
        _write(directory, files)
    return directory


def _strict(schema: Any) -> Any:
    """The same schema, which takes no field that it does not name. What is int-or-string has no type in JSON."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema:
        # The metadata of an object is Kubernetes' own.
        strict["additionalProperties"] = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
    return strict


def _write(directory: Path, files: dict[str, str]) -> None:
    """All of them or none."""
    unfinished = directory.with_suffix(".unfinished")
    unfinished.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (unfinished / name).write_text(text)
    unfinished.rename(directory)


if __name__ == "__main__":
    sys.exit(main())
