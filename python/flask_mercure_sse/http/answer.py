"""One request to a hub, and its whole answer."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from ..errors import (
    ForbiddenTopicError,
    HubError,
    HubTimeoutError,
    InvalidUpdateError,
    MercureError,
    TokenRefusedError,
)
from ..tokens import check_token, why_refused
from . import pool
from .deadline import limit


class Timeouts(NamedTuple):
    """How long a hub may take, in seconds."""

    connect: float = 2.0
    """Seconds to wait for a connection to a hub elsewhere. Short, so that a hub that is not running fails fast."""
    read: float = 10.0
    """Seconds to wait for the whole answer of a hub elsewhere."""


@dataclass(frozen=True)
class Answer:
    """The answer of a hub.

    >>> Answer(200, "text/plain", b"urn:uuid:1").body
    b'urn:uuid:1'
    """

    status: int
    content_type: str
    """The header, with its parameters; empty if the answer has none."""
    body: bytes
    location: str = ""
    """The header ``Location``; empty if the answer has none."""
    last_event_id: str | None = None
    """The id after which the answered stream begins, or before which the answered list was made. None: the hub has not
    said."""
    header_id: str = ""
    """The header ``X-Request-Id``; empty if the answer has none."""
    remark: str = ""
    """What is known about a refusal beside the hub's explanation."""

    def raise_for_status(self) -> None:
        """Raise the exception that the status means, with the hub's own explanation as its text.

        Raises:
            MercureError: the status is not 2xx. 400 and 413: InvalidUpdateError; 401: TokenRefusedError;
                403: ForbiddenTopicError; others: HubError.
        """
        if 200 <= self.status < 300:
            return
        explanation = str(self._problem().get("detail") or self._text() or f"the hub answered {self.status}")
        if self.location and 300 <= self.status < 400:
            explanation = f"the hub answered {self.status}: MERCURE_HUB_URL is {self.location.partition('?')[0]} now"
        if self.remark:
            explanation = f"{self.remark}: {explanation}"
        raise _ERRORS.get(self.status, HubError)(explanation, status=self.status, request_id=self.request_id)

    def error(self, explanation: str) -> HubError:
        """The error of an answer that is not what was asked for."""
        return HubError(explanation, status=self.status, request_id=self.request_id)

    @property
    def request_id(self) -> str | None:
        """The id of the request: the ``instance`` of a problem, else the header. None: there is none."""
        instance = self._problem().get("instance")
        return as_request_id(instance if isinstance(instance, str) else self.header_id)

    def _problem(self) -> dict[str, Any]:
        """The problem details of the answer (RFC 9457); empty if it has none."""
        if not self.content_type.startswith("application/problem+json"):
            return {}
        try:
            problem = json.loads(self.body.decode(errors="replace"))
        except ValueError:
            return {}
        return problem if isinstance(problem, dict) else {}

    def _text(self) -> str:
        """The explanation of other hubs, a line of text. A page of HTML explains nothing."""
        is_text = self.content_type.startswith("text/plain")
        return self.body.decode(errors="replace").strip()[:300] if is_text else ""


def as_request_id(text: str) -> str | None:
    """An id of a request, as far as a line of a log may have it. Proxies and clients may choose it."""
    return text if text and len(text) <= REQUEST_ID_MAX and text.isascii() and text.isprintable() else None


REQUEST_ID_MAX: Final = 200
"""Characters of a request's id. Ids of hubs and proxies have a fifth of that."""


_ERRORS: Final[Mapping[int, type[MercureError]]] = {
    400: InvalidUpdateError,
    401: TokenRefusedError,
    403: ForbiddenTopicError,
    413: InvalidUpdateError,
}


def request(
    method: str,
    url: str,
    *,
    token: str | None,
    body: bytes | None = None,
    content_type: str | None = None,
    last_event_id: str | None = None,
    through: socket.socket | None = None,
    timeouts: Timeouts = Timeouts(),  # noqa: B008 (a NamedTuple never changes)
) -> Answer:
    """Send one request to a hub and return its answer, whatever its status.

    Args:
        token: sent in the header ``Authorization``; None: no such header.
        last_event_id: sent in the header of that name; empty: asks for the newest id. None: no such header.
        through: a connected socket to use for this request, instead of a connection to the URL's host. It is closed.

    Raises:
        TokenRefusedError: the token holds characters that no token has; nothing was sent.
        HubUnreachableError: there is no connection; nothing was sent.
        HubTimeoutError: the answer was not complete in time.
        HubError: the connection broke, or the answer is not HTTP, or is longer than ANSWER_BYTES_MAX.
    """
    parts = urlsplit(url)
    headers = authorization(token)
    if content_type:
        headers["Content-Type"] = content_type
    if last_event_id is not None:
        headers["Last-Event-ID"] = header_of(last_event_id)
    # Some hubs answer HEAD with a stream, which lasts as long as its connection.
    lasts = through is None and method != "HEAD"
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    hub = (parts.scheme, parts.netloc)
    kept = pool.reuse(hub) if lasts else None
    connection = pool.through(through) if through else kept or pool.connect(*hub, timeouts.connect)
    limit(connection, timeouts.read)
    try:
        connection.request(method, target, body, headers)
        response = connection.getresponse()
        content = _read_body(response)
    except TimeoutError:
        connection.close()
        raise timed_out(parts, timeouts) from None
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        raise broken(parts, error, ": the hub may or may not have done what was asked for") from error
    except BaseException:
        # A time-out of gevent, for example: a late answer must not become the answer to the next request.
        connection.close()
        raise
    if response.will_close or not lasts:
        connection.close()
    else:
        pool.keep(hub, connection)
    return _without_token(response, content, token)


