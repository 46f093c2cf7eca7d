"""The embedded hub's routes: each request is passed to the hub in this process, over a pair of sockets.

The hub decides every question of the protocol. This module writes the request as the client sent it, and turns the
head of the hub's answer into a response of Flask. A short answer is read whole. A stream leaves the server
(``handover``), or a thread of the server copies it (``relay``).
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
from collections.abc import Callable
from http.client import parse_headers
from typing import Any, Final, NoReturn
from urllib.parse import quote, unquote_to_bytes, urlsplit

from flask import Blueprint, Flask, Response, abort, current_app, request, request_started
from flask.blueprints import BlueprintSetupState
from werkzeug.routing import Rule

from .body import keep_body, whole_body
from .embedded import EmbeddedHub
from .errors import MercureError
from .event_source import come_back, is_event_source
from .handover import stream_response
from .hosts import request_host
from .relay import relay
from .servers import Unreachable, client_number, is_named, why_blocked
from .state import MercureSSEState
from .urls import links
from .values import HUB_PATH

_METHODS: Final = {"GET", "HEAD", "QUERY", "OPTIONS", "PUT", "PATCH", "DELETE"}

METADATA_PATH: Final = "/.well-known/oauth-protected-resource" + HUB_PATH
"""Where a hub that knows its public URL describes itself (RFC 9728)."""

# Headers of a request that belong to its connection, or that are written again for the hub.
_HOP_BY_HOP: Final = frozenset(
    (
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)

# Headers of an answer that the WSGI server writes itself.
_WRITTEN_BY_THE_SERVER: Final = frozenset(("connection", "date", "keep-alive", "transfer-encoding"))

_PART_BYTES: Final = 64 * 1024
"""How many bytes are read at once."""

hub_blueprint = Blueprint("mercure_hub", __name__)
"""The routes of the embedded hub. Their endpoints are ``mercure_hub.subscribe``, ``mercure_hub.publish``,
``mercure_hub.get_subscriptions`` and ``mercure_hub.metadata``."""


class _EmbeddedRule(Rule):
    """Matches while the application uses its embedded hub. Otherwise the application's other rules for the path
    match."""

    def __init__(self, path: str, endpoint: str, methods: set[str], is_embedded: Callable[[], bool]) -> None:
        self._methods, self._is_embedded = methods, is_embedded
        super().__init__(path, endpoint=f"{hub_blueprint.name}.{endpoint}", methods=methods)

    # Werkzeug compares this attribute with the method of each request.
    @property
    def methods(self) -> set[str]:
        return self._methods if self._is_embedded() else set()

    @methods.setter
    def methods(self, _: Any) -> None:
        pass


@hub_blueprint.record
def _add_rules(setup: BlueprintSetupState) -> None:
    app, post = setup.app, {"POST"}

    def is_embedded() -> bool:
        return _embedded_hub(app).is_used

    for path, endpoint, methods in (
        (HUB_PATH, "subscribe", _METHODS),
        (HUB_PATH, "publish", post),
        (HUB_PATH + "/<path:rest>", "get_subscriptions", _METHODS | post),
        (METADATA_PATH, "metadata", _METHODS | post),
    ):
        rule = _EmbeddedRule(path, endpoint, methods, is_embedded)
        app.url_map.add(rule)
        app.view_functions[rule.endpoint] = hub
    request_started.connect(_begin, app)


def _state(app: Any) -> MercureSSEState:
    state: MercureSSEState = app.extensions["mercure_sse"]
    return state


def _embedded_hub(app: Any) -> EmbeddedHub:
    return _state(app).embedded


def hub(rest: str = "") -> Response:
    """Pass a request to the embedded hub and return its answer. The view function of all routes."""
    embedded = _embedded_hub(current_app)
    request_host()
    may_pass_client = False
    if request.method in ("GET", "QUERY") and request.path == HUB_PATH:
        may_pass_client = _may_pass_client()
        if embedded.shared_transport is None:
            _warn_of_workers()
    # The whole body is read before the hub gets the request, because the hub does not wait long for it.
    message = _request(*whole_body())
    try:
        connection = embedded.connect(may_pass_client=may_pass_client)
    except MercureError as error:
        _refuse_for_now(str(error))
    try:
        connection.setblocking(True)
        # A hub that refuses early stops reading, so sending fails; its answer can be read all the same.
        with contextlib.suppress(ConnectionError):
            connection.sendall(message)
        status, headers, body = _answer_head(connection)
    except BaseException:
        connection.close()
        raise
    sized = "content-length" in (name.lower() for name, _ in headers)
    if sized or request.method == "HEAD" or status in (204, 304):
        with connection, contextlib.suppress(ConnectionError):
            while part := connection.recv(_PART_BYTES):
                body += part
        if status in (400, 401):
            # The URL of this hub in pages. The doctor sees by it which scheme and host the proxy passes on.
            headers.extend(("Link", link) for link in links(_state(current_app), None))
        return Response(body, status, headers)
    if may_pass_client:
        embedded.worker_watch.ensure(request.environ)
        return stream_response(connection, request.environ, headers)
    response = Response(relay(body, connection, request.environ), status, headers)
    response.call_on_close(connection.close)
    return response


def _may_pass_client() -> bool:
    """Whether the client's socket can be passed to the hub. If not, a thread or a greenlet of the server carries the
    stream. A server that has none for it refuses the subscriber."""
    environ = request.environ
    try:
        client_number(environ)
    except Unreachable as reason:
        problem = why_blocked(environ)
        if problem is not None:
            current_app.logger.error("The embedded Mercure hub refuses a subscriber: %s", problem)
            abort(503, problem)
        if is_named(environ) and _is_first("threads"):
            current_app.logger.warning(
                "%s: each stream of the embedded Mercure hub takes a thread or a greenlet of the server", reason
            )
        return False
    return True


def _warn_of_workers() -> None:
    if request.environ.get("wsgi.multiprocess") and _is_first("workers"):
        is_given = _state(current_app).settings.hub_transport is not None
        current_app.logger.warning(
            "The application runs in several processes, and each has an embedded Mercure hub of its own: a subscriber "
            "receives only what its own process publishes. %s, and the processes share a log.",
            "Remove MERCURE_HUB_TRANSPORT=memory:" if is_given else "Set MERCURE_HUB_TRANSPORT=host:///run/app",
        )


def _is_first(warning: str) -> bool:
    """Whether the warning of that name is the first of this process."""
    is_first = _warned_in.get(warning) != os.getpid()
    _warned_in[warning] = os.getpid()
    return is_first


_warned_in: Final[dict[str, int]] = {}


def _request(body: bytes, length: int | None) -> bytes:
    """The request as the client wrote it, but in HTTP/1.0: the answer has no chunks and ends when the hub closes."""
    lines = [f"{request.method} {_target(request.environ)} HTTP/1.0"]
    lines += [] if length is None else [f"Content-Length: {length}"]
    lines += [f"{name}: {value}" for name, value in request.headers if name.lower() not in _HOP_BY_HOP]
    if any("\r" in line or "\n" in line for line in lines):
        abort(400)
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _begin(app: Flask, **_: Any) -> None:
    """A receiver of Flask's signal ``request_started``."""
    if request.blueprint == hub_blueprint.name:
        _exempt_from_csrf_tokens(app)
        keep_body()


