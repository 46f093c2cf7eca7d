"""HTTP/1.1 to a hub elsewhere, or through a connected socket to the hub in this process.

Requests use Python's own sockets, so that gevent's patch applies to them: a wait for the hub leaves other greenlets and
threads alone. Nothing here knows of applications or settings.
"""
