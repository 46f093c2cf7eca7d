"""nginx with deploy/nginx.conf, on free ports."""

from __future__ import annotations

import re
import subprocess
from contextlib import ExitStack
from pathlib import Path

from clients import HUB_PATH
from hubs import ROOT
from ports import Port
from servers import ServerProcess, needs

CONFIGURATION = ROOT / "deploy" / "nginx.conf"
HOST = "localhost"
"""The name in the certificate."""


def certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate that this machine has signed itself, and its key."""
    certificate, key = directory / "hub.crt", directory / "hub.key"
    command = [needs("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}"]
    command += ["-out", str(certificate), "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


class Nginx:
    """In front of one node or two. Lines of the configuration may be replaced."""

    def __init__(self, directory: Path, nodes: list[str], replaced: dict[str, str] | None = None) -> None:
        needs("nginx")
        with ExitStack() as stack:
            port, secure_port = (stack.enter_context(Port()) for _ in range(2))
            public, private = certificate(directory)
            lines = {
                "listen 80;": f"listen {port};",
                "listen 443 ssl http2;": f"listen {secure_port} ssl http2;",
                "/etc/nginx/certificates/hub.crt": str(public),
                "/etc/nginx/certificates/hub.key": str(private),
                **{f"petasos{number}:5500": node for number, node in enumerate([*nodes, nodes[0]][:2], start=1)},
                **(replaced or {}),
            }
            server = CONFIGURATION.read_text()
            for old, new in lines.items():
                assert old in server
                server = server.replace(old, new)
            main = "daemon off; pid nginx.pid; error_log stderr notice; events {} http { access_log off;"
            paths = "".join(
                f"{kind}_temp_path {kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            )
            (directory / "nginx.conf").write_text(f"{main} {paths}\n{server}\n}}")
            command = ["nginx", "-p", str(directory), "-c", "nginx.conf", "-e", "stderr"]
            stack.callback(ServerProcess(command, "start worker process").stop)
            self._stack = stack.pop_all()
        self.url = f"http://{port}{HUB_PATH}"
        """The hub, with HTTP/1.1."""
        self.secure_url = f"https://{HOST}:{secure_port.number}{HUB_PATH}"
        """The hub, with TLS, and HTTP/2 for those who speak it."""

    def close(self) -> None:
        self._stack.close()


def comes_back_after(milliseconds: int) -> dict[str, str]:
    """The lines to replace so that every browser comes back after this time while no node answers."""
    shares = re.search(r"split_clients .*?\{(.*?)\}", CONFIGURATION.read_text(), re.DOTALL)
    assert shares is not None
    return {shares[1]: f" * {milliseconds}; "}
