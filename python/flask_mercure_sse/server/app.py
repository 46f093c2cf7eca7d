"""The hub as a WSGI application, for a server of your choice.

One process only: workers do not share subscribers. Threads are shared well: ``gunicorn --worker-class gthread
--threads 100 flask_mercure_sse.server.wsgi:app``. ``python -m flask_mercure_sse.server`` needs no thread for a stream.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from flask import Flask

from ..extension import MercureSSE
from ..settings import DEFAULTS, config_key
from .dotenv import read_dotenv


def create_app(**settings: Any) -> Flask:
    """A Flask application that is nothing but a hub, with publishing allowed.

    Args:
        settings: the settings of :class:`flask_mercure_sse.MercureSSE`. The environment (``MERCURE_…``,
            ``FLASK_SECRET_KEY``) comes after them, the file .env of the working directory last.

    Raises:
        TypeError, ValueError: a setting that does not exist or cannot be used.
    """
    app = Flask("flask_mercure_sse.server")
    variables = {**read_dotenv(Path(".env")), **os.environ}
    app.config["SECRET_KEY"] = variables.get("FLASK_SECRET_KEY") or variables.get("SECRET_KEY")
    environment = {name: variables[config_key(name)] for name in DEFAULTS if config_key(name) in variables}
    for role in ("subscriber", "publisher"):
        key = variables.get(f"MERCURE_{role.upper()}_JWT_KEY")
        if key:
            environment.setdefault(f"{role}_secret_key", key)
    MercureSSE(app, **{"hub_allow_publish": True, **environment, **settings, "hub": True})
    return app
