"""The client for pages, ``petasos-client``, and its adapters: served by the application, so that no page needs npm.

The URL of a file has a digest of all files in it, so a browser may keep the file for ever. Every file has its hash in
the page (Subresource Integrity): what a proxy or a cache has changed is not run.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Final

from flask import Blueprint, Response, abort, request, url_for
from markupsafe import Markup

FOLDER: Final = Path(__file__).parent / "client"
"""The files, built from ``client/`` of the repository."""

CORE: Final = "petasos-client"
"""The name by which a module of a page imports the client, and its file's name without the ending."""

RENEW: Final = "renew"
"""Renews the cookie of the current user. No page names it: it is added to other adapters."""

_YEAR_SECONDS: Final = 365 * 24 * 3600

client_blueprint = Blueprint("mercure_client", __name__, url_prefix="/_mercure")
"""The route of the files. Its endpoint is ``mercure_client.static``."""


@client_blueprint.get("/<digest>/<file>", endpoint="static")
def serve(digest: str, file: str) -> Response:
    if file not in files():
        abort(404)
    response = Response((FOLDER / file).read_bytes(), mimetype="text/javascript")
    response.set_etag(files()[file].removeprefix("sha384-"))
    # A page of another version, during a deploy, gets the file of this version, and asks again the next time.
    is_kept = digest == folder_digest()
    response.headers["Cache-Control"] = f"public, max-age={_YEAR_SECONDS}, immutable" if is_kept else "no-cache"
    # Pages of other origins may import the files: they are the same for everybody.
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.make_conditional(request)
    return response


def client_url(file: str = f"{CORE}.js") -> str:
    """The URL of a file, as a path.

    Raises:
        ValueError: there is no such file.
        RuntimeError: there is no request, and the application has no SERVER_NAME.

    >>> from flask import Flask
    >>> from flask_mercure_sse import MercureSSE
    >>> app = Flask(__name__)
    >>> mercure = MercureSSE(app)
    >>> with app.test_request_context():
    ...     client_url("event-source.js").endswith("/event-source.js")
    True
    """
    if file not in files():
        raise ValueError(f"the client has no file {file!r}: write one of {', '.join(files())}")
    return url_for(f"{client_blueprint.name}.static", digest=folder_digest(), file=file)


def client_tags(*adapters: str, nonce: str | None = None, written: Collection[str] = ()) -> Markup:
    """The tags with which the modules of a page import the client, and which load adapters.

    Args:
        adapters: such as "htmx" or "turbo".
        nonce: that of the page's Content Security Policy.
        written: the adapters that the page loads already, and CORE. They are left out.

    Raises:
        ValueError: there is no such adapter.
        RuntimeError: as :func:`client_url`.

    >>> from flask import Flask
    >>> from flask_mercure_sse import MercureSSE
    >>> app = Flask(__name__)
    >>> mercure = MercureSSE(app)
    >>> with app.test_request_context():
    ...     client_tags("event-source").count(' integrity="sha384-')
    2
    """
    known = {file.removesuffix(".js"): file for file in files()}
    for adapter in adapters:
        if adapter not in known or adapter == CORE:
            names = ", ".join(repr(name) for name in known if name not in (CORE, RENEW))
            raise ValueError(f"the client has no adapter {adapter!r}: write one of {names}")
    attribute = Markup(' nonce="{}"').format(nonce) if nonce else Markup("")
    urls = {name: client_url(file) for name, file in known.items()}
    tags = [] if CORE in written else _core_tags(known, urls, attribute)
    script = Markup('<script type="module" src="{}" integrity="{}"{}></script>')
    added = [name for name in dict.fromkeys(adapters) if name not in written]
    tags.extend(script.format(urls[name], files()[known[name]], attribute) for name in added)
    return Markup("\n").join(tags)


def _core_tags(known: Mapping[str, str], urls: Mapping[str, str], attribute: Markup) -> list[Markup]:
    imports = {name if name == CORE else f"{CORE}/{name}": url for name, url in urls.items()}
    integrity = {urls[name]: files()[file] for name, file in known.items()}
    # "<" cannot end the element then. URLs have no "<" in them, as url_for() encodes it.
    document = json.dumps({"imports": imports, "integrity": integrity}, separators=(",", ":")).replace("<", "\\u003c")
    core = Markup('<link rel="modulepreload" href="{}" integrity="{}"{}>')
    return [
        Markup('<script type="importmap"{}>{}</script>').format(attribute, Markup(document)),
        core.format(urls[CORE], files()[known[CORE]], attribute),
    ]


@cache
def files() -> dict[str, str]:
    """The names of the files, each with its hash in the form of the attribute ``integrity``."""

    def integrity(file: Path) -> str:
        return "sha384-" + base64.b64encode(hashlib.sha384(file.read_bytes()).digest()).decode()

    return {file.name: integrity(file) for file in sorted(FOLDER.glob("*.js"))}


@cache
def folder_digest() -> str:
    """Changes when one of the files does: an adapter imports the client by a relative URL."""
    return hashlib.sha256(repr(sorted(files().items())).encode()).hexdigest()[:16]
