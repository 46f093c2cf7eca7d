"""A host on which examples/production is installed: nginx, gunicorn and what systemd does for it.

Only names that belong to the machine are replaced: paths, ports, the host and its certificate."""

from __future__ import annotations

import getpass
import http.client
import json
import os
import re
import shlex
import shutil
import socket
import ssl
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import hubs
from clients import HUB_PATH, PATIENCE, Stream
from ports import Port
from proxies import certificate
from servers import ServerProcess, needs

EXAMPLE = hubs.ROOT / "examples" / "production"
SECRET = "5f6c1d6e8f0a4b7c9d2e3f405162738495a6b7c8d9e0f1a2b3c4d5e6f7081920"

AS_SYSTEMD = """
import os, sys

os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Passes a socket to a program: it is the fourth file, and the program has the number that is named."""


class Unit:
    """A unit of systemd: its settings, of which some may be given several times."""

    def __init__(self, text):
        self.settings = re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE)

    def all(self, name):
        return [value for key, value in self.settings if key == name]

    def one(self, name):
        (value,) = self.all(name)
        return value


class Host:
    """A host on which the example is installed, below a folder."""

    def __init__(self, replaced=None):
        """replaced: more texts of the files, and what stands there instead."""
        with ExitStack() as stack:
            # Not pytest's directory: the path of a Unix socket must be short.
            self.folder = Path(
                stack.enter_context(TemporaryDirectory(prefix="production-", ignore_cleanup_errors=True))
            )
            self.plain, self.secure = (stack.enter_context(Port()) for _ in range(2))
            self._stack = stack.pop_all()
        self.origin = f"https://localhost:{self.secure.number}"
        self.certificate, key = certificate(self.folder)
        self.replaced = {
            "/run/app": f"{self.folder}/run/app",
            "/srv/app/venv/bin/": f"{Path(sys.executable).parent}/",
            "/srv/app": f"{self.folder}/app",
            "/etc/app.env": f"{self.folder}/app.env",
            "/etc/nginx/certificates/example.com.crt": str(self.certificate),
            "/etc/nginx/certificates/example.com.key": str(key),
            "listen 80;": f"listen {self.plain};",
            "listen 443 ": f"listen {self.secure} ",
            "example.com": "localhost",
            **(replaced or {}),
        }
        shutil.copytree(EXAMPLE, self.folder / "app")
        for path in (self.folder / "app").glob("*.*"):
            path.write_text(self.here(path.read_text()))
        (self.folder / "app.env").write_text(f"SECRET_KEY={SECRET}\nTRUSTED_HOSTS=localhost\n")
        self.service, self.socket_unit = (
            Unit((self.folder / "app" / f"app.{kind}").read_text()) for kind in ("service", "socket")
        )
        self.nginx = self.app = None

    def here(self, text):
        for old, new in self.replaced.items():
            text = text.replace(old, new)
        return text

    @property
    def environment(self):
        files = [Path(name).read_text().split() for name in self.service.all("EnvironmentFile")]
        given = [*self.service.all("Environment"), *(line for lines in files for line in lines)]
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return {**inherited, **dict(each.split("=", 1) for each in given)}

    def start(self):
        """As systemd does: it makes the folder, listens, and passes the socket."""
        runtime = self.folder / "run" / self.service.one("RuntimeDirectory")
        runtime.mkdir(mode=int(self.service.one("RuntimeDirectoryMode"), 8), parents=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self._stack.callback(self.listener.close)
        self.listener.bind(self.socket_unit.one("ListenStream"))
        self.listener.listen(4096)
        self.start_app()
        self.start_nginx()

    def start_app(self):
        number = self.listener.fileno()
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        start = ["env", "-i", *variables, sys.executable, "-c", AS_SYSTEMD, str(number)]
        command = [*start, *shlex.split(self.service.one("ExecStart"))]
        folder = Path(self.service.one("WorkingDirectory"))
        self.app = ServerProcess(command, "Booting worker", folder, pass_fds=(number,))
        self._stack.callback(self.app.kill)

    def start_nginx(self):
        needs("nginx")
        paths = "".join(f"{kind}_temp_path {kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        # The socket is for the user of this test.
        user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
        main = f"{user} daemon off; pid nginx.pid; error_log stderr notice; events {{}} http {{ access_log off;"
        text = (self.folder / "app" / "nginx.conf").read_text()
        (self.folder / "nginx.conf").write_text(f"{main} {paths}\n{text}\n}}")
        command = ["nginx", "-p", str(self.folder), "-c", "nginx.conf", "-e", "stderr"]
        self.nginx = ServerProcess(command, "start worker process")
        self._stack.callback(self.nginx.kill)

    def request(self, method, path, body=None):
        context = ssl.create_default_context(cafile=str(self.certificate))
        connection = http.client.HTTPSConnection("localhost", self.secure.number, timeout=PATIENCE, context=context)
        try:
            headers = {"Content-Type": "application/json"} if body is not None else {}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def publish(self, text):
        status, body = self.request("POST", "/news", {"text": text})
        assert status == 200, body
        return json.loads(body)

    def open(self, cursor=None):
        stream = SecureStream(self, cursor)
        self._stack.callback(stream.close)
        return stream

    def close(self):
        self._stack.close()


class SecureStream(Stream):
    """A stream of the page, over TLS."""

    def __init__(self, host, cursor):
        context = ssl.create_default_context(cafile=str(host.certificate))
        self.connection = http.client.HTTPSConnection(
            "localhost", host.secure.number, timeout=PATIENCE, context=context
        )
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": cursor} if cursor else {})}
        self.connection.request("GET", f"{HUB_PATH}?topic=/news", headers=headers)
        self.response = self.connection.getresponse()
        self.status, self.headers = self.response.status, self.response.headers
