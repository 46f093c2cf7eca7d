"""The numbers of docs/tuning.md: its script has the same, and what can be counted is counted on the wire."""

import re
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import hubs
from clients import PATIENCE
from documents import DOCS, Document
from servers import needs

SCRIPT = (DOCS / "site" / "js" / "calculator.js").read_text(encoding="utf-8")
PAGE = Document("tuning")
SHORTEST = """
defaults
    mode http
    timeout connect 1s
    timeout client 1s
    timeout server 1s
frontend web
    bind unix@/run/never
"""
"""What HAProxy wants beside."""


def number(name):
    (found,) = re.findall(rf"^  {name}: ([\d.e-]+),", SCRIPT, re.MULTILINE)
    return float(found)


def test_the_formulas_of_the_page_are_those_of_its_script():
    formulas = PAGE.text.partition("| What | Formula |")[2].partition("\n\n")[0]
    for text, name, factor in (
        (r"(\d+) MB \+", "hubBytes", 1e6),
        (r". (\d+) KB\. Grants", "streamBytes", 1e3),
        (r". (\d+) KB, for a moment", "returningBytes", 1e3),
        (r". (\d+) KB \|", "socketBytes", 1e3),
        (r"`rate` . (\d+) µs", "deliverySeconds", 1e-6),
        (r"one in (\d+) seconds", "aliveEvery", 1),
        (r"15 . (\d+) µs", "aliveSeconds", 1e-6),
        (r"÷ 3,600 . (\d+) µs", "connectSeconds", 1e-6),
        (r"\(`bytes` \+ (\d+) \+", "eventBytes", 1),
        (r"\+ (\d+)\) . 8 bit", "packetBytes", 1),
        (r"\(`bytes` \+ (\d+)\), 64 MiB", "logBytes", 1),
        (r"\(`bytes` \+ (\d+)\), since", "storeBytes", 1),
        (r"\(`history` \+ ([\d,]+)\)", "storeMargin", 1),
    ):
        written = {found.replace(",", "") for found in re.findall(text, formulas)}
        assert len(written) == 1, name
        assert abs(int(written.pop()) * factor - number(name)) < 1e-9 * factor, name


def test_the_room_that_the_lines_make_is_enough_for_the_streams_that_they_name():
    (streams,) = re.findall(r"^max_subscribers = (\d+)", PAGE.text, re.MULTILINE)
    (files,) = re.findall(r"write `LimitNOFILE=(\d+)` into its unit", PAGE.text)
    assert int(files) >= int(streams) / 7 * 8 + 80


def test_no_connection_to_elsewhere_takes_a_port_on_which_the_hub_listens():
    (first,) = re.findall(r"^net\.ipv4\.ip_local_port_range = (\d+) ", PAGE.text, re.MULTILINE)
    ports = {
        int(port)
        for name in ("configuration", "operations")
        for port in re.findall(r"\w:(\d{4,5})\b", Document(name).text)
    }
    assert {5500, 5501} <= ports
    assert max(ports) < int(first)


def test_the_page_for_operators_says_what_the_calculator_says():
    (row,) = re.findall(r"^\| 100000 \| 0 \|.*", PAGE.text, re.MULTILINE)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    process, returning, kernel, _, _, cores, _, files = cells[4:]
    text = " ".join(Document("operations").text.split())
    assert (
        f"take {process}, {kernel} of the kernel, {int(files):,} open files and {cores} processor cores, "
        f"and {returning} for a moment"
    ) in text


def test_the_bytes_beside_the_data_are_counted_on_the_wire(mercure, hub_url):
    address = urlsplit(hub_url)
    with socket.create_connection((address.hostname, address.port), 10) as client:
        client.sendall(b"GET " + address.path.encode() + b"?topic=a HTTP/1.1\r\nHost: a\r\n\r\n")
        received = b""
        while b"\r\n\r\n" not in received:
            received += client.recv(65536)
        assert b"transfer-encoding: chunked" in received.lower()
        mercure.publish("a", "begin")
        while b"data: begin\n\n\r\n" not in received:
            received += client.recv(65536)
        for length in (20, 200, 2000):
            mercure.publish("a", "x" * length)
            event = b""
            while not event.endswith(b"\n\n\r\n"):
                event += client.recv(65536)
            assert abs(len(event) - length - number("eventBytes")) <= 1, event


def test_the_lines_for_nginx_are_accepted(tmp_path):
    needs("nginx")
    (block,) = PAGE.blocks("nginx")
    configuration = tmp_path / "nginx.conf"
    configuration.write_text(f"{block}pid {tmp_path}/pid;\nerror_log stderr;\nhttp {{}}\n")
    subprocess.run(["nginx", "-t", "-q", "-c", configuration], check=True, capture_output=True, timeout=PATIENCE)


def test_the_lines_for_haproxy_are_accepted(tmp_path):
    needs("haproxy")
    (block,) = PAGE.blocks("haproxy")
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(f"global\n    {block}" + SHORTEST)
    subprocess.run(["haproxy", "-c", "-q", "-f", configuration], check=True, capture_output=True, timeout=PATIENCE)


def test_the_keys_for_the_kernel_exist():
    keys = re.findall(r"^((?:net|fs)\.[\w.]+) = ", PAGE.text, re.MULTILINE)
    assert len(keys) == 3
    assert [key for key in keys if not Path("/proc/sys", *key.split(".")).exists()] == []


@pytest.mark.parametrize("name", ["tuning", "how-to/from-the-reference-hub"])
def test_the_settings_of_a_page_are_accepted(name, tmp_path):
    (block,) = Document(name).blocks("toml")
    (tmp_path / "petasos.toml").write_text(block)
    keys = {"MERCURE_PUBLISHER_JWT_KEY": "p" * 32, "MERCURE_SUBSCRIBER_JWT_KEY": "s" * 32}
    command = [hubs.petasos()[0], "check", "--config", tmp_path / "petasos.toml"]
    checked = subprocess.run(command, env=keys, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_variables_of_the_reference_hub_that_the_page_names_are_read():
    table = Document("how-to/from-the-reference-hub").text.partition("## Variables")[2].partition("## ")[0]
    names = [
        name for row in table.splitlines() if "the same, or" in row for name in re.findall(r"`(MERCURE_\w+)`", row)
    ]
    assert len(names) == 5
    values = {name: "HS256" if name.endswith("ALG") else "v" * 32 for name in names}
    command = [hubs.petasos()[0], "config", "--show"]
    shown = subprocess.run(command, env=values, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
    assert [name for name in names if name not in shown] == []
