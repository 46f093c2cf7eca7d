"""What TLS costs when the hub has it, when a proxy in front has it, and with the reference hub.

    python bench/tls_others.py target/release/petasos --reference .build/reference/v0

- plain: the hub without TLS
- own: the hub with TLS of its own
- nginx, Caddy: a proxy with TLS, and the hub behind it without; one worker of nginx
- reference: the reference hub with the TLS of Go's HTTP server, which is also Caddy's

All speak HTTP/1.1. Prints for each the memory of an idle stream, the processor time of a connection with its full
handshake and its stream, and that of a delivery. Memory and time are those of the proxy and the hub together. The
programs ``openssl``, ``nginx`` and ``caddy`` must be in the PATH; the reference hub is left out without ``--reference``
(``bench/compare.toml`` says how it is built).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from tls import TICKS, Hub, certificate, compare, parser

NGINX = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 40000;
pid {directory}/nginx.pid;
error_log stderr crit;
events {{ worker_connections 20000; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    upstream hub {{ server 127.0.0.1:{hub}; keepalive 16; }}
    server {{
        listen 127.0.0.1:{port} ssl{http2} backlog=4096;
        keepalive_requests 1000000000;
        ssl_certificate {directory}/cert.pem;
        ssl_certificate_key {directory}/key.pem;
        ssl_protocols TLSv1.2 TLSv1.3;
        location / {{
            proxy_pass http://hub;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_buffering off;
            proxy_read_timeout 1h;
        }}
    }}
}}
"""
CADDYFILE = """
{{
    admin off
    auto_https off
    servers {{
        protocols {protocols}
    }}
}}
https://localhost:{port} {{
    bind 127.0.0.1
    tls {directory}/cert.pem {directory}/key.pem
    reverse_proxy 127.0.0.1:{hub} {{
        flush_interval -1
    }}
}}
"""


class Front(Hub):
    """What clients connect to, with everything behind it."""

    def __init__(self, port: int, certificate: Path | None, processes: list[subprocess.Popen[str]]) -> None:
        self.port, self.processes = port, processes
        self.context = None
        if certificate is not None:
            self.context = ssl.create_default_context(cafile=str(certificate / "cert.pem"))

    @property
    def pids(self) -> Iterator[int]:
        waiting = [process.pid for process in self.processes]
        for pid in waiting:
            yield pid
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                waiting += [int(child) for child in children.read_text().split()]

    @property
    def seconds(self) -> float:
        """The processor time that they have used together."""
        stats = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in self.pids)
        return sum(int(fields[11]) + int(fields[12]) for fields in stats) / TICKS

    @property
    def kib(self) -> int:
        """The memory that they have together."""
        texts = (Path(f"/proc/{pid}/status").read_text() for pid in self.pids)
        return sum(int(text.partition("VmRSS:")[2].split()[0]) for text in texts)

    def close(self) -> None:
        for pid in [*self.pids]:
            os.kill(pid, signal.SIGKILL)
        for process in self.processes:
            process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def proxy(hub: Hub, directory: Path, name: str, text: str, command: list[str], http2: bool) -> Front:
    port = free_port()
    speaks = {"http2": " http2", "protocols": "h1 h2"} if http2 else {"http2": "", "protocols": "h1"}
    (directory / name).write_text(text.format(directory=directory, hub=hub.port, port=port, **speaks))
    environment = {**os.environ, "XDG_DATA_HOME": str(directory), "XDG_CONFIG_HOME": str(directory)}
    front = subprocess.Popen(command, text=True, env=environment, stderr=subprocess.DEVNULL)
    wait_for(port)
    return Front(port, directory, [hub.process, front])


def wait_for(port: int) -> None:
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)


def reference(binary: str, directory: Path) -> Front:
    database = directory / "updates.db"
    database.unlink(missing_ok=True)
    command = [binary, str(database), str(directory / "cert.pem"), str(directory / "key.pem")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return Front(int(process.stdout.readline().rpartition(":")[2]), directory, [process])


def fronts(arguments: argparse.Namespace, directory: Path, *, http2: bool) -> dict[str, Callable[[], Hub]]:
    def own(certificate: Path | None) -> Front:
        hub = Hub(arguments.binary, certificate)
        return Front(hub.port, certificate, [hub.process])

    def behind(name: str, text: str, *command: str) -> Front:
        return proxy(Hub(arguments.binary, None), directory, name, text, list(command), http2)

    nginx, caddyfile = str(directory / "nginx.conf"), str(directory / "Caddyfile")
    found: dict[str, Callable[[], Hub]] = {
        "plain": lambda: own(None),
        "own": lambda: own(directory),
        "nginx": lambda: behind("nginx.conf", NGINX, "nginx", "-c", nginx, "-e", "stderr"),
        "Caddy": lambda: behind("Caddyfile", CADDYFILE, "caddy", "run", "--config", caddyfile),
    }
    if arguments.reference is not None:
        found["reference"] = lambda: reference(arguments.reference, directory)
    return found


async def main() -> None:
    options = parser(__doc__, streams=200, seconds=5, rounds=3)
    options.add_argument("--reference", help="the reference hub of protocol 0.x")
    options.add_argument("--idle", type=int, default=2_000, help="streams on which nothing happens")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        certificate(directory)
        for kind, times in (await compare(fronts(arguments, directory, http2=False), arguments)).items():
            print(f"{kind:9} {median(times):.2f} us a delivery in the median")


if __name__ == "__main__":
    asyncio.run(main())
