"""Proxies with the configurations of deploy/, on free ports, in front of one node or two."""

from __future__ import annotations

import os
import re
import subprocess
from contextlib import ExitStack
from pathlib import Path

from clients import HUB_PATH
from hubs import ROOT
from ports import Port
from servers import ServerProcess, needs

DEPLOY = ROOT / "deploy"
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


class Proxy:
    """A proxy in a process of its own. Lines of its configuration may be replaced."""

    program: str
    configuration: Path
    ready: str
    """What it writes when it accepts connections."""

    def __init__(self, directory: Path, nodes: list[str], replaced: dict[str, str] | None = None) -> None:
        needs(self.program)
        with ExitStack() as stack:
            self.port, self.secure_port = (stack.enter_context(Port()) for _ in range(2))
            text = self.configuration.read_text()
            node_lines = {f"petasos{number}:5500": node for number, node in enumerate([*nodes, nodes[0]][:2], start=1)}
            for old, new in {**self.lines(directory), **node_lines, **(replaced or {})}.items():
                assert old in text, old
                text = text.replace(old, new)
            stack.callback(ServerProcess(self.start(directory, text), self.ready).kill)
            self._stack = stack.pop_all()
        self.url = f"http://{self.port}{HUB_PATH}"
        """The hub, without TLS."""
        self.secure_url = f"https://{HOST}:{self.secure_port.number}{HUB_PATH}"
        """The hub, with TLS, and HTTP/2 for those who speak it."""

    def lines(self, directory: Path) -> dict[str, str]:
        """What the configuration has for ports, certificates and folders, and what stands for it here."""
        raise NotImplementedError

    def start(self, directory: Path, text: str) -> list[str]:
        """Writes the configuration; the command."""
        raise NotImplementedError

    def close(self) -> None:
        self._stack.close()


class Nginx(Proxy):
    program, configuration, ready = "nginx", DEPLOY / "nginx.conf", "start worker process"

    def lines(self, directory: Path) -> dict[str, str]:
        public, private = certificate(directory)
        return {
            "listen 80;": f"listen {self.port};",
            "listen 443 ssl http2;": f"listen {self.secure_port} ssl http2;",
            "/etc/nginx/certificates/hub.crt": str(public),
            "/etc/nginx/certificates/hub.key": str(private),
        }

    def start(self, directory: Path, text: str) -> list[str]:
        # A Unix socket of a test is in a directory of the test's user.
        main = "user root root; " if os.getuid() == 0 else ""
        main += "daemon off; pid nginx.pid; error_log stderr notice; events {} http { access_log off;"
        paths = "".join(f"{kind}_temp_path {kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (directory / "nginx.conf").write_text(f"{main} {paths}\n{text}\n}}")
        return ["nginx", "-p", str(directory), "-c", "nginx.conf", "-e", "stderr"]

    @staticmethod
    def comes_back_after(milliseconds: int) -> dict[str, str]:
        """The lines to replace so that every browser comes back after this time while no node answers."""
        shares = re.search(r"split_clients .*?\{(.*?)\}", Nginx.configuration.read_text(), re.DOTALL)
        assert shares is not None
        return {shares[1]: f" * {milliseconds}; "}


class Caddy(Proxy):
    program, configuration, ready = "caddy", DEPLOY / "Caddyfile", "serving initial configuration"

    def lines(self, directory: Path) -> dict[str, str]:
        return {"lb_try_duration 2s": "lb_try_duration 100ms"}

    def start(self, directory: Path, text: str) -> list[str]:
        file = directory / "Caddyfile"
        public, private = certificate(directory)
        site, plain = "hub.example.com {", text.replace("hub.example.com", f"http://{self.port}")
        # Its own certificate would come from outside.
        secure = text.replace(site, f"https://{HOST}:{self.secure_port.number} {{\n\ttls {public} {private}")
        # At other addresses, the ports may be somebody else's.
        options = f"admin off\n\tauto_https off\n\tdefault_bind {self.port.host}"
        file.write_text(f"{{\n\t{options}\n}}\n{plain}\n{secure}")
        folders = [f"XDG_CONFIG_HOME={directory}", f"XDG_DATA_HOME={directory}"]
        return ["env", *folders, "caddy", "run", "--adapter", "caddyfile", "--config", str(file)]


class HAProxy(Proxy):
    program, configuration, ready = "haproxy", DEPLOY / "haproxy.cfg", "Loading success"

    def lines(self, directory: Path) -> dict[str, str]:
        public, private = certificate(directory)
        both = directory / "hub.pem"
        both.write_text(public.read_text() + private.read_text())
        return {
            "maxconn 20000": "maxconn 100",
            "bind :80": f"bind {self.port}",
            "bind :443": f"bind {self.secure_port}",
            "/etc/haproxy/hub.pem": str(both),
        }

    def start(self, directory: Path, text: str) -> list[str]:
        file = directory / "haproxy.cfg"
        file.write_text(text)
        return ["haproxy", "-W", "-db", "-f", str(file)]


class Apache(Proxy):
    program, configuration, ready = "apache2", DEPLOY / "apache.conf", "resuming normal operations"
    modules = (
        "mpm_event authz_core proxy proxy_http proxy_balancer lbmethod_byrequests slotmem_shm ssl http2 headers asis"
    )

    def lines(self, directory: Path) -> dict[str, str]:
        public, private = certificate(directory)
        (directory / "away.asis").write_text((DEPLOY / "away.asis").read_text())
        return {
            "/etc/apache2/hub.crt": str(public),
            "/etc/apache2/hub.key": str(private),
            "/var/www/hub-away": str(directory),
        }

    def start(self, directory: Path, text: str) -> list[str]:
        main = [f"ServerRoot {directory}", f"PidFile {directory}/pid", "ErrorLog /dev/stderr", f"ServerName {HOST}"]
        main += [f"DefaultRuntimeDir {directory}", f"Listen {self.port}", f"Listen {self.secure_port}", "User nobody"]
        folder = "/usr/lib/apache2/modules"
        main += [
            f"LoadModule {name}_module {folder}/mod_{name}.so" for name in f"{self.modules} alias setenvif".split()
        ]
        secure = text.replace("*:443", f"*:{self.secure_port.number}")
        plain = text.replace("*:443", f"*:{self.port.number}").replace("SSLEngine on", "SSLEngine off")
        file = directory / "apache.conf"
        file.write_text("\n".join([*main, plain, secure]))
        return ["apache2", "-f", str(file), "-DFOREGROUND"]


PROXIES = {proxy.__name__: proxy for proxy in (Nginx, Caddy, HAProxy, Apache)}
