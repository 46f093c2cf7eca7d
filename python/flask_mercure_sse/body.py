"""The body of a request to the embedded hub, unchanged and whole."""

from __future__ import annotations

import io
from typing import IO, Any, Final, NoReturn

from flask import Response, abort, json, request
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES

_BODY_BYTES_MAX: Final = 1024 * 1024
"""The longest body that the hub accepts. It refuses a longer one by its announced length, so the body is not read."""

_METHODS_WITH_BODY: Final = frozenset(("POST", "QUERY", "PUT", "PATCH"))

_BODY: Final = "flask_mercure_sse.body"
"""The key under which :func:`keep_body` keeps the body in the environment of a request."""

_PART_BYTES: Final = 64 * 1024
"""How many bytes are read at once."""


def keep_body() -> None:
    """Read the body before the application's ``before_request`` functions can read it.

    A function that reads ``request.form``, such as a check of CSRF tokens, consumes the body. The body cannot be made
    of the form again: files, bytes that are no UTF-8 and fields beyond a limit are missing in it. The application still
    finds its form.
    """
    try:
        request.environ[_BODY] = _read_body()
    except HTTPException as refusal:
        # The view raises the refusal, unless the application answers before. The view must not read again: a server
        # that has reported once that a body is cut off returns the first part of it the next time.
        request.environ[_BODY] = refusal


def whole_body() -> tuple[bytes, int | None]:
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


def _refuse(status: int, detail: str) -> NoReturn:
    """Refuse a request as the hub does, with problem details (RFC 9457)."""
    problem = {"type": "about:blank", "title": HTTP_STATUS_CODES[status], "status": status, "detail": detail}
    abort(Response(json.dumps(problem), status, content_type="application/problem+json"))
