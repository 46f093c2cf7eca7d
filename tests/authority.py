"""A certification authority of this machine: Pebble, with a name server that says that every name leads here.

Both come from Go's module registry and are built here, when Go is there. Pebble keeps everything in memory."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
from functools import cache
from pathlib import Path
from urllib.request import urlopen

import pytest

import hubs
from ports import Port
from servers import ServerProcess

MODULE = "github.com/letsencrypt/pebble/v2"
VERSION = "v2.10.3"


@cache
def programs() -> tuple[Path, Path, Path]:
    """Pebble, its name server, and the directory of the certificate that it shows. Skips without Go."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("Go is not installed")
    with hubs.alone("pebble"):
        environment = {**os.environ, "GOBIN": str(hubs.BUILD), "GOFLAGS": "-trimpath", "CGO_ENABLED": "0"}
        commands = [f"{MODULE}/cmd/{name}@{VERSION}" for name in ("pebble", "pebble-challtestsrv")]
        subprocess.run([go, "install", *commands], env=environment, check=True)
        found = subprocess.run(
            [go, "mod", "download", "-json", f"{MODULE}@{VERSION}"], capture_output=True, text=True, check=True
        )
    certificates = Path(json.loads(found.stdout)["Dir"]) / "test" / "certs"
    return hubs.BUILD / "pebble", hubs.BUILD / "pebble-challtestsrv", certificates


class Authority:
    """Looks at names at these ports of this machine, and gives certificates that last so many seconds."""

    def __init__(
        self,
        directory: Path,
        tls_port: int,
        http_port: int = 1,
        lasts: int = 90 * 24 * 3600,
        nonce_reject: int = 0,
        external: dict[str, str] | None = None,
    ) -> None:
        pebble, names, certificates = programs()
        self.ca = certificates / "pebble.minica.pem"
        self.held = [Port() for _ in range(4)]
        own, management, name_server, unused = self.held
        self.directory = f"https://localhost:{own.number}/dir"
        self.management = f"https://localhost:{management.number}"
        self.settings = directory / "pebble.json"
        settings = {
            "listenAddress": str(own),
            "managementListenAddress": str(management),
            "certificate": str(certificates / "localhost" / "cert.pem"),
            "privateKey": str(certificates / "localhost" / "key.pem"),
            "httpPort": http_port,
            "tlsPort": tls_port,
            "externalAccountBindingRequired": external is not None,
            "externalAccountMACKeys": external or {},
            "domainBlocklist": ["refused.example.com"],
            "retryAfter": {"authz": 1, "order": 1},
            "profiles": {"default": {"description": "the only one", "validityPeriod": lasts}},
        }
        self.settings.write_text(json.dumps({"pebble": settings}))
        nothing = [part for name in ("http01", "https01", "doh", "tlsalpn01") for part in (f"-{name}", "")]
        nothing += ["-management", str(unused), "-defaultIPv6", ""]
        self.names = ServerProcess([str(names), *nothing, "-dnsserver", str(name_server)], "Starting management server")
        self.command = ["env", "PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0", f"PEBBLE_WFE_NONCEREJECT={nonce_reject}"]
        self.command += [str(pebble), "-config", str(self.settings), "-dnsserver", str(name_server)]
        self.start()

    def start(self) -> None:
        self.server = ServerProcess(self.command, "ACME directory available at")

    def stop(self) -> None:
        self.server.kill()

    @property
    def issued(self) -> int:
        """How many certificates it has given."""
        return sum("Issued certificate serial" in line for line in self.server.lines)

    def trust(self) -> ssl.SSLContext:
        """Trusts what it gives. Of the name, a test asks itself: the name leads here in its own name server only."""
        own = ssl.create_default_context(cafile=str(self.ca))
        with urlopen(f"{self.management}/roots/0", context=own) as answer:
            return ssl.create_default_context(cadata=answer.read().decode())

    def advise(self, certificate: str, start: str, end: str) -> None:
        """Advises to renew a certificate in that time."""
        own = ssl.create_default_context(cafile=str(self.ca))
        advice = json.dumps({"suggestedWindow": {"start": start, "end": end}})
        body = json.dumps({"Certificate": certificate, "ARIResponse": advice}).encode()
        with urlopen(f"{self.management}/set-renewal-info/", data=body, context=own) as answer:
            assert answer.status == 200

    def close(self) -> None:
        self.server.kill()
        self.names.kill()
        for port in self.held:
            port.close()
