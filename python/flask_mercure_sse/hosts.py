"""The host of the request in hub URLs, checked: a client can send any ``Host``, and hub URLs appear in pages and hold
tokens."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from flask import current_app, has_app_context, has_request_context, request
from werkzeug.exceptions import BadRequest
from werkzeug.wsgi import get_host

_HOST: Final = re.compile(r"([A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?")


def request_host() -> str:
    """The host and the port of the current request, checked.

    Flask checks TRUSTED_HOSTS itself from version 3.1 on. This function checks it with every version.

    Raises:
        SecurityError: TRUSTED_HOSTS does not list the host (400).
        BadRequest: the host is no host name (400).
    """
    trusted = request.trusted_hosts
    if trusted is None:
        trusted = current_app.config.get("TRUSTED_HOSTS")
    host = get_host(request.environ, trusted)
    if not _HOST.fullmatch(host):
        raise BadRequest("The Host header is no host name.")
    return host


def base_url(is_mounted: bool) -> str:
    """Scheme and host of the request. is_mounted: followed by the path under which the application is mounted.

    If SERVER_NAME is set, the host is SERVER_NAME, or the request's host if that is a subdomain of it, as in Flask's
    own URLs.

    Raises:
        BadRequest, SecurityError: as :func:`request_host`.
        RuntimeError: there is neither a request nor SERVER_NAME.
    """
    app = current_app if has_app_context() else None
    name: str | None = app.config.get("SERVER_NAME") if app is not None else None
    if has_request_context():
        scheme, host = request.scheme, request_host()
        if scheme not in ("http", "https"):
            raise BadRequest("The scheme is neither http nor https.")
        if name:
            name = name.removesuffix(":443" if scheme == "https" else ":80")
            host = host if host == name or host.endswith("." + name) else name
        return f"{scheme}://{host}" + (quote(request.script_root) if is_mounted else "")
    if app is not None and name:
        root: str = app.config["APPLICATION_ROOT"].rstrip("/") if is_mounted else ""
        return f"{app.config['PREFERRED_URL_SCHEME']}://{name}{quote(root)}"
    raise RuntimeError(
        "the hub is at the host of the request, and there is no request: call this in a view, or set SERVER_NAME or "
        "MERCURE_HUB_URL"
    )
