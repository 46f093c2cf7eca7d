"""What can go wrong when an application talks to a hub: one class for each cause.

Messages carry the hub's own explanation. They never hold a token or the data of an update.
"""


class MercureError(Exception):
    """A hub did not do what it was asked."""


class HubUnreachableError(MercureError):
    """No connection to the hub: it is not running, or the URL is wrong."""


class HubTimeoutError(MercureError):
    """The hub did not answer in time. An update may or may not have been published."""


class TokenRefusedError(MercureError):
    """The hub refuses the token (401): wrong key, wrong algorithm, expired, or none was sent."""


class ForbiddenTopicError(MercureError):
    """The token is valid and does not allow this topic (403)."""


class InvalidUpdateError(MercureError, ValueError):
    """The update breaks a rule of the protocol (400, 413): nothing was published."""


class HubError(MercureError):
    """The hub failed, or answered something that no hub answers."""
