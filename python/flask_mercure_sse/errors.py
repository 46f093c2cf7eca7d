"""What can go wrong when an application talks to a hub: one class for each cause.

Messages carry the hub's own explanation. They never hold a token or the data of an update.
"""

from __future__ import annotations

from ._native import HubStopped, InvalidUpdate, LogFull, LogUnavailable


class MercureError(Exception):
    """A hub did not do what it was asked.

    >>> MercureError("the hub answered 500", status=500).status
    500
    """

    status: int | None
    """The status of the hub's answer; None where there was none."""

    published: list[str]
    """After :meth:`flask_mercure_sse.MercureSSE.publish_many`: the ids of the updates before the one that failed."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.published = []


class HubUnreachableError(MercureError):
    """No connection to the hub: it is not running, or the URL is wrong; or this process may open no more files or
    threads."""


class HubTimeoutError(MercureError):
    """The hub did not answer in time. An update may or may not have been published."""


class HubConnectTimeoutError(HubTimeoutError, HubUnreachableError):
    """No connection to the hub in time: nothing was sent."""


class TokenRefusedError(MercureError):
    """The hub refuses the token (401): wrong key, wrong algorithm, expired, or none was sent. Or it is no token, and
    was not sent."""


class ForbiddenTopicError(MercureError):
    """The token is valid and does not allow this topic (403)."""


class InvalidUpdateError(MercureError, ValueError):
    """The update breaks a rule of the protocol (400, 413): nothing was published."""


class HubError(MercureError):
    """The hub failed, or answered something that no hub answers."""


def from_native(error: Exception) -> MercureError:
    """Turn an exception of the embedded hub into one of this module, with the status that a hub over HTTP answers.

    >>> from_native(OSError("no file descriptor is left"))
    HubUnreachableError('the embedded hub: no file descriptor is left')
    """
    if isinstance(error, InvalidUpdate):
        return InvalidUpdateError(str(error))
    text = f"the embedded hub: {error}"
    if isinstance(error, LogUnavailable):
        return HubError(text, status=503)
    if isinstance(error, LogFull):
        return HubError(text, status=507)
    if isinstance(error, HubStopped):
        return MercureError(text)
    if isinstance(error, OSError):
        # The process has no room (NoRoom, or an error of the system): nothing has reached the hub.
        return HubUnreachableError(text)
    return HubError(text, status=500)


def may_pass(error: MercureError) -> bool:
    """Whether the same request may succeed later.

    >>> may_pass(HubUnreachableError("away")), may_pass(TokenRefusedError("expired", status=401))
    (True, False)
    """
    if isinstance(error, HubError):
        return error.status is None or error.status == 429 or error.status >= 500
    return isinstance(error, (HubUnreachableError, HubTimeoutError))


def is_away(error: MercureError) -> bool:
    """Whether the hub has not seen the request, so that it says nothing about what was asked for.

    >>> is_away(HubUnreachableError("away")), is_away(HubError("it failed", status=500))
    (True, False)
    """
    # What stands in front of a hub answers so while the hub is away.
    return isinstance(error, HubUnreachableError) or error.status in (429, 502, 503, 504)


def describe(error: BaseException) -> str:
    """An error for the log: those of others may quote tokens or data.

    >>> describe(HubUnreachableError("no connection")), describe(ValueError("a secret"))
    ('no connection', 'ValueError')
    """
    return str(error) if isinstance(error, MercureError) else type(error).__name__
