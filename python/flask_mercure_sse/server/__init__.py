"""The hub on its own: ``python -m flask_mercure_sse.server``, or ``flask_mercure_sse.server.wsgi:app`` under a server
of your choice.
"""
