"""The WSGI servers that applications run on: where a server keeps the client's socket, and whether a stream would block
it."""

from __future__ import annotations

import socket
from typing import Any, Final

from .greenlets import is_cooperative
from .worker import gunicorn_worker


class Unreachable(Exception):
    """The client's socket cannot be passed to the hub. The text says why, and begins with the server."""


def client_number(environ: dict[str, Any]) -> int:
    """The number of the descriptor under which the server has the client's socket.

    Raises:
        Unreachable: the server does not show the socket, or it writes something else to it than this answer alone.
    """
    name = server_name(environ)
    if environ.get("SERVER_PROTOCOL") not in ("HTTP/1.0", "HTTP/1.1"):
        raise Unreachable(f"{name} serves several requests on one connection (HTTP/2)")
    if "uwsgi.version" in environ:
        return _uwsgi_number()
    client = environ.get("gunicorn.socket") or environ.get("gunicorn.sock") or environ.get("werkzeug.socket")
    client = client or _pywsgi_socket(environ)
    if client is None:
        raise Unreachable(f"{name} does not show the socket of a client")
    # The ssl module of Python and that of gevent have classes of their own.
    if hasattr(client, "getpeercert"):
        raise Unreachable(f"{name} encrypts the connection (TLS)")
    try:
        is_stream = client.type == socket.SOCK_STREAM and client.family in _FAMILIES
        number: int = client.fileno()
    except (AttributeError, OSError):
        raise Unreachable(f"{name} shows something else than the socket of a client") from None
    if not is_stream or number < 0:
        raise Unreachable(f"{name} shows something else than the socket of a client")
    return number


_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


def _uwsgi_number() -> int:
    try:
        import uwsgi  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        raise Unreachable("uWSGI does not show the socket of a client") from None
    if any(option.startswith("https-socket") for option in map(_text, uwsgi.opt)):
        raise Unreachable("uWSGI encrypts the connection (TLS)")
    number: int = uwsgi.connection_fd()
    if number < 0:
        raise Unreachable("uWSGI does not show the socket of a client")
    return number


def _text(option: str | bytes) -> str:
    return option.decode(errors="replace") if isinstance(option, bytes) else option


def _pywsgi_socket(environ: dict[str, Any]) -> Any:
    """The socket under the file from which gevent's ``pywsgi`` reads the body of a request."""
    body = environ.get("wsgi.input")
    if not type(body).__module__.startswith("gevent."):
        return None
    raw = getattr(getattr(body, "rfile", None), "raw", None)
    return getattr(raw, "_sock", None)


def takes_chunks(environ: dict[str, Any]) -> bool:
    """Whether an answer may be in chunks: the client speaks HTTP/1.1, and the server speaks HTTP with whoever is at the
    other end of the socket."""
    if environ.get("SERVER_PROTOCOL") != "HTTP/1.1" or "uwsgi.version" in environ:
        return False
    # A proxy that speaks the protocol of uWSGI with gunicorn takes the answer as it is.
    protocol: str = getattr(getattr(gunicorn_worker(environ), "cfg", None), "protocol", "http")
    return protocol == "http"


def server_name(environ: dict[str, Any]) -> str:
    """For messages.

    >>> server_name({"SERVER_SOFTWARE": "gunicorn/27.0"})
    'gunicorn'
    """
    if "uwsgi.version" in environ:
        return "uWSGI"
    software: str = environ.get("SERVER_SOFTWARE", "")
    return software.partition("/")[0] or "the server"


def is_named(environ: dict[str, Any]) -> bool:
    """Whether the server says what it is. Test clients have no server."""
    return "SERVER_SOFTWARE" in environ or "uwsgi.version" in environ


def why_blocked(environ: dict[str, Any]) -> str | None:
    """Why an event stream would block the server, and the remedy. None: it serves several requests at a time."""
    if environ.get("wsgi.multithread", True) or is_cooperative():
        return None
    server = server_name(environ)
    remedy = _REMEDIES.get(server)
    if remedy is None:
        return None
    return (
        f"{server} serves one request at a time in a worker, and an event stream would keep it from all others: "
        f"{remedy}, or run the hub on its own (python -m flask_mercure_sse.server) and set MERCURE_HUB_URL."
    )


_REMEDIES: Final = {
    "gunicorn": "start it with --worker-class gthread --threads 100, or with --worker-class gevent",
    "Werkzeug": "start it with threads (threaded=True)",
    "gevent": "call gevent.monkey.patch_all() before everything else",
    "uWSGI": "start it with --enable-threads --threads 100",
}