def _exempt_from_csrf_tokens(app: Flask) -> None:
    """Exempt the hub from Flask-WTF's CSRFProtect, which would refuse every publisher: a form to the hub has no token
    of a page.

    A page of another site cannot publish all the same. A browser adds no bearer token by itself, and a token in a
    cookie publishes only if the ``Origin`` of the request is the hub's own.
    """
    protection: Any = app.extensions.get("csrf")
    if type(protection).__module__.partition(".")[0] == "flask_wtf":
        protection.exempt(hub_blueprint)


def _refuse_for_now(reason: str) -> NoReturn:
    if is_event_source(request):
        abort(come_back(reason))
    abort(503, reason)


def _target(environ: dict[str, Any]) -> str:
    """Path and query as the client encoded them: a topic in the path may hold encoded slashes."""
    # Werkzeug and uWSGI have REQUEST_URI, gunicorn has RAW_URI. Either may be an absolute URL.
    raw: str = environ.get("REQUEST_URI") or environ.get("RAW_URI") or ""
    path = raw.partition("?")[0]
    if not path.startswith("/"):
        path = urlsplit(path).path
    # If the application is mounted under a prefix, the path begins with the prefix, unless a proxy has removed it.
    path = path[max(path.find("/.well-known/"), 0) :]
    decoded: bytes = environ["PATH_INFO"].encode("latin-1")
    if unquote_to_bytes(path) != decoded:
        # The server has only the decoded path: encoded slashes of a topic are lost, everything else can be encoded
        # again.
        path = quote(decoded)
    query: str = environ.get("QUERY_STRING", "")
    return f"{path}?{query}" if query else path


def _answer_head(connection: socket.socket) -> tuple[int, list[tuple[str, str]], bytes]:
    """Read the head of the hub's answer: status, headers, and the bytes of the body that arrived with them."""
    head = b""
    while b"\r\n\r\n" not in head:
        part = connection.recv(_PART_BYTES)
        if not part:
            _refuse_for_now("The embedded hub ended before it answered.")
        head += part
    head, _, body = head.partition(b"\r\n\r\n")
    status_line, _, fields = head.partition(b"\r\n")
    headers = parse_headers(io.BytesIO(fields + b"\r\n\r\n"))
    return (
        int(status_line[9:12]),
        [item for item in headers.items() if item[0].lower() not in _WRITTEN_BY_THE_SERVER],
        body,
    )
