"""The image and the compose files: what the image holds, that the hub runs in it, and whether settings are right.

There is no container engine here. buildah builds the last stage of the Dockerfile as an engine does. The program runs
in a read-only root directory, as the user that the image names."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import hubs
from clients import PATIENCE, Request, Stream
from cluster import PUBLISH
from ports import Port
from servers import needs

DEPLOY = hubs.ROOT / "deploy"
COMPOSE = sorted(DEPLOY.glob("compose.*.yaml"))
COMPOSE_SCHEMA = hubs.ROOT / ".build" / "tools" / "compose-spec.json"
GIVEN = {
    "PETASOS_PUBLISHER_KEY": hubs.PUBLISHER,
    "PETASOS_SUBSCRIBER_KEY": hubs.SUBSCRIBER,
    "POSTGRES_PASSWORD": "0123456789abcdef",
}


class Image:
    """The image, unpacked: its files, and its configuration."""

    def __init__(self, directory: Path) -> None:
        self.buildah = [needs("buildah"), "--root", str(directory / "root"), "--runroot", str(directory / "run")]
        # Layers that are copies: others stay mounted behind the test.
        self.buildah += ["--storage-driver", "vfs"]
        context = directory / "context"
        (context / "dist").mkdir(parents=True)
        for licence in ("LICENSE-APACHE", "LICENSE-MIT"):
            shutil.copy(hubs.ROOT / licence, context)
        # What a release has is a static program. This one is what the tests have, and needs the C library.
        machine = platform.machine()
        self.program = context / "petasos"
        subprocess.run(["strip", "-o", self.program, hubs.petasos()[0]], check=True)
        folder = f"petasos-0.0.0-{machine}-unknown-linux-musl"
        with tarfile.open(context / "dist" / f"{folder}.tar.gz", "w:gz", compresslevel=1) as archive:
            archive.add(self.program, f"{folder}/petasos")
        self._has_certificates(directory)
        architecture = {"x86_64": "amd64", "aarch64": "arm64"}[machine]
        arguments = {"BINARY": "prebuilt", "TARGETARCH": architecture, "BUILDPLATFORM": f"linux/{architecture}"}
        arguments |= {"VERSION": "0.0.0", "REVISION": "abc"}
        self.run(
            "bud",
            *("--isolation", "chroot", "--format", "docker", "--file", str(DEPLOY / "Dockerfile"), "--tag", "petasos"),
            *(f"--build-arg={name}={value}" for name, value in arguments.items()),
            str(context),
        )
        self.config = json.loads(self.run("inspect", "--type", "image", "petasos"))["Docker"]["config"]
        self.container = self.run("from", "--pull-never", "petasos")
        self.files = Path(self.run("mount", self.container))

    def run(self, *arguments: str) -> str:
        ran = subprocess.run([*self.buildah, *arguments], check=False, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout.strip()

    def _has_certificates(self, directory: Path) -> None:
        """Stands in for the image from which the Dockerfile takes them."""
        base = directory / "base"
        (base / "etc" / "ssl" / "certs").mkdir(parents=True)
        (base / "mnt").mkdir()
        (base / "etc" / "ssl" / "certs" / "ca-certificates.crt").write_text("certificates\n")
        named = re.findall(r"^FROM .*(alpine:\S+) AS certificates$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
        container = self.run("from", "scratch")
        self.run("copy", container, str(base), "/")
        self.run("commit", container, f"docker.io/library/{named[0]}")
        self.run("rm", container)

    def close(self) -> None:
        self.run("umount", self.container)
        self.run("rm", self.container)


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Iterator[Image]:
    if os.geteuid() != 0:
        pytest.skip("an image is unpacked and entered as root")
    image = Image(tmp_path_factory.mktemp("image"))
    yield image
    image.close()


def test_the_image_holds_the_program_certificates_licences_and_nothing_else(image):
    found = {}
    for path in image.files.rglob("*"):
        state = path.lstat()
        if not stat.S_ISDIR(state.st_mode):
            found[str(path.relative_to(image.files))] = (state.st_uid, stat.S_IMODE(state.st_mode))
    assert found == {
        "etc/ssl/certs/ca-certificates.crt": (0, 0o644),
        "licenses/LICENSE-APACHE": (0, 0o644),
        "licenses/LICENSE-MIT": (0, 0o644),
        "usr/local/bin/petasos": (0, 0o755),
    }
    log = (image.files / "var" / "lib" / "petasos").stat()
    assert (log.st_uid, log.st_gid, stat.S_IMODE(log.st_mode)) == (65532, 65532, 0o755)


def test_the_image_says_what_it_is_and_whose_user_it_runs_as(image):
    assert image.config["User"] == "65532:65532", "a number, so that Kubernetes sees that it is not root"
    assert set(image.config["ExposedPorts"]) == {"5500/tcp", "5501/tcp"}
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in image.config["Labels"].items()}
    assert (labels["version"], labels["revision"], labels["licenses"]) == ("0.0.0", "abc", "MIT OR Apache-2.0")
    page = labels["documentation"].partition("/blob/main/")[2]
    assert (hubs.ROOT / page).exists()


# The directory becomes read-only for this process and its children, and they leave everything else behind.
ENTER = 'mount --bind "$0" "$0" && mount --bind /proc "$0/proc" && mount -o remount,bind,ro "$0" && exec "$@"'


@pytest.fixture
def inside(image, tmp_path, stack):
    """How to run a command in the image, and a directory in there that the user may write to."""
    files = tmp_path / "files"
    shutil.copytree(image.files, files, symlinks=True)
    (files / "proc").mkdir()
    # A static program has no list, and ldd then fails.
    listed = subprocess.run(["ldd", image.program], check=False, capture_output=True, text=True).stdout
    for library in re.findall(r"(/\S+) \(0x", listed):
        (files / library[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, files / library[1:])
    enter = ["unshare", "--mount", "sh", "-c", ENTER, str(files)]
    if subprocess.run([*enter, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine allows no mounts")
    return [*enter, "chroot", f"--userspec={image.config['User']}", str(files)]


def test_the_hub_runs_in_the_image_without_root_and_without_writing(image, inside, stack):
    with Port() as port:
        environment = {
            **dict(variable.split("=", 1) for variable in image.config["Env"]),
            **{name: text for name, text in GIVEN.items() if name.startswith("PETASOS")},
            "PETASOS_LISTEN": str(port),
            "PETASOS_ADMIN_LISTEN": "off",
            "PETASOS_COMPAT": "true",
            "PETASOS_ANONYMOUS": "true",
            "PETASOS_DRAIN_DELAY": "0s",
            "PETASOS_DRAIN": "1s",
        }
        hub = subprocess.Popen([*inside, *image.config["Entrypoint"]], env=environment, stdout=subprocess.PIPE)
        stack.callback(hub.communicate)
        stack.callback(hub.kill)
        assert hub.stdout is not None
        assert hub.stdout.readline().startswith(b"Serving on ")
        kind, *command = image.config["Healthcheck"]["Test"]
        assert kind == "CMD", "there is no shell"
        health = subprocess.run([*inside, *command], env=environment, check=False, capture_output=True, text=True)
        assert (health.returncode, health.stdout[:3]) == (0, "200"), health
        status = Path(f"/proc/{hub.pid}/status").read_text()
        assert re.search(r"^Uid:\t65532\t65532", status, re.MULTILINE)
        stream = Stream(f"http://{port}{hubs.HUB_PATH}?topic=a")
        stack.callback(stream.close)
        assert stream.opens()
        assert Request("POST", f"http://{port}{hubs.HUB_PATH}", PUBLISH, [("topic", "a"), ("data", "x")]).status == 200
        assert stream.event()["data"] == "x"
        hub.terminate()
        assert hub.wait(PATIENCE) == 0
        health = subprocess.run([*inside, *command], env=environment, check=False, capture_output=True, text=True)
        assert health.returncode == 1


def services(file: Path) -> dict[str, Any]:
    """The services, with the variables of the caller put in."""
    text = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: GIVEN[found[1]], file.read_text())
    document = yaml.safe_load(text)
    found: dict[str, Any] = document["services"]
    return found


@cache
def validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    if not COMPOSE_SCHEMA.exists():
        pytest.skip("the schema is not there: make deploy-tools, with Go")
    return jsonschema.Draft7Validator(json.loads(COMPOSE_SCHEMA.read_text()))


@pytest.mark.parametrize("file", COMPOSE, ids=lambda file: file.stem)
def test_compose_files_keep_to_the_specification(file):
    validator().validate(yaml.safe_load(file.read_text()))


@pytest.mark.parametrize("file", COMPOSE, ids=lambda file: file.stem)
def test_the_hub_of_a_compose_file_has_no_rights_and_settings_that_it_takes(file, tmp_path):
    hub = next(each for name, each in services(file).items() if name.startswith("petasos"))
    assert hub["read_only"] is True
    assert hub["cap_drop"] == ["ALL"]
    assert hub["security_opt"] == ["no-new-privileges:true"]
    environment = {name: str(text).replace("/var/lib", str(tmp_path)) for name, text in hub["environment"].items()}
    command = [*hubs.petasos()[:1], "check", "--json"]
    ran = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    found = json.loads(ran.stdout)
    # Of this machine, and not of the file.
    warnings = [each for each in found["warnings"] if each["setting"] != "max_subscribers"]
    assert (found["ok"], warnings) == (True, [])


def test_redis_has_room_for_the_history_of_its_hub():
    services = yaml.safe_load((DEPLOY / "compose.redis.yaml").read_text())["services"]
    history = int(services["petasos1"]["environment"]["PETASOS_HISTORY"])
    megabytes = int(re.findall(r"--maxmemory (\d+)mb", services["redis"]["command"])[0])
    # docs/transports/redis.md says how much an entry takes.
    assert (history + 16_384) * (19_000 + 500) <= megabytes * 1024 * 1024


def test_nats_takes_the_largest_body_of_the_hub(tmp_path):
    config = yaml.safe_load((DEPLOY / "compose.nats.yaml").read_text())["configs"]["nats"]["content"]
    assert int(re.findall(r"^max_payload: (\d+)MB$", config, re.MULTILINE)[0]) * 1024 * 1024 > 1_048_576 * 1.5
    (tmp_path / "nats.conf").write_text(config)
    command = [needs("nats-server"), "--config", str(tmp_path / "nats.conf"), "-t"]
    checked = subprocess.run(command, check=False, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


def test_every_image_of_a_compose_file_has_a_version():
    for file in COMPOSE:
        for name, service in services(file).items():
            assert re.search(r":\d", service["image"]) or service["image"] == "petasos", (file.name, name)