def read_answer(response: http.client.HTTPResponse, token: str | None) -> Answer:
    """Read the whole answer of a request that was sent with ``token``. The answer holds the token nowhere.

    Raises:
        OSError, http.client.HTTPException: the connection broke, or the body is longer than ANSWER_BYTES_MAX.
    """
    return _without_token(response, _read_body(response), token)


def authorization(token: str | None) -> dict[str, str]:
    """The headers that carry a token.

    >>> authorization("j.w.t"), authorization(None)
    ({'Authorization': 'Bearer j.w.t'}, {})

    Raises:
        TokenRefusedError: the token holds characters that no token has.
    """
    return {} if token is None else {"Authorization": f"Bearer {check_token(token)}"}


def timed_out(hub: SplitResult, timeouts: Timeouts) -> HubTimeoutError:
    """The error of an answer that is not complete in time."""
    return HubTimeoutError(f"no answer from {_name(hub)} within {timeouts.read:g} s")


def broken(hub: SplitResult, error: Exception, outcome: str = "") -> HubError:
    """The error of a connection that broke. outcome: text about the request, to be appended."""
    return HubError(f"{_name(hub)} broke the connection: {type(error).__name__}{outcome}")


def _name(hub: SplitResult) -> str:
    """The hub's URL without its query, which may hold a token."""
    return f"{hub.scheme}://{hub.netloc}{hub.path}"


def _without_token(response: http.client.HTTPResponse, content: bytes, token: str | None) -> Answer:
    location, remark = response.getheader("Location", ""), ""
    if token and response.status == 401:
        remark = why_refused(token)
    if token and not 200 <= response.status < 300:
        # Some servers quote the request in their explanation.
        content = content.replace(token.strip().encode(), b"[token]")
        location = location.replace(token.strip(), "[token]")
    return Answer(
        response.status,
        response.getheader("Content-Type", ""),
        content,
        location,
        position(response),
        response.getheader("X-Request-Id", ""),
        remark,
    )


def position(response: http.client.HTTPResponse) -> str | None:
    """Where a stream begins: the id of the update before its first event. For a list of subscriptions of protocol 1.0,
    where a stream should begin. None: the hub has not said."""
    # The header of protocol 1.0, which petasos sends in 0.x, too; other hubs of 0.x send the other header.
    header = response.getheader("Mercure-Last-Event-ID") or response.getheader("Last-Event-ID")
    linked = _LINKED_CURSOR.search(response.getheader("Link", ""))
    if not header and linked:
        header = re.sub(r"\\(.)", r"\1", linked[1])
    try:
        return header.encode("latin-1").decode() if header else None
    except UnicodeError:
        return None


_LINKED_CURSOR: Final = re.compile(r''';\s*last-event-id="((?:[^"\\]|\\.)*)"''')
"""A parameter of a ``Link`` header (section "Subscription API")."""


def header_of(text: str) -> str:
    """A text as the value of a header. Headers are bytes: http.client writes Latin-1, servers read UTF-8."""
    return text.encode().decode("latin-1")


def _read_body(response: http.client.HTTPResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    # The last part of the body may close the response.
    while not response.isclosed():
        part = response.read1(PART_BYTES)
        if not part:
            break
        parts.append(part)
        size += len(part)
        if size > ANSWER_BYTES_MAX:
            raise http.client.HTTPException(f"an answer of more than {ANSWER_BYTES_MAX} bytes")
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    # The body is complete, so the connection may carry the next request.
    response.close()
    return b"".join(parts)


PART_BYTES: Final = 64 * 1024
"""How many bytes of an answer are read at once."""

ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
"""The longest answer that is read: a list of some hundred thousand subscriptions."""
