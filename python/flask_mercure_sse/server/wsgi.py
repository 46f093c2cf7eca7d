"""``flask_mercure_sse.server.wsgi:app``, with the settings of the environment."""

from .app import create_app

app = create_app()
