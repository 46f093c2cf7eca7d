"""``flask_mercure_sse.server.wsgi:app``: the hub for a WSGI server, with settings from the environment."""

from .app import create_app

app = create_app()
