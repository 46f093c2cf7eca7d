"""Push updates from Flask to browsers over Server-Sent Events, with the Mercure protocol.

>>> from flask import Flask
>>> from flask_mercure_sse import MercureSSE
>>> app = Flask(__name__)
>>> app.testing = True
>>> mercure = MercureSSE(app)
>>> mercure.publish("topic", "message").startswith("urn:uuid:")
True
"""

from ._native import Hub, __version__
from .errors import (
    ForbiddenTopicError,
    HubError,
    HubTimeoutError,
    HubUnreachableError,
    InvalidUpdateError,
    MercureError,
    TokenRefusedError,
)
from .extension import MercureSSE, mercure_publish
from .settings import HUB_URL_FROM_REQUEST, MercureSSEState
from .signals import publish_signal
from .topics import as_topic

__all__ = [
    "HUB_URL_FROM_REQUEST",
    "ForbiddenTopicError",
    "Hub",
    "HubError",
    "HubTimeoutError",
    "HubUnreachableError",
    "InvalidUpdateError",
    "MercureError",
    "MercureSSE",
    "MercureSSEState",
    "TokenRefusedError",
    "__version__",
    "as_topic",
    "mercure_publish",
    "publish_signal",
]
