"""The numbers of docs/tuning.md: its script has the same, and what can be counted is counted on the wire."""

import re
import socket
from urllib.parse import urlsplit

from documents import DOCS, Document

SCRIPT = (DOCS / "site" / "js" / "calculator.js").read_text(encoding="utf-8")
PAGE = Document("tuning")


def number(name):
    (found,) = re.findall(rf"^  {name}: ([\d.e-]+),", SCRIPT, re.MULTILINE)
    return float(found)


def test_the_formulas_of_the_page_are_those_of_its_script():
    formulas = PAGE.text.partition("| What | Formula |")[2].partition("\n\n")[0]
    for text, name, factor in (
        (r"(\d+) MB \+", "hubBytes", 1e6),
        (r". (\d+) KB\. Grants", "streamBytes", 1e3),
        (r". (\d+) KB \|", "socketBytes", 1e3),
        (r"`rate` . (\d+) µs", "deliverySeconds", 1e-6),
        (r"one in (\d+) seconds", "aliveEvery", 1),
        (r"also (\d+) µs", "aliveSeconds", 1e-6),
        (r"÷ 3,600 . (\d+) µs", "connectSeconds", 1e-6),
        (r"\(`bytes` \+ (\d+) \+", "eventBytes", 1),
        (r"\+ (\d+)\) . 8 bit", "packetBytes", 1),
        (r"\(`bytes` \+ (\d+)\),", "logBytes", 1),
    ):
        (written,) = re.findall(text, formulas)
        assert abs(int(written) * factor - number(name)) < 1e-9 * factor, name


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
