"""The hub as a WSGI application, for any WSGI server.

Each stream takes a thread, and several processes would be several hubs. So start one process with many threads:
``gunicorn --worker-class gthread --threads 100 flask_mercure_sse.server.wsgi:app``. ``python -m
flask_mercure_sse.server`` needs no thread for a stream.
"""

from __future__ import annotations

import contextlib
import secrets
from typing import Any, Final

from flask import Flask

from .._native import flush_lines, print_line, sign_token
from ..extension import MercureSSE
from ..keys import Role
from ..settings import NAMES, config_key
from ..state import MercureSSEState
from .dotenv import KEY_ADVICE, Variables


def create_app(
    publisher_secret: str | None = None,
    subscriber_secret: str | None = None,
    allow_anonymous: bool | None = None,
    cors_origins: str = "*",
    subscriptions: bool | None = None,
    **settings: Any,
) -> Flask:
    """Make a Flask application that is only a hub, on which can be published over HTTP.

    Prints the publisher's token, and each key that it has generated because none was given.

    Args:
        publisher_secret, subscriber_secret: the keys that verify tokens.
        allow_anonymous: whether subscribers need no token.
        cors_origins: origins whose pages may subscribe, separated by commas; ``https://*.example.com`` stands for all
            subdomains.
        subscriptions: whether subscriptions are announced and listed.
        settings: other settings of :class:`flask_mercure_sse.MercureSSE`. Settings that are not given are read from the
            environment (``MERCURE_…``, ``FLASK_SECRET_KEY``), then from the file .env of the working directory.

    Raises:
        TypeError: there is no such setting.
        ValueError: a setting cannot be used; the message names it.
    """
    app = Flask("flask_mercure_sse.server")
    variables = Variables()
    app.config["SECRET_KEY"] = variables.first("FLASK_SECRET_KEY", "SECRET_KEY")
    given = {
        "hub_allow_publish": True,
        "publisher_secret_key": _given("publisher_secret", publisher_secret)
        or _variable(variables, "publisher_secret_key"),
        "subscriber_secret_key": _given("subscriber_secret", subscriber_secret)
        or _variable(variables, "subscriber_secret_key"),
        "hub_allow_anonymous": allow_anonymous,
        "hub_subscriptions": subscriptions,
        **settings,
    }
    for name in NAMES:
        if given.get(name) is None:
            given[name] = _variable(variables, name)
    given["hub"] = True
    MercureSSE(app, **{name: value for name, value in given.items() if value is not None})
    state: MercureSSEState = app.extensions["mercure_sse"]
    _print_keys(state, variables)
    state.embedded.cors_origins = tuple(origin.strip() for origin in cors_origins.split(",") if origin.strip())
    # Checks the origins now and not at the first request. The hub does not start yet.
    state.embedded.hub()
    return app


def _print_keys(state: MercureSSEState, variables: Variables) -> None:
    """Print what publishing on the hub needs: generated keys, and the publisher's token.

    Raises:
        ValueError: the variable of a key is empty.
    """
    roles: tuple[Role, Role] = ("publisher", "subscriber")
    for role in roles:
        if not state.keys.find(role):
            name = config_key(f"{role}_secret_key")
            variables.refuse_empty(name, name.replace("SECRET_KEY", "JWT_KEY"), "FLASK_SECRET_KEY", "SECRET_KEY")
            key = secrets.token_urlsafe(32)
            state.keys.set(role, key)
            print_line(f"Generated {role} secret key: {key}")
    # A public key cannot sign.
    with contextlib.suppress(ValueError):
        jwt = state.authorization.given_publisher_jwt or sign_token(PUBLISH_ALL, state.keys.need("publisher"))
        print_line(f"Publisher JWT: {jwt}")
    flush_lines(FLUSH_SECONDS)


FLUSH_SECONDS: Final = 2.0
"""How long to wait until a line is written, where the order of lines matters. Writing takes microseconds, unless the
reader of the stream has stopped reading."""

PUBLISH_ALL: Final = '{"mercure":{"publish":["*"]}}'
"""The claims of a token that publishes on every topic and never expires."""


def _given(name: str, secret: str | None) -> str | None:
    if secret == "":
        raise ValueError(f"{name} is empty: {KEY_ADVICE}")
    return secret


def _variable(variables: Variables, name: str) -> str | None:
    return variables.first(config_key(name), config_key(name).replace("SECRET_KEY", "JWT_KEY"))
