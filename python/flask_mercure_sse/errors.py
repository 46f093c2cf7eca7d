"""The exceptions of an application that talks to a hub: one class for each cause.

A message has the hub's own explanation. It never holds a token or the data of an update.
"""

from __future__ import annotations

from ._native import HubStopped, InvalidUpdate, LogFull, LogUnavailable


class MercureError(Exception):
    """A hub did not do what it was asked to do. The subclasses say why.

    >>> MercureError("the hub answered 500", status=500).status
    500
    """

    status: int | None
    """The HTTP status of the hub's answer. None: there was no answer."""

    request_id: str | None
    """The id of the request in the hub's answer, which the hub's log has, too. The message ends with it. None: there
    was no answer, or no id in it."""

    published: list[str]
    """After :meth:`flask_mercure_sse.MercureSSE.publish_many`: the ids of the updates before the failed one."""

    def __init__(self, message: str, *, status: int | None = None, request_id: str | None = None) -> None:
        super().__init__(message if request_id is None else f"{message} (request {request_id})")
        self.status, self.request_id = status, request_id
        self.published = []


class HubUnreachableError(MercureError):
    """There is no connection to the hub: it is not running, its URL is wrong, or this process has no room. Nothing was
    published."""


class HubTimeoutError(MercureError):
    """The hub did not answer in time. An update may or may not have been published."""


class HubConnectTimeoutError(HubTimeoutError, HubUnreachableError):
    """There was no connection to the hub in time. Nothing was published."""


class TokenRefusedError(MercureError):
    """The hub refuses the token (401), or there is none. The message begins with the likely cause, as far as the token
    itself tells: it has expired; its typ and claims are of two dialects, or grant nothing; or its key is not the
    hub's, or the hub does not take tokens of this dialect. Or the text is no token, and was not sent."""


class ForbiddenTopicError(MercureError):
    """The token is valid and does not grant this topic (403)."""


class InvalidUpdateError(MercureError, ValueError):
    """The update breaks a rule of the protocol (400, 413). Nothing was published."""


class HubError(MercureError):
    """The hub failed, or the answer is not that of a hub."""


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
        # The process has no room (NoRoom, or an error of the system), so nothing has reached the hub.
        return HubUnreachableError(text)
    return HubError(text, status=500)


def may_pass(error: MercureError) -> bool:
    """Whether the same request may succeed later.

    >>> may_pass(HubUnreachableError("no connection")), may_pass(TokenRefusedError("expired", status=401))
    (True, False)
    """
    if isinstance(error, HubError):
        return error.status is None or error.status == 429 or error.status >= 500
    return isinstance(error, (HubUnreachableError, HubTimeoutError))


def is_away(error: MercureError) -> bool:
    """Whether the hub has not seen the request, so that the error says nothing about the request.

    >>> is_away(HubUnreachableError("no connection")), is_away(HubError("it failed", status=500))
    (True, False)
    """
    # A proxy in front of a hub answers with these statuses while the hub is unavailable.
    return isinstance(error, HubUnreachableError) or error.status in (429, 502, 503, 504)


def describe(error: BaseException) -> str:
    """An error for the log: only its type, unless it is of this module. Others may quote tokens or data.

    >>> describe(HubUnreachableError("no connection")), describe(ValueError("a secret"))
    ('no connection', 'ValueError')
    """
    return str(error) if isinstance(error, MercureError) else type(error).__name__
