"""The archives of the binary: a tarball, a .deb and an .rpm. They are made from the binary of the tests and unpacked in
folders that stand for the root of a system, so no test changes this machine."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import tarfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import hubs
from clients import HUB_PATH, Request
from scripts import load
from servers import needs

packages: ModuleType = load("packages")
version: ModuleType = load("version")
TARGET = f"{os.uname().machine}-unknown-linux-gnu"
SETTINGS = "etc/petasos/petasos.toml"
# What a system has before, as far as dpkg has to know it.
SYSTEM = {"libc6": "2.36-9", "systemd": "252.1-1", "init-system-helpers": "1.65"}


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Any:
    """The binary of the tests, without what debuggers read: that is most of it."""
    binary = tmp_path_factory.mktemp("binary") / "petasos"
    built = hubs.petasos()[0]
    if shutil.which("strip") is None or subprocess.run(["strip", "-o", binary, built], check=False).returncode != 0:
        shutil.copy(built, binary)
    return packages.Hub(str(version.current()), TARGET, binary, packages.Texts.ask(binary), "licences of libraries\n")


class System:
    """A folder in which dpkg installs."""

    def __init__(self, root: Path) -> None:
        needs("dpkg")
        needs("systemd-sysusers")
        if os.geteuid() != 0:
            pytest.skip("needs root: dpkg sets owners")
        self.root = root
        for folder in ("updates", "info", "triggers", "parts"):
            (root / "var/lib/dpkg" / folder).mkdir(parents=True)
        architecture = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True)
        (root / "var/lib/dpkg/status").write_text(
            "".join(
                f"Package: {name}\nStatus: install ok installed\nMaintainer: a <a@example.com>\nVersion: {version}\n"
                f"Architecture: {architecture.stdout.strip()}\nDescription: a part of the system\n\n"
                for name, version in SYSTEM.items()
            )
        )
        (root / "etc").mkdir()

    def dpkg(self, *arguments: str | Path) -> str:
        # Scripts run outside of the folder, because it has no shell. They read DPKG_ROOT.
        command = ["dpkg", f"--root={self.root}", "--force-script-chrootless", "--force-confdef", "--force-confold"]
        ran = subprocess.run(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, ran.stdout
        return ran.stdout

    def files(self) -> set[str]:
        """What is there, beside what dpkg and the list of users need."""
        files = (path for path in self.root.rglob("*") if path.is_symlink() or not path.is_dir())
        names = {str(path.relative_to(self.root)) for path in files}
        users = {"etc/passwd", "etc/group", "etc/shadow", "etc/gshadow"}
        return {name for name in names - users if not name.startswith("var/lib/dpkg/") and ".pwd.lock" not in name}


@pytest.fixture
def system(tmp_path) -> System:
    return System(tmp_path / "root")


@pytest.fixture(scope="module")
def deb(hub, tmp_path_factory) -> Path:
    needs("dpkg-deb")
    return packages.deb(hub, tmp_path_factory.mktemp("deb"), "none")


def test_the_tarball_is_one_folder_with_all_that_belongs_to_the_hub(hub, tmp_path):
    path = packages.tarball(hub, tmp_path)
    name = f"petasos-{hub.version}-{TARGET}"
    assert path.name == f"{name}.tar.gz"
    with tarfile.open(path) as archive:
        entries = {entry.name: entry for entry in archive.getmembers()}
        assert {entry.uname for entry in entries.values()} == {"root"}
        archive.extractall(tmp_path / "unpacked", filter="data")
    files = {entry.removeprefix(f"{name}/") for entry, member in entries.items() if member.isfile()}
    assert files == {
        *("petasos", "petasos.1", "petasos.toml", "petasos.service", "petasos.socket", "README.md"),
        *("completions/petasos.bash", "completions/_petasos", "completions/petasos.fish"),
        *("LICENSE-MIT", "LICENSE-APACHE", "THIRD-PARTY-LICENSES.txt"),
    }
    unpacked = tmp_path / "unpacked" / name / "petasos"
    ran = subprocess.run([unpacked, "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == f"petasos {hub.version}"


def test_the_same_files_make_the_same_archives(hub, deb, tmp_path):
    small = replace(hub, binary=Path(__file__))
    for make in (packages.tarball, packages.deb):
        digests = set()
        for turn in ("first", "second"):
            (tmp_path / turn).mkdir(exist_ok=True)
            digests.add(hashlib.sha256(make(small, tmp_path / turn).read_bytes()).hexdigest())
        assert len(digests) == 1, make.__name__


def test_a_deb_is_installed_started_upgraded_removed_and_purged(hub, deb, system, tmp_path, stack, monkeypatch):
    root = system.root
    system.dpkg("--install", deb)
    assert f"ii  petasos        {hub.version}-1" in system.dpkg("--list", "petasos")
    assert re.search(
        r"^petasos:x:\d+:\d+:.*:/var/lib/petasos:.*nologin$", (root / "etc/passwd").read_text(), re.MULTILINE
    )
    group = int(re.search(r"^petasos:x:(\d+):", (root / "etc/group").read_text(), re.MULTILINE)[1])
    assert system.dpkg("--verify", "petasos") == ""

    # Its settings may hold secrets: root changes them, and the hub reads them.
    for name, mode in (("etc/petasos", 0o750), (SETTINGS, 0o640)):
        status = (root / name).stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (0, group, mode)

    # The service's own command starts it.
    unit = (root / "usr/lib/systemd/system/petasos.service").read_text()
    program, option, settings = re.search(r"^ExecStart=(.+)$", unit, re.MULTILINE)[1].split()
    assert (program, option, settings) == ("/usr/bin/petasos", "--config", f"/{SETTINGS}")
    here = ["--listen", "127.0.0.1:0", "--admin-listen", "off", "--transport", f"durable://{tmp_path}/log"]
    keys = ["--publisher-key", hubs.PUBLISHER, "--subscriber-key", hubs.SUBSCRIBER]
    started = hubs.HubProcess([str(root) + program, option, str(root) + settings, *here, *keys])
    with closing(started):
        assert Request("GET", started.url.removesuffix(HUB_PATH) + "/healthz").status == 200

    # The administrator has changed a setting, and so has the new version.
    changed = (root / SETTINGS).read_text() + 'keep_alive = "10s"\n'
    (root / SETTINGS).write_text(changed)
    (root / SETTINGS).chmod(0o600)
    shutil.copytree(hubs.ROOT / "deploy", tmp_path / "deploy")
    with (tmp_path / "deploy/petasos.toml").open("a") as new:
        new.write("# A new line.\n")
    monkeypatch.setattr(packages, "DEPLOY", tmp_path / "deploy")
    system.dpkg("--install", packages.deb(replace(hub, version="99.0.0"), tmp_path, "none"))
    assert "99.0.0-1" in system.dpkg("--list", "petasos")
    assert (root / SETTINGS).read_text() == changed
    assert (root / SETTINGS).stat().st_mode & 0o7777 == 0o600
    assert (root / f"{SETTINGS}.dpkg-dist").read_text().endswith("# A new line.\n")

    log = root / "var/lib/private/petasos/log"
    log.parent.mkdir(parents=True)
    log.write_text("updates")
    (root / "var/lib/petasos").symlink_to("private/petasos")
    system.dpkg("--remove", "petasos")
    assert system.files() == {SETTINGS, f"{SETTINGS}.dpkg-dist", "var/lib/private/petasos/log", "var/lib/petasos"}
    system.dpkg("--purge", "petasos")
    assert system.files() == set()
    assert not (root / "etc/petasos").exists()


def test_the_documentation_names_the_files_of_a_release(hub, deb, tmp_path):
    text = (hubs.ROOT / "docs" / "installing.md").read_text()
    small = replace(hub, binary=Path(__file__), target="x86_64-unknown-linux-gnu")
    made = {packages.tarball(small, tmp_path).name, packages.deb(small, tmp_path, "none").name}
    made.add(f"petasos-{hub.version}-1.x86_64.rpm")
    assert {name.replace(hub.version, "VERSION") for name in made} == set(
        re.findall(r"petasos[_-]VERSION[\w.-]+\.(?:tar\.gz|deb|rpm)", text)
    )
    for path in packages.installed(hub, "deb"):
        assert path.startswith(("usr/share/", "usr/lib/")) or f"/{path}" in text


def test_a_binary_that_asks_for_a_later_glibc_than_its_packages_say_is_refused(tmp_path):
    binary = tmp_path / "petasos"
    binary.write_bytes(b"\0GLIBC_2.4\0GLIBC_2.28\0GLIBC_ABI_DT_RELR\0")
    assert packages.check_glibc(binary) == binary
    for version in ("2.29", "2.100", "3.0"):
        binary.write_bytes(f"\0GLIBC_2.4\0GLIBC_{version}\0".encode())
        with pytest.raises(SystemExit, match=f"asks for glibc {version}: its packages say that 2.28 is enough"):
            packages.check_glibc(binary)


def test_a_pre_release_is_older_than_its_release():
    assert packages.package_version("1.0.0-rc.1") == "1.0.0~rc.1"
    needs("dpkg")
    assert subprocess.run(["dpkg", "--compare-versions", "1.0.0~rc.1-1", "lt", "1.0.0-1"], check=False).returncode == 0


def test_the_texts_of_a_package_know_the_settings_of_its_binary(hub):
    """They are asked of the binary, so they cannot be of another version."""
    help_text = subprocess.run([hub.binary, "--help"], capture_output=True, text=True, check=True).stdout
    flags = set(re.findall(r"^ +(--[a-z][a-z0-9-]+)", help_text, re.MULTILINE))
    assert len(flags) > 30
    for text in (hub.texts.manual.replace("\\-", "-"), *hub.texts.completions.values()):
        # fish writes the name of an option without its dashes.
        assert [flag for flag in flags if flag not in text and f"-l {flag[2:]} " not in text] == []


def test_the_settings_of_a_package_are_right_and_name_what_exists(hub, tmp_path):
    sample = hubs.ROOT / "deploy" / "petasos.toml"
    text = sample.read_text()
    assert subprocess.run([hub.binary, "check", "--config", sample], capture_output=True, check=False).returncode == 0
    # The node is alone with its log: a drain would only refuse subscribers.
    assert re.findall(r"^(transport|drain|drain_delay) = \"(\w+)", text, re.MULTILINE) == [
        ("transport", "durable"),
        ("drain_delay", "0"),
        ("drain", "2s"),
    ]
    # The lines that are commented out, too.
    everything = tmp_path / "petasos.toml"
    everything.write_text(
        re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE).replace("/etc/petasos", str(tmp_path))
    )
    for name in ("publisher.key", "subscriber.key"):
        (tmp_path / name).write_text(hubs.PUBLISHER)
    (tmp_path / "tls").mkdir()
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    make += ["-subj", "/CN=a", "-keyout", "tls/privkey.pem", "-out", "tls/fullchain.pem"]
    subprocess.run(make, cwd=tmp_path, check=True, capture_output=True)
    ran = subprocess.run([hub.binary, "check", "--config", everything], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_unit_of_a_package_is_what_systemd_takes(hub, tmp_path):
    program = needs("systemd-analyze")
    unit = tmp_path / "petasos.service"
    unit.write_text(packages.service().replace("/usr/bin/petasos", str(hub.binary)))
    ran = subprocess.run([program, "verify", unit], capture_output=True, text=True, check=False)
    assert [line for line in ran.stderr.splitlines() if "petasos" in line] == []
    # Debian 12 and Red Hat 9 have systemd 252, which knows no Type=notify-reload.
    assert "Type=notify\nExecReload=/bin/kill -HUP $MAINPID\n" in unit.read_text()


def test_an_rpm_has_the_files_of_the_deb(hub, deb, tmp_path):
    needs("rpmbuild")
    # Any program: a small one is compressed sooner.
    path = packages.rpm(replace(hub, binary=Path(needs("true"))), tmp_path)

    def ask(*arguments: str) -> str:
        return subprocess.run(["rpm", "-qp", *arguments, path], capture_output=True, text=True, check=True).stdout

    listed = dict(
        reversed(line.rsplit(" ", 1))
        for line in ask(
            "--qf", "[%{FILEFLAGS:fflags}|%{FILEMODES:perms}|%{FILEUSERNAME}:%{FILEGROUPNAME} %{FILENAMES}\n]"
        ).splitlines()
    )
    assert listed["/usr/bin/petasos"] == "|-rwxr-xr-x|root:root"
    assert listed["/etc/petasos"] == "|drwxr-x---|root:petasos"
    assert listed[f"/{SETTINGS}"] == "cn|-rw-r-----|root:petasos", "an upgrade keeps what was changed"
    files = {f"/{name}" for name in packages.installed(hub, "rpm")}
    assert files | {"/etc/petasos", "/usr/share/doc/petasos"} == set(listed)
    in_deb = {f"/{name}" for name in packages.installed(hub, "deb")}
    assert {name for name in in_deb ^ files if "/doc/" not in name and "/zsh/" not in name} == set()
    assert {"/usr/sbin/groupadd", "/usr/sbin/useradd"} <= set(ask("--requires").split()), "SUSE has no shadow-utils"
    assert "libc.so.6()(64bit)" in ask("--requires"), "rpm has read what the binary needs"
    for script in ("preinstall", "postinstall", "preuninstall", "postuninstall"):
        assert f"{script} scriptlet" in ask("--scripts")
    scripts = ask("--scripts")
    assert (
        subprocess.run(["sh", "-n"], input=re.sub(r"^\w+ scriptlet.*", "", scripts, flags=re.M), text=True).returncode
        == 0
    )


def test_the_manual_page_is_one_that_man_reads(hub):
    needs("man")
    files = packages.installed(hub, "deb")
    page = gzip.decompress(files["usr/share/man/man1/petasos.1.gz"])
    ran = subprocess.run(
        ["man", "--warnings", "-l", "-"],
        input=page,
        capture_output=True,
        check=False,
        env={**os.environ, "MANPAGER": "cat", "MANWIDTH": "100"},
    )
    assert ran.returncode == 0
    assert b"warning" not in ran.stderr
    assert b"publisher-key" in ran.stdout
