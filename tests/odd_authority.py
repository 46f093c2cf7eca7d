"""A certification authority whose answers a test decides. It looks at no name and believes everybody."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from base64 import urlsafe_b64decode
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from servers import needs

NAME = "hub.example.com"

# Status, headers, and content.
Given = tuple[int, dict[str, str], bytes]


class OddAuthority:
    """`answers`: by path, what it answers instead of what it should, or what makes that answer."""

    def __init__(self, directory: Path, answers: dict[str, Given | Callable[[OddAuthority], Given]]) -> None:
        self.answers, self.asked, self.told = answers, list[str](), dict[str, list[Any]]()
        self.place, self.ca, self.key = directory, directory / "authority.pem", directory / "authority.key"
        command = [needs("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        command += ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        command += ["-addext", "basicConstraints=critical,CA:FALSE", "-out", str(self.ca), "-keyout", str(self.key)]
        subprocess.run(command, check=True, capture_output=True)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.server.authority = self  # type: ignore[attr-defined]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.ca, self.key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://localhost:{self.server.server_address[1]}"
        self.directory = f"{self.url}/directory"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def issue(self) -> Given:
        """The certificate that was asked for last."""
        request, certificate = self.place / "request.der", self.place / "certificate.pem"
        request.write_bytes(decode(self.told["/finalize"][-1]["csr"]))
        command = [needs("openssl"), "x509", "-req", "-inform", "DER", "-in", str(request), "-days", "90"]
        command += ["-CA", str(self.ca), "-CAkey", str(self.key), "-copy_extensions", "copyall"]
        subprocess.run([*command, "-out", str(certificate)], check=True, capture_output=True)
        return 200, {}, certificate.read_bytes()

    def answer(self, path: str, content: bytes) -> Given:
        self.asked.append(path)
        if content and (payload := json.loads(content)["payload"]):
            self.told.setdefault(path, []).append(json.loads(decode(payload)))
        if path in self.answers:
            answer = self.answers[path]
            return answer(self) if callable(answer) else answer
        order: dict[str, Any] = {"identifiers": [{"type": "dns", "value": NAME}], "status": "ready"}
        order |= {"authorizations": [f"{self.url}/name"], "finalize": f"{self.url}/finalize"}
        if "/finalize" in self.asked:
            order |= {"status": "valid", "certificate": f"{self.url}/certificate"}
        urls = {"newNonce": "nonce", "newAccount": "account", "newOrder": "order", "revokeCert": "x", "keyChange": "x"}
        status, headers, document = {
            "/directory": (200, {}, {key: f"{self.url}/{place}" for key, place in urls.items()}),
            "/nonce": (200, {}, {}),
            "/account": (201, {"Location": f"{self.url}/account/1"}, {"status": "valid"}),
            "/account/1": (200, {}, {"status": "valid"}),
            "/order": (201, {"Location": f"{self.url}/order/1"}, order),
            "/order/1": (200, {}, order),
            "/name": (200, {}, {"identifier": order["identifiers"][0], "status": "valid", "challenges": []}),
            "/finalize": (200, {}, order),
        }.get(path, (404, {}, {}))
        return status, headers, json.dumps(document).encode()


def decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        said = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, headers, content = self.server.authority.answer(self.path, said)  # type: ignore[attr-defined]
        self.send_response(status)
        for name, value in {"Replay-Nonce": "bm9uY2U", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""
