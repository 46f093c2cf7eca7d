"""The way of a stream from the hub to a browser, through every proxy: who buffers, compresses, cuts or drops what.

A stream is opened at the public URL, and updates are published to it. Nothing here knows which proxy there is.
"""

from __future__ import annotations

import http.client
import secrets
import ssl
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Final
from urllib.parse import quote, urlsplit

from ..errors import MercureError
from ..state import MercureSSEState
from . import address, clock
from .finding import Finding
from .trial import Trial, reason
from .wire import PATIENCE, Head, OpenStream, ask, negotiates_http_2

Progress = Callable[[float], None]
"""Called with the seconds for which a stream has been held, several times in a second."""

LATE_SECONDS: Final = 1.0
"""An update that takes longer from hub to browser waits somewhere. The way around the earth takes a third of it."""

_STEP_SECONDS: Final = 0.25
_KEEP_ALIVE_LATE_SECONDS: Final = 2.0

_NO_BUFFER: Final = (
    "switch buffering off for the hub's path (nginx: proxy_buffering off, and no proxy_ignore_headers "
    "X-Accel-Buffering); deploy/ has configurations"
)


class _StopError(Exception):
    """No further check makes sense."""


class _KeptBackError(Exception):
    """A stream does not begin."""


@dataclass
class Site:
    """The hub as browsers reach it."""

    state: MercureSSEState
    hub: str
    """The URL of the hub in pages."""
    seconds: float
    """How long a silent stream is held; 0: not at all."""
    progress: Progress

    def check(self) -> Iterator[Finding]:
        """Yield a finding for each thing that a proxy can do wrong. Ends early if no stream can be had."""
        try:
            yield from self._reach()
            trial = Trial.new(self.state, self.hub)
            credentials = yield from self._credentials(trial)
            yield from self._head(trial, credentials)
            with OpenStream(trial.url(self.hub), credentials) as stream:
                if stream.head() is None or not stream.wait_for(b"\n", PATIENCE):
                    raise _KeptBackError
                ids, slowest = yield from self._events(trial, stream)
                if ids:
                    yield from self._come_back(trial, credentials, ids)
                    # Some proxies keep back only answers whose first event follows the head at once.
                    yield self._promptness(len(ids), slowest)
                if self.seconds:
                    yield self._hold(stream)
        except _KeptBackError:
            yield self._silent()
        except _StopError:
            return
        except (OSError, http.client.HTTPException) as error:
            yield Finding(
                "problem",
                "site",
                f"the connection broke: {_name(error)}",
                "look into the logs of the proxy and of the application",
            )

    def _reach(self) -> Iterator[Finding]:
        try:
            head, body = ask(self.hub)
        except ssl.SSLCertVerificationError as error:
            yield Finding(
                "problem", "site", f"{self.hub}: {error.verify_message}", "browsers refuse the certificate: replace it"
            )
            raise _StopError from None
        except (OSError, http.client.HTTPException) as error:
            yield Finding(
                "problem", "site", f"no answer from {self.hub}: {_name(error)}", "start the site, or correct the URL"
            )
            raise _StopError from None
        refusal = self._refusal(head, body)
        if refusal is not None:
            yield refusal
            raise _StopError
        server = f" by {head.get('Server')}" if head.get("Server").isprintable() and head.get("Server") else ""
        yield Finding("ok", "site", f"{self.hub} answered{server} in {head.seconds * 1000:.0f} ms")
        # A hub elsewhere does not make the URL in pages.
        links = head.headers.get_all("Link", []) if self.state.embedded.is_used else []
        misnamed = address.check_proxy(links, self.hub)
        if misnamed is not None:
            yield misnamed
        yield from self._protocol()
        found = clock.check(head.get("Date"), datetime.now(timezone.utc))
        if found is not None:
            yield found

    def _refusal(self, head: Head, body: bytes) -> Finding | None:
        """Why the answer to a request without a topic is no hub's. None: it is."""
        if 300 <= head.status < 400:
            there = head.get("Location").partition("?")[0]
            return Finding(
                "problem",
                "site",
                f"{self.hub} is redirected to {there}",
                "let pages use the final URL (MERCURE_PUBLIC_HUB_URL, or pass https to this command); if it is a login "
                "page, exempt the hub: see docs/how-to/csrf.md",
            )
        if head.status == 401 and head.get("WWW-Authenticate").lower().startswith("basic"):
            return Finding(
                "problem",
                "site",
                f"{self.hub} wants a password (Basic), so no token reaches the hub in a header",
                "exempt the hub's path, or let the proxy remove Authorization and use cookies",
            )
        if head.status in (400, 401):
            return None
        if head.status in (502, 503, 504):
            return Finding(
                "problem",
                "site",
                f"{self.hub} answers {head.status}: the proxy does not reach the hub, or the hub its log",
                "start it, and look into the logs of both",
            )
        return Finding(
            "problem",
            "site",
            f"{self.hub} answers {head.status} to a request without a topic: it is no hub",
            "let the proxy pass the path on unchanged, or correct the URL",
        )

    def _protocol(self) -> Iterator[Finding]:
        parts = urlsplit(self.hub)
        is_secure = parts.scheme == "https"
        if is_secure and negotiates_http_2(self.hub):
            yield Finding("ok", "HTTP/2", "browsers have room for a hundred streams")
        elif is_secure or parts.hostname not in ("localhost", "127.0.0.1", "::1"):
            yield Finding(
                "warning",
                "HTTP/2",
                "HTTP/1.1 only: a browser opens six connections to a host, so the seventh tab with a stream waits",
                "switch HTTP/2 on in the proxy; browsers speak it over TLS",
            )

    def _credentials(self, trial: Trial) -> Generator[Finding, None, dict[str, str]]:
        """Find out which way a token takes. Returns the header fields of a subscriber."""
        if trial.token is None:
            yield Finding(
                "warning",
                "tokens",
                "the application has no key to sign with, so private updates are not tried",
                "set MERCURE_SUBSCRIBER_SECRET_KEY, or pass tokens that were signed elsewhere",
            )
            return {}
        # A hub that lets everybody in shows only by refusing a wrong token that it has got the token.
        wrong = self.state.authorization.sign("subscriber", secrets.token_hex(32), {"subscribe": [trial.topic]}, 60)
        name = self.state.settings.authz_cookie_name
        ways = {
            "the header Authorization": (
                {"Authorization": f"Bearer {trial.token}"},
                {"Authorization": f"Bearer {wrong}"},
            ),
            "cookies": ({"Cookie": f"{name}={trial.token}"}, {"Cookie": f"{name}={wrong}"}),
        }
        passing, refused = [], []
        for way, (right, other) in ways.items():
            statuses = self._status(trial, right), self._status(trial, other)
            if None in statuses:
                raise _KeptBackError
            if statuses == (200, 401):
                passing.append((way, right))
            refused.append(statuses)
        if not passing and all(right == 401 for right, _ in refused):
            yield Finding(
                "problem",
                "tokens",
                "the site refuses the application's subscribers (401)",
                "run this command with the configuration of the running application; hub elsewhere: with its key",
            )
            raise _StopError
        if not passing and any(right not in (200, 401) for right, _ in refused):
            yield self._no_stream(trial)
            raise _StopError
        lost = [way for way in ways if way not in [name for name, _ in passing]]
        if lost:
            yield Finding(
                "problem" if "cookies" in lost else "warning",
                "tokens",
                f"{' and '.join(lost)} do not reach the hub"
                if len(lost) > 1 or "cookies" in lost
                else f"{lost[0]} does not reach the hub: only browsers with a cookie receive private updates",
                "let the proxy pass Cookie and Authorization on",
            )
        else:
            yield Finding("ok", "tokens", "the hub gets them in the header Authorization and in cookies")
        return passing[0][1] if passing else {}

    def _status(self, trial: Trial, headers: dict[str, str]) -> int | None:
        with OpenStream(trial.url(self.hub), headers) as stream:
            head = stream.head()
        return None if head is None else head.status

    def _silent(self) -> Finding:
        return Finding(
            "problem",
            "buffering",
            f"no stream begins within {PATIENCE:g} s, though other requests are answered: a proxy keeps it back, or "
            "all threads of the server are taken by streams",
            _NO_BUFFER,
        )

    def _no_stream(self, trial: Trial) -> Finding:
        head, body = ask(trial.url(self.hub), {"Accept": "text/event-stream", **trial.headers()})
        is_text = head.get("Content-Type").startswith(("text/plain", "application/problem+json"))
        text = " ".join(body.decode(errors="replace").split())[:300] if is_text else ""
        text = text.replace(trial.token or "\0", "[token]")
        return Finding("problem", "stream", f"the answer is {head.status} {text}".rstrip(), "see its explanation")

    def _head(self, trial: Trial, credentials: dict[str, str]) -> Iterator[Finding]:
        with OpenStream(trial.url(self.hub), {**credentials, "Accept-Encoding": "gzip, deflate, br, zstd"}) as stream:
            head = stream.head()
        if head is None:
            raise _KeptBackError
        if head.status != 200 or not head.get("Content-Type").startswith("text/event-stream"):
            yield Finding(
                "problem",
                "stream",
                f"the answer is {head.status} {head.get('Content-Type')}, no event stream",
                "let the proxy pass the answer on unchanged",
            )
            raise _StopError
        encoding = head.get("Content-Encoding")
        if encoding and encoding != "identity":
            yield Finding(
                "warning",
                "compression",
                f"the stream is compressed ({encoding}): compressors keep events back and take memory",
                "do not compress text/event-stream (nginx: gzip_types; Flask-Compress: COMPRESS_MIMETYPES)",
            )
        else:
            yield Finding("ok", "compression", "the stream is not compressed")
        lost = [name for name in ("Cache-Control", "Mercure-Last-Event-ID") if not head.get(name)]
        if lost:
            yield Finding(
                "warning",
                "headers",
                f"{' and '.join(lost)} of the answer is missing: "
                + ("a cache may keep the stream" if "Cache-Control" in lost else "clients do not know where it began"),
                "let the proxy pass the header fields of the hub on (nginx: no proxy_hide_header)",
            )
        else:
            yield Finding("ok", "headers", "Cache-Control and Mercure-Last-Event-ID arrive")

    def _events(self, trial: Trial, stream: OpenStream) -> Generator[Finding, None, tuple[list[str], float]]:
        """Publish and wait. Returns the ids, if all have arrived, and the seconds that the slowest took."""
        ids, slowest, nothing = list[str](), 0.0, (list[str](), 0.0)
        if not trial.can_publish:
            yield Finding(
                "warning",
                "events",
                "nothing is published: the hub of the running application is out of reach, its log is in memory",
                "set MERCURE_HUB_TRANSPORT, such as host:///run/app",
            )
            return nothing
        for number in range(_EVENTS):
            try:
                event_id = trial.publish(f"flask mercure doctor {number}")
            except (MercureError, ValueError) as error:
                yield Finding("problem", "events", f"nothing can be published: {reason(error)}", "see the lines above")
                return nothing
            began = time.monotonic()
            if not stream.wait_for(event_id.encode(), PATIENCE):
                # A proxy that buffers gives away what it has once its buffer is full.
                trial.publish(_PADDING)
                if stream.wait_for(event_id.encode(), PATIENCE):
                    yield Finding(
                        "problem", "buffering", "an event arrives with later ones only: a proxy buffers", _NO_BUFFER
                    )
                else:
                    yield self._never_came()
                return nothing
            ids.append(event_id)
            slowest = max(slowest, time.monotonic() - began)
        return ids, slowest

    def _promptness(self, events: int, slowest: float) -> Finding:
        found = f"{events} events arrived, the slowest after {slowest * 1000:.0f} ms"
        if slowest > LATE_SECONDS:
            return Finding("problem", "buffering", f"{found}: a proxy keeps them back", _NO_BUFFER)
        return Finding("ok", "buffering", found)

    def _never_came(self) -> Finding:
        if self.state.embedded.is_used:
            change = (
                "run this command as the user and with the configuration of the running application, so that both have "
                "one log (MERCURE_HUB_TRANSPORT)"
            )
        else:
            change = "MERCURE_HUB_URL and the public URL must lead to the same hub, or to hubs with one log"
        found = f"the stream begins, but an update that was published from here does not arrive within {PATIENCE:g} s"
        return Finding("problem", "events", found, change)

    def _come_back(self, trial: Trial, credentials: dict[str, str], ids: list[str]) -> Iterator[Finding]:
        """Connect again after the first event, as a browser does."""
        url = trial.url(self.hub)
        parameter = "last_event_id" if self.state.settings.protocol == "1.0" else "lastEventID"
        if self._receives(url, {**credentials, "Last-Event-ID": ids[0]}, ids[1]):
            yield Finding("ok", "reconnection", "Last-Event-ID reaches the hub, which sends what was missed")
        elif self._receives(f"{url}&{parameter}={quote(ids[0], safe='')}", credentials, ids[1]):
            yield Finding(
                "problem",
                "reconnection",
                "the request header Last-Event-ID does not reach the hub: browsers that come back miss updates",
                "let the proxy pass it on",
            )
        else:
            yield Finding(
                "warning",
                "reconnection",
                "the hub keeps no history: browsers that come back miss updates",
                "embedded hub: MERCURE_HUB_RECONCILIATION_LENGTH; petasos: --history",
            )

    def _receives(self, url: str, headers: dict[str, str], event_id: str) -> bool:
        """Whether a new stream begins with an event.

        Raises:
            _KeptBackError: the stream does not begin.
        """
        with OpenStream(url, headers) as stream:
            if stream.head() is None:
                raise _KeptBackError
            return stream.wait_for(event_id.encode(), LATE_SECONDS)

    def _hold(self, stream: OpenStream) -> Finding:
        """Keep the stream open without publishing on it."""
        keep_alive = self.state.settings.hub_keepalive_interval if self.state.embedded.is_used else 15.0
        began = last = time.monotonic()
        longest, size = 0.0, len(stream.body)
        while (held := time.monotonic() - began) < self.seconds and not stream.has_ended:
            stream.wait_for(_NOTHING, min(_STEP_SECONDS, self.seconds - held))
            now = time.monotonic()
            if len(stream.body) > size:
                last, size = now, len(stream.body)
            longest = max(longest, now - last)
            self.progress(min(now - began, self.seconds))
        if stream.has_ended:
            return Finding(
                "problem",
                "idle time-out",
                f"the stream was cut after {held:.1f} s, {longest:.1f} s after its last byte",
                f"let proxies wait for longer than the keep-alive of the hub, {keep_alive:g} s (nginx: "
                "proxy_read_timeout 60s), or set MERCURE_HUB_KEEPALIVE_INTERVAL to less",
            )
        if keep_alive and longest > keep_alive + _KEEP_ALIVE_LATE_SECONDS:
            return Finding(
                "problem",
                "idle time-out",
                f"{longest:.0f} s of silence, though the hub sends a sign of life each {keep_alive:g} s",
                _NO_BUFFER,
            )
        if not keep_alive or self.seconds <= keep_alive:
            return Finding("ok", "idle time-out", f"the stream lasted for {self.seconds:g} s")
        return Finding("ok", "idle time-out", f"the stream lasted for {self.seconds:g} s, with signs of life")


_EVENTS: Final = 3
_PADDING: Final = "flask mercure doctor " * 6000
"""More than a proxy buffers for one answer: nginx has 64 KiB by default, and 8 KiB of it fill before it sends."""
_NOTHING: Final = b"\0"
"""A text that no event stream holds."""


def _name(error: Exception) -> str:
    return str(error) or type(error).__name__
