"""The units of deploy/: systemd takes them, they leave the hub few rights, and the hub runs with those.

systemd-nspawn boots this machine's own systemd in a container, with an empty /etc and /var, and runs a script in it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

import hubs
from clients import PATIENCE
from servers import needs

UNITS = ("petasos.service", "petasos.socket")

# 0 is a service without any right, 100 one with all of them. Most of what is left is the network.
EXPOSURE_MAX = 15


def write_units(directory: Path, binary: str) -> None:
    """Writes the units for the systemd of this machine, with the binary elsewhere."""
    version = subprocess.run([needs("systemd-analyze"), "--version"], capture_output=True, text=True, check=True).stdout
    is_old = int(version.split()[1]) < 253
    for name in UNITS:
        text = (hubs.ROOT / "deploy" / name).read_text().replace("/usr/local/bin/petasos", binary)
        if is_old:
            # docs/how-to/systemd.md says so, too.
            text = text.replace("Type=notify-reload\n", "Type=notify\nExecReload=/bin/kill -HUP $MAINPID\n")
        (directory / name).write_text(text)


def test_the_units_are_what_systemd_takes(tmp_path):
    write_units(tmp_path, "/bin/true")
    units = [str(tmp_path / name) for name in UNITS]
    ran = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert [line for line in ran.stderr.splitlines() if "petasos" in line] == []


def test_the_unit_leaves_the_hub_few_rights(tmp_path):
    write_units(tmp_path, "/bin/true")
    command = ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", "--no-pager"]
    ran = subprocess.run(
        [*command, str(tmp_path / "petasos.service")], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_page_has_the_lines_for_an_older_systemd():
    page = (hubs.ROOT / "docs" / "how-to" / "systemd.md").read_text()
    assert "Type=notify\nExecReload=/bin/kill -HUP $MAINPID\n" in page


# Beside those that the packages bring.
SETTINGS = """
anonymous = true
compat = true
max_subscribers = 1000
takeover = "/run/petasos/takeover"
"""

PROBE = """
[Unit]
Description=The script of the test
[Service]
Type=oneshot
StandardOutput=file:/test/output
StandardError=file:/test/output
ExecStart=/bin/bash /test/script
"""

TARGET = """
[Unit]
Description=What the test needs
Wants=probe.service systemd-journald.service
After=systemd-journald.service
"""

SCRIPT = """
publish() {
    export PETASOS_PUBLISHER_KEY=%(publisher)s PETASOS_COMPAT=true
    token=$(/test/petasos token mint --publish '*' --legacy 2>/dev/null)
    exec 3<>/dev/tcp/127.0.0.1/5500
    printf 'POST /.well-known/mercure HTTP/1.1\\r\\nHost: localhost\\r\\nAuthorization: Bearer %%s\\r\\n' "$token" >&3
    printf 'Content-Type: application/x-www-form-urlencoded\\r\\nContent-Length: 14\\r\\n\\r\\ntopic=a&data=x' >&3
    head -n 1 <&3
}
systemctl start petasos.socket petasos.service
echo "active: $(systemctl is-active petasos)"
echo "listens: $(systemctl show petasos.socket -p Listen --value)"
# A hub whose store is away ends, and is to be started again for as long as it takes.
echo "starts: $(systemctl show petasos -p Restart -p StartLimitIntervalUSec --value | tr '\\n' ' ')"
echo "status: $(systemctl show petasos -p StatusText --value)"
echo "health: $(/test/petasos health)"
echo "published: $(publish)"
systemctl reload petasos && echo "reloaded"
# The socket is systemd's, so what is sent while the hub starts again waits, and is not refused.
systemctl restart petasos --no-block
echo "published: $(publish)"
systemctl stop petasos.socket petasos.service
echo "ended: $(systemctl show petasos -p Result -p ExecMainStatus --value | tr '\\n' ' ')"
# Settings that are wrong stay so, and no other start is tried.
mkdir -p /run/systemd/system/petasos.service.d
printf '[Service]\\nEnvironment=PETASOS_HISTORY=many\\n' > /run/systemd/system/petasos.service.d/wrong.conf
systemctl daemon-reload
systemctl start petasos.service || echo "with wrong settings: $(systemctl is-failed petasos)"
journalctl -u petasos --no-pager
systemctl poweroff --force
"""


def test_a_hub_of_systemd_serves_reloads_and_starts_again_with_the_rights_that_the_unit_leaves(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("systemd-nspawn needs root")
    nspawn = needs("systemd-nspawn")
    keys = f"PETASOS_PUBLISHER_KEY={'p' * 32}\nPETASOS_SUBSCRIBER_KEY={'s' * 32}\n"
    for name, text in {
        "petasos.toml": (hubs.ROOT / "deploy" / "petasos.toml").read_text() + SETTINGS,
        "keys.env": keys,
        "probe.service": PROBE,
        "probe.target": TARGET,
        "script": SCRIPT % {"publisher": "p" * 32},
    }.items():
        (tmp_path / name).write_text(text)
    os.link(hubs.petasos()[0], tmp_path / "petasos")
    write_units(tmp_path, "/test/petasos")
    # The user of the service reaches the binary.
    tmp_path.chmod(0o755)
    # Nothing asks a person at the console, and nothing waits for a network that is not there.
    masked = ("systemd-firstboot", "systemd-networkd-wait-online", "NetworkManager-wait-online")
    command = [
        *(nspawn, "--directory=/", "--volatile=yes", "--boot", "--register=no", "--keep-unit", "--private-network"),
        *(f"--machine=petasos-{os.getpid()}", f"--bind={tmp_path}:/test"),
        *(f"--bind-ro={tmp_path / name}:/etc/petasos/{name}" for name in ("petasos.toml", "keys.env")),
        *(
            f"--bind-ro={tmp_path / name}:/etc/systemd/system/{name}"
            for name in (*UNITS, "probe.service", "probe.target")
        ),
        *("systemd.unit=probe.target", "systemd.firstboot=no", *(f"systemd.mask={name}.service" for name in masked)),
    ]
    try:
        booted = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        pytest.fail(f"it does not end: {late.stdout!r}")
    if "Welcome to" not in booted.stdout:
        pytest.skip(f"systemd cannot be booted here: {booted.stderr.strip()[-200:]}")
    output = (tmp_path / "output").read_text()
    said = output.split("\nended: ")[0].splitlines()
    assert said == [
        "active: active",
        "listens: 127.0.0.1:5500 (Stream)",
        "starts: on-failure 0 ",
        "status: 0 streams; the log takes updates",
        "health: 200: ok",
        "published: HTTP/1.1 200 OK",
        "reloaded",
        "published: HTTP/1.1 200 OK",
    ], output
    assert re.search(r"^ended: success 0 $", output, re.MULTILINE), output
    assert re.search(r"^with wrong settings: failed$", output, re.MULTILINE), output
    assert len(re.findall(r"petasos\[\d+\]: Serving on ", output)) == 2, output
    assert not re.search("WARN|ERROR|SIGSYS", output), output
