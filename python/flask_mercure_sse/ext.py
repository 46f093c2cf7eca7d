"""The names that flask-mercure-sse 0.4 had here. New code imports them from :mod:`flask_mercure_sse`."""

from .extension import MercureSSE, mercure_publish
from .hub import Hub, format_subscriptions_response, get_subscription_id, hub_blueprint
from .settings import HUB_URL_FROM_REQUEST, MercureSSEState
from .signals import publish_signal
from .topics import as_topic

__all__ = [
    "HUB_URL_FROM_REQUEST",
    "Hub",
    "MercureSSE",
    "MercureSSEState",
    "as_topic",
    "format_subscriptions_response",
    "get_subscription_id",
    "hub_blueprint",
    "mercure_publish",
    "publish_signal",
]
