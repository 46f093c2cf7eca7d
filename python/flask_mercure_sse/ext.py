"""The names that flask-mercure-sse 0.4 had in this module. New code imports them from :mod:`flask_mercure_sse`."""

from .extension import MercureSSE, mercure_publish
from .hub import Hub, format_subscriptions_response, get_subscription_id, hub_blueprint
from .signals import publish_signal
from .state import MercureSSEState
from .topics import as_topic
from .values import HUB_URL_FROM_REQUEST

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
