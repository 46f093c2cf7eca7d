"""Clients that know nothing of the hub and of the extension: HTTP, event streams and tokens by hand."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import ssl
from contextlib import closing
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

PATIENCE = 60.0
"""Seconds that nothing takes, also on a busy machine; a test that needs them has failed."""

HUB_PATH = "/.well-known/mercure"
SECRET = "a secret of more than thirty-two bytes"
HEADER = b'{"alg":"HS256"}'


def _connection(parts: SplitResult, timeout: float, tls: ssl.SSLContext | None) -> http.client.HTTPConnection:
    if parts.scheme == "https":
        return http.client.HTTPSConnection(parts.netloc, timeout=timeout, context=tls)
    return http.client.HTTPConnection(parts.netloc, timeout=timeout)


class Stream:
    """An open event stream: parses events as a browser does."""

    def __init__(
        self,
        url: str,
        headers: dict[str, str] | None = None,
        timeout: float = PATIENCE,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(url)
        self.connection = _connection(parts, timeout, tls)
        try:
            self.connection.request("GET", f"{parts.path}?{parts.query}", headers=headers or {})
            self.response = self.connection.getresponse()
        except BaseException:
            self.connection.close()
            raise
        self.status = self.response.status
        self.headers = self.response.headers

    def event(self) -> dict[str, str]:
        """The next event: its fields, the lines of data joined. What the hub says before all events is left out."""
        fields: dict[str, str] = {}
        while True:
            line = self.response.readline().decode()
            if not line:
                raise EOFError("the stream has ended")
            name, _, value = line.rstrip("\n").partition(":")
            if line == "\n":
                if "data" in fields:
                    return fields
            elif name and (fields or name != "retry"):
                value = value.removeprefix(" ")
                fields[name] = f"{fields[name]}\n{value}" if name in fields else value

    def first_bytes(self) -> bytes:
        """The line before all events."""
        return self.response.readline()

    def opens(self) -> bool:
        """Waits for the first line. False: it does not say how long to wait before connecting again."""
        return self.first_bytes().startswith(b"retry: ")

    def close(self) -> None:
        self.response.close()
        self.connection.close()


class Request:
    """One request and its whole answer."""

    def __init__(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        form: list[tuple[str, str]] | bytes | None = None,
        timeout: float = PATIENCE,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        parts = urlsplit(url)
        body = urlencode(form).encode() if isinstance(form, list) else form
        headers = dict(headers or {})
        if isinstance(form, list):
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        with closing(_connection(parts, timeout, tls)) as connection:
            connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path, body, headers)
            with connection.getresponse() as response:
                self.status, self.headers, self.body = response.status, response.headers, response.read()


class Token:
    """Signs and opens HS256 tokens without the code under test."""

    @staticmethod
    def sign(claims: dict[str, Any], key: str | bytes = SECRET, header: dict[str, str] | None = None) -> str:
        def encode(raw: bytes) -> str:
            return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

        key = key.encode() if isinstance(key, str) else key
        first = json.dumps(header).encode() if header else HEADER
        head = f"{encode(first)}.{encode(json.dumps(claims).encode())}"
        return f"{head}.{encode(hmac.new(key, head.encode(), hashlib.sha256).digest())}"

    @staticmethod
    def claims(token: str, key: str | bytes = SECRET) -> dict[str, Any]:
        key = key.encode() if isinstance(key, str) else key
        head, _, signature = token.rpartition(".")
        expected = base64.urlsafe_b64encode(hmac.new(key, head.encode(), hashlib.sha256).digest()).rstrip(b"=").decode()
        assert hmac.compare_digest(signature, expected), "the token was signed with another key"
        body = head.split(".")[1]
        claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        return claims

    @staticmethod
    def bearer(
        *, subscribe: list[str] | None = None, publish: list[str] | None = None, key: str = SECRET
    ) -> dict[str, str]:
        claim = {"subscribe": subscribe, "publish": publish}
        return {"Authorization": f"Bearer {Token.sign({'mercure': claim}, key)}"}
