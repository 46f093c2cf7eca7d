"""The embedded hub's routes: each request is passed to the hub in this process, over a pair of sockets.

The hub decides every question of the protocol. This module only carries HTTP: the request goes in as the client sent
it, the answer comes out as it arrives, and a client that closes its connection is noticed at once.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from http.client import parse_headers
from typing import IO, Any, Final, NoReturn
from urllib.parse import quote, unquote_to_bytes, urlsplit

from flask import Blueprint, Flask, Response, abort, current_app, json, request, request_started
from flask.blueprints import BlueprintSetupState
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES
from werkzeug.routing import Rule

from .embedded import EmbeddedHub
from .errors import MercureError
from .event_source import come_back, is_event_source
from .greenlets import is_cooperative
from .hosts import request_host
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

_BODY_BYTES_MAX: Final = 1024 * 1024
"""The longest body that the hub accepts. It refuses a longer one by its announced length, so the body is not read."""

_METHODS_WITH_BODY: Final = frozenset(("POST", "QUERY", "PUT", "PATCH"))

_BODY: Final = "flask_mercure_sse.body"
"""The key under which :func:`_keep_body` keeps the body in the environment of a request."""

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
    request_started.connect(_keep_body, app)


def _embedded_hub(app: Any) -> EmbeddedHub:
    embedded: EmbeddedHub = app.extensions["mercure_sse"].embedded
    return embedded


def hub(rest: str = "") -> Response:
    """Pass a request to the embedded hub and return its answer. The view function of all routes."""
    embedded = _embedded_hub(current_app)
    request_host()
    if request.method in ("GET", "QUERY") and request.path == HUB_PATH:
        _refuse_a_server_that_a_stream_would_block()
        if embedded.shared_transport is None:
            _warn_of_workers()
    # The whole body is read before the hub gets the request, because the hub does not wait long for it.
    message = _request(*_body())
    try:
        connection = embedded.connect()
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
        return Response(body, status, headers)
    response = Response(_events(body, connection, request.environ), status, headers)
    response.call_on_close(connection.close)
    return response


def _refuse_a_server_that_a_stream_would_block() -> None:
    server: str = request.environ.get("SERVER_SOFTWARE", "")
    if request.environ.get("wsgi.multithread", True) or is_cooperative():
        return
    if server.startswith("gunicorn"):
        remedy = "start it with --worker-class gthread --threads 100, or with --worker-class gevent"
    elif server.startswith("Werkzeug"):
        remedy = "start it with threads (threaded=True)"
    elif server.startswith("gevent"):
        remedy = "call gevent.monkey.patch_all() before everything else"
    elif "uwsgi.version" in request.environ:
        server, remedy = "uWSGI", "start it with --enable-threads --threads 100"
    else:
        return
    problem = (
        f"{server} serves one request at a time in a worker, and an event stream would keep it from all others: "
        f"{remedy}, or run the hub on its own (python -m flask_mercure_sse.server) and set MERCURE_HUB_URL."
    )
    current_app.logger.error("The embedded Mercure hub refuses a subscriber: %s", problem)
    abort(503, problem)


def _warn_of_workers() -> None:
    if request.environ.get("wsgi.multiprocess") and _warned_in.get("process") != os.getpid():
        _warned_in["process"] = os.getpid()
        current_app.logger.warning(
            "The application runs in several processes, and each has an embedded Mercure hub of its own: a subscriber "
            "receives only what its own process publishes. Give the processes one log (MERCURE_HUB_TRANSPORT, such as "
            "redis://localhost:6379), or run one hub for all of them (python -m flask_mercure_sse.server) and set "
            "MERCURE_HUB_URL, or use one process with threads."
        )


_warned_in: Final[dict[str, int]] = {}


def _request(body: bytes, length: int | None) -> bytes:
    """The request as the client wrote it, but in HTTP/1.0: the answer has no chunks and ends when the hub closes."""
    lines = [f"{request.method} {_target(request.environ)} HTTP/1.0"]
    lines += [] if length is None else [f"Content-Length: {length}"]
    lines += [f"{name}: {value}" for name, value in request.headers if name.lower() not in _HOP_BY_HOP]
    if any("\r" in line or "\n" in line for line in lines):
        abort(400)
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def _keep_body(app: Flask, **_: Any) -> None:
    """Read the body of a request to the hub before the application's ``before_request`` functions can read it.

    A function that reads ``request.form``, such as a check of CSRF tokens, consumes the body. The body cannot be made
    of the form again: files, bytes that are no UTF-8 and fields beyond a limit are missing in it. The application still
    finds its form. A receiver of Flask's signal ``request_started``.
    """
    if request.blueprint == hub_blueprint.name:
        _exempt_from_csrf_tokens(app)
        try:
            request.environ[_BODY] = _read_body()
        except HTTPException as refusal:
            # The view raises the refusal, unless the application answers before. The view must not read again: a server
            # that has reported once that a body is cut off returns the first part of it the next time.
            request.environ[_BODY] = refusal


def _exempt_from_csrf_tokens(app: Flask) -> None:
    """Exempt the hub from Flask-WTF's CSRFProtect, which would refuse every publisher: a form to the hub has no token
    of a page.

    A page of another site cannot publish all the same. A browser adds no bearer token by itself, and a token in a
    cookie publishes only if the ``Origin`` of the request is the hub's own.
    """
    protection: Any = app.extensions.get("csrf")
    if type(protection).__module__.partition(".")[0] == "flask_wtf":
        protection.exempt(hub_blueprint)


def _body() -> tuple[bytes, int | None]:
    """The body, unchanged, and its length. If it is too long for the hub: no bytes, and its length.

    Raises:
        HTTPException: the body is not complete, or something else has read it.
    """
    kept: tuple[bytes, int | None] | HTTPException | None = request.environ.get(_BODY)
    if isinstance(kept, HTTPException):
        raise kept
    return _read_body() if kept is None else kept


def _read_body() -> tuple[bytes, int | None]:
    if request.method not in _METHODS_WITH_BODY:
        return b"", None
    length = request.content_length
    if length is None and "HTTP_TRANSFER_ENCODING" in request.environ and not _ends_by_itself(request.environ):
        _refuse(411, "this server does not tell where a chunked body ends: send the body with a Content-Length")
    if length is not None and length > _BODY_BYTES_MAX:
        return b"", length
    try:
        body = request.get_data() if length is not None else _read_all(request.stream)
    except OSError:
        _refuse(400, "the body could not be read to its end")
    is_whole = len(body) == length if length is not None else bool(body) or not _was_read()
    if not is_whole:
        # A form without its last fields could be public where the whole is private.
        _refuse(
            400,
            "the body is not complete: either the client has not sent all of it, or something in the application has "
            "read it before the hub, such as a WSGI middleware",
        )
    return body, len(body)


def _read_all(stream: IO[bytes]) -> bytes:
    """Read a body of unknown length, at most one byte more than the hub accepts. A read may return less than asked."""
    parts, left = [], _BODY_BYTES_MAX + 1
    while left and (part := stream.read(min(left, _PART_BYTES))):
        parts.append(part)
        left -= len(part)
    body = b"".join(parts)
    # Other readers of the request find the body here.
    request.stream = io.BytesIO(body)
    return body


def _ends_by_itself(environ: dict[str, Any]) -> bool:
    return bool(environ.get("wsgi.input_terminated"))


def _was_read() -> bool:
    """Whether the form has been parsed, which consumes the body."""
    return "form" in vars(request._get_current_object()) and bool(request.form or request.files)  # type: ignore[attr-defined]


def _refuse_for_now(reason: str) -> NoReturn:
    if is_event_source(request):
        abort(come_back(reason))
    abort(503, reason)


def _refuse(status: int, detail: str) -> NoReturn:
    """Refuse a request as the hub does, with problem details (RFC 9457)."""
    problem = {"type": "about:blank", "title": HTTP_STATUS_CODES[status], "status": status, "detail": detail}
    abort(Response(json.dumps(problem), status, content_type="application/problem+json"))


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


def _events(first: bytes, connection: socket.socket, environ: dict[str, Any]) -> Iterator[bytes]:
    """The parts of an event stream as they arrive, until the hub ends the stream or the client closes its
    connection."""
    # Most servers notice a closed connection when a write fails, which may take two keep-alives. Where a server gives
    # access to the client's socket, the end of the connection is seen at once.
    client = environ.get("werkzeug.socket") or environ.get("gunicorn.socket")
    left = environ.get("waitress.client_disconnected")
    worker = _gunicorn_worker() if environ.get("SERVER_SOFTWARE", "").startswith("gunicorn") else None
    pause = _LOOK_SECONDS if worker is not None or left is not None else None
    part, last = first, float("inf")
    with connection, selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        if type(client) is socket.socket:
            selector.register(client, selectors.EVENT_READ)
        while True:
            if part:
                yield part
                part = b""
            ready = [key.fileobj for key, _ in selector.select(pause)]
            if left is not None and left():
                return
            if worker is not None and not worker.alive:
                # A worker that is about to end closes a stream once its subscriber has all that has arrived; the
                # subscriber reconnects to another worker. A stream that is never idle is closed after _LOOK_SECONDS.
                last = min(last, time.monotonic() + _LOOK_SECONDS)
                if connection not in ready or time.monotonic() >= last:
                    return
            if connection in ready:
                part = connection.recv(_PART_BYTES)
                if not part:
                    return
            elif client in ready and type(client) is socket.socket:
                if _has_left(client):
                    return
                # The client sends bytes that nothing reads, so its socket stays readable: it is not watched any more.
                selector.unregister(client)


_LOOK_SECONDS: Final = 1.0
"""How often an idle stream asks the server whether it is about to end, if the server can be asked."""


_workers: Final[dict[int, Any]] = {}


def _gunicorn_worker() -> Any:
    """The gunicorn worker of this process, whose ``alive`` turns false when it is about to end.

    gunicorn gives an application no reference to it, so it is looked for among all objects, once in a process.
    """
    if os.getpid() not in _workers:
        from gunicorn.workers.base import Worker  # type: ignore[import-untyped]

        # isinstance() would ask the application's proxy objects for their class, which runs their code.
        own = (each for each in gc.get_objects() if issubclass(type(each), Worker) and each.pid == os.getpid())
        _workers[os.getpid()] = next(own, None)
    return _workers[os.getpid()]


def _has_left(client: socket.socket) -> bool:
    try:
        return client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
