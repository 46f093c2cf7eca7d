"""The hub as a WSGI application, for a server of your choice.

One process only: workers do not share subscribers. Threads are shared well: ``gunicorn --worker-class gthread
--threads 100 flask_mercure_sse.server.wsgi:app``. ``python -m flask_mercure_sse.server`` needs no thread for a stream.
"""

from __future__ import annotations

import contextlib
import secrets
from typing import Any, Final

from flask import Flask

from .._native import flush_lines, print_line, sign_token
from ..extension import MercureSSE
from ..settings import NAMES, MercureSSEState, config_key
from .dotenv import Variables


def create_app(
    publisher_secret: str | None = None,
    subscriber_secret: str | None = None,
    allow_anonymous: bool | None = None,
    cors_origins: str = "*",
    subscriptions: bool | None = None,
    **settings: Any,
) -> Flask:
    """A Flask application that is nothing but a hub, with publishing allowed. It prints the publisher's token, and keys
    that it has made because none were given.

    Args:
        publisher_secret, subscriber_secret: verify tokens.
        allow_anonymous: whether subscribers need no token.
        cors_origins: origins whose pages may subscribe, separated by commas; ``https://*.example.com`` stands for all
            subdomains.
        subscriptions: whether subscriptions are announced and listed.
        settings: other settings of :class:`flask_mercure_sse.MercureSSE`. What is not given comes from the environment
            (``MERCURE_…``, ``FLASK_SECRET_KEY``), then from the file .env of the working directory.

    Raises:
        TypeError, ValueError: a setting that does not exist or cannot be used.
    """
    app = Flask("flask_mercure_sse.server")
    variables = Variables()
    app.config["SECRET_KEY"] = variables.first("FLASK_SECRET_KEY", "SECRET_KEY")
    given = {
        "hub_allow_publish": True,
        "publisher_secret_key": publisher_secret or _variable(variables, "publisher_secret_key"),
        "subscriber_secret_key": subscriber_secret or _variable(variables, "subscriber_secret_key"),
        "hub_allow_anonymous": allow_anonymous,
        "hub_subscriptions": subscriptions,
        **settings,
    }
    for name in NAMES:
        if given.get(name) is None:
            given[name] = _variable(variables, name)
    given["hub"] = True
    MercureSSE(app, **{name: value for name, value in given.items() if value is not None})
    _print_keys(app.extensions["mercure_sse"])
    origins = tuple(origin.strip() for origin in cors_origins.split(",") if origin.strip())
    app.extensions["mercure_sse"].cors_origins = origins
    # Checks the origins now and not at the first request. Does not start the hub.
    app.extensions["mercure_sse"].embedded_hub()
    return app


def _print_keys(state: MercureSSEState) -> None:
    """What whoever starts the hub needs to publish on it."""
    for role in ("publisher", "subscriber"):
        name = f"{role}_secret_key"
        if not getattr(state, name):
            setattr(state, name, secrets.token_urlsafe(32))
            print_line(f"Generated {role} secret key: {getattr(state, name)}")
    # A public key signs nothing.
    with contextlib.suppress(ValueError):
        jwt = state.given_publisher_jwt or sign_token(PUBLISH_ALL, state.key_of("publisher"))
        print_line(f"Publisher JWT: {jwt}")
    flush_lines(FLUSH_SECONDS)


FLUSH_SECONDS: Final = 2.0
"""How long to wait until a line is written, where the order of lines matters. It takes microseconds, unless the reader
has stopped reading."""

PUBLISH_ALL: Final = '{"mercure":{"publish":["*"]}}'
"""The claims of a token for every topic, which never expires."""


def _variable(variables: Variables, name: str) -> str | None:
    return variables.first(config_key(name), config_key(name).replace("SECRET_KEY", "JWT_KEY"))
