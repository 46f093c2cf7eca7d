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
from .background import BackgroundStats
from .blueprint import hub_blueprint
from .errors import (
    ForbiddenTopicError,
    HubConnectTimeoutError,
    HubError,
    HubTimeoutError,
    HubUnreachableError,
    InvalidUpdateError,
    MercureError,
    TokenRefusedError,
)
from .extension import MercureSSE, mercure_publish
from .hub import format_subscriptions_response, get_subscription_id
from .presence import subscriber_connected, subscriber_disconnected
from .signals import publish_signal
from .sse import Event
from .state import MercureSSEState
from .stats import Stats
from .subscription import Subscription
from .topics import Selector, URLPattern, as_topic, topic
from .update import Update
from .values import HUB_URL_FROM_REQUEST

__all__ = [
    "HUB_URL_FROM_REQUEST",
    "BackgroundStats",
    "Event",
    "ForbiddenTopicError",
    "Hub",
    "HubConnectTimeoutError",
    "HubError",
    "HubTimeoutError",
    "HubUnreachableError",
    "InvalidUpdateError",
    "MercureError",
    "MercureSSE",
    "MercureSSEState",
    "Selector",
    "Stats",
    "Subscription",
    "TokenRefusedError",
    "URLPattern",
    "Update",
    "__version__",
    "as_topic",
    "format_subscriptions_response",
    "get_subscription_id",
    "hub_blueprint",
    "mercure_publish",
    "publish_signal",
    "subscriber_connected",
    "subscriber_disconnected",
    "topic",
]
