"""The standalone hub: ``python -m flask_mercure_sse.server``, or ``flask_mercure_sse.server.wsgi:app`` under any WSGI
server."""
