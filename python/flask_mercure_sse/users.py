"""Who may read: the cookie of the current user, set, renewed and deleted by itself, and the route that renews it.

The cookie that the hub reads has the hub's path, so ordinary requests do not bring it. A second cookie, the record,
stands beside it: it says until when the token lasts, and has a digest of what the token grants. Ordinary requests bring
the record, as they bring the session, and it is compared with the topics that the application says. It is a hint and
opens nothing: a forged record has the cookie set anew.

A response that caches share never has a cookie of this module. A function of the application that fails changes no
cookie and no response.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    current_app,
    has_request_context,
    jsonify,
    request,
    request_finished,
    request_started,
)
from werkzeug.exceptions import BadRequest
from werkzeug.wrappers import Response as WerkzeugResponse

from . import caches, cookies
from .grants import EVERYTHING
from .state import MercureSSEState
from .topics import URLPattern, as_topic, as_topics

if TYPE_CHECKING:
    from .authorization import PayloadGetter

UserTopics = Callable[[], Any]
"""What an application registers with ``user_topics``. A coroutine function will do, too."""

user_blueprint = Blueprint("mercure_user", __name__, url_prefix="/_mercure")
"""The route that renews the cookie. Its endpoint is ``mercure_user.token``."""

_NOT_ORDINARY: Final = frozenset(("mercure_hub", "mercure_client", user_blueprint.name))
"""The blueprints whose responses never have the cookie."""

_ASKED: Final = "flask_mercure_sse.user_topics"
"""The key under which the environment of a request has what the application has answered."""

_CHANGED: Final = "flask_mercure_sse.user_changed"
"""The key under which the environment of a request says that a login or a logout has happened."""

_IN_PAGE: Final = "flask_mercure_sse.user_topics_in_page"
"""The key under which the environment of a request has what the cookie grants, for the elements of its page."""

_COOKIE_BYTES_MAX: Final = 4093
"""A cookie with its attributes, as Werkzeug measures it. Browsers drop a larger one without a word: they keep 4,096
bytes, some a few less, and do not count all attributes."""

_SENT_BY_BROWSERS: Final = frozenset(("basic", "digest", "negotiate", "ntlm"))
"""The schemes of ``Authorization`` that browsers send by themselves, with every request."""

_clock = time.time


class Users:
    """The functions of one extension that say who the current user is."""

    def __init__(self) -> None:
        self.topics: UserTopics | None = None
        self.payload: PayloadGetter | None = None
        """What tokens tell of their subscriber."""

    def prepare(self, state: MercureSSEState) -> None:
        """Have the responses of an application looked through. Does nothing while no function is registered."""
        app, state.users = state.app, self
        request_started.connect(_begin, app)
        # Now, and not when the response is finished: the session is saved in between.
        app.after_request(_ask)
        request_finished.connect(_finish, app)

    def ask(self, app: Flask) -> list[str]:
        """The topics of the current user. Empty: nobody is logged in.

        Raises:
            TypeError: the function has returned something else than topics.
        """
        return [] if self.topics is None else _as_user_topics(app.ensure_sync(self.topics)())


def _as_user_topics(answer: Any) -> list[str]:
    if not answer:
        return []
    if _is_topic(answer):
        return [as_topic(answer)]
    if isinstance(answer, Mapping) or not isinstance(answer, Iterable):
        raise TypeError(f"user_topics: {_EXPECTED}, and not {type(answer).__name__}")
    topics = list(answer)
    for each in topics:
        if not _is_topic(each):
            raise TypeError(f"user_topics: {_EXPECTED}, and not a list with {type(each).__name__}")
    return [as_topic(each) for each in topics]


def _is_topic(answer: Any) -> bool:
    return isinstance(answer, (str, bytes, bytearray)) or hasattr(answer, "__mercure_sse_topic__")


_EXPECTED: Final = (
    "the function returns topics, each a text or an object with __mercure_sse_topic__, or None if nobody is logged in"
)


def _users(app: Flask) -> Users:
    users: Users = app.extensions["mercure_sse"].users
    return users


def _begin(app: Flask, **_: Any) -> None:
    if _users(app).topics is not None:
        _watch_logins(app)


def _ask(response: Response) -> Response:
    users = _users(current_app)
    if users.topics is not None and _is_ordinary(response):
        with _guarded(current_app, response):
            request.environ[_ASKED] = users.ask(current_app)
    return response


def _finish(app: Flask, response: Response, **_: Any) -> None:
    topics = request.environ.pop(_ASKED, None)
    # Other functions may have changed the header since.
    if topics is not None and not caches.is_shared(response, _clock()):
        _apply(_users(app), app.extensions["mercure_sse"], response, topics)


@contextmanager
def _guarded(app: Flask, response: Response) -> Iterator[None]:
    """What the application's functions raise in here is logged: a page must not fail for its cookies.

    In testing mode it is raised, unless the view has failed and says so (400 and above): then the session of its
    database may be in any state, and the function is not to blame.
    """
    try:
        yield
    except Exception:
        if app.testing and response.status_code < 400:
            raise
        app.logger.exception("user_topics: the cookie of the current user stays as it is")


def keeps_cookie(state: MercureSSEState) -> bool:
    """Whether the browser of the current user has a cookie of this module, which the hub receives."""
    return state.users is not None and state.users.topics is not None and cookies.reaches_hub(state)


def cookie_grants(state: MercureSSEState, topics: Any) -> bool:
    """Whether the cookie of the current user grants all of some topics. False if that is not known for sure.

    The user may have no cookie yet: the response of this request sets it.
    """
    if not keeps_cookie(state):
        return False
    if not has_request_context():
        # Nobody's page, so perhaps everybody's: it gets no token.
        return True
    grant = _page_grant(state)
    granted = grant.topics if grant is not None and grant.fits(state) else []
    kinds = {(isinstance(each, URLPattern), each) for each in granted}
    return EVERYTHING in granted or kinds.issuperset((isinstance(each, URLPattern), each) for each in as_topics(topics))


def page_user(state: MercureSSEState) -> str | None:
    """A digest that differs between users who may read different things, for the pages that share a stream.

    None: nobody is logged in, or the application has no ``user_topics``. It tells nothing of the user.
    """
    if state.users is None or state.users.topics is None or not has_request_context():
        return None
    grant = _page_grant(state)
    # No record has this end, so nothing in a page can be used as one.
    return None if grant is None else grant.record(state, -1).removeprefix("-1.")


def _page_grant(state: MercureSSEState) -> _Grant | None:
    """What the current user may read, as the view sees it. None: nobody is logged in, or that is not known for sure."""
    if _IN_PAGE not in request.environ:
        grant = None
        try:
            if topics := state.users.ask(state.app):
                grant = _Grant.from_user(state.users, state, topics)
        except Exception:
            # The function is asked again after the view, and its failure logged then.
            state.app.logger.debug("user_topics has failed in a page", exc_info=True)
        request.environ[_IN_PAGE] = grant
    found: _Grant | None = request.environ[_IN_PAGE]
    return found


@user_blueprint.get("/token")
def token() -> Response:
    """Give the current user a fresh cookie (204), or take it away where nobody is logged in (401).

    With ``?token`` the answer is a JSON document with a token, for a hub that no cookie reaches.
    """
    state: MercureSSEState = current_app.extensions["mercure_sse"]
    users = _users(current_app)
    if users.topics is None:
        abort(404)
    topics = users.ask(current_app)
    if "token" in request.args:
        response = _token_document(users, state, topics)
    elif not topics:
        response = Response(status=401)
        _delete(state, response)
    elif not cookies.reaches_hub(state):
        abort(400, "No cookie of this host reaches the hub: ask with ?token.")
    else:
        grant = _Grant.from_user(users, state, topics)
        if not grant.fits(state):
            abort(400, "The cookie would be too large for a browser: ask with ?token.")
        response = Response(status=204)
        _set(state, response, grant)
    response.headers["Cache-Control"] = "no-store"
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
    return response


def _token_document(users: Users, state: MercureSSEState, topics: list[str]) -> Response:
    """The token as JSON. No script of another origin gets it, even where the application allows other origins."""
    site, origin = request.headers.get("Sec-Fetch-Site", "same-origin"), request.headers.get("Origin")
    if site not in ("same-origin", "none") or (origin and urlsplit(origin).netloc != request.host):
        abort(403, "Only pages of this origin get a token.")
    app = state.app
    grant = _Grant.from_user(users, state, topics) if topics else None
    has_cookie = cookies.reaches_hub(state) and (grant is None or grant.fits(state))
    if has_cookie and not (app.debug or app.testing):
        abort(403, "The cookie reaches the hub: ask without ?token. A script cannot read the cookie, so it is safer.")
    if grant is None:
        return Response(status=401)
    response = jsonify(token=grant.token(state), expires_in=state.settings.jwt_ttl or None)
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def _watch_logins(app: Flask) -> None:
    """Notice logins and logouts of Flask-Login, if the application has it. A receiver is connected once."""
    login = sys.modules.get("flask_login")
    if login is not None:
        login.user_logged_in.connect(_note_change, app)
        login.user_logged_out.connect(_note_change, app)


def _note_change(_app: Flask, **_: Any) -> None:
    request.environ[_CHANGED] = True


def _is_ordinary(response: Response) -> bool:
    """Whether the response of the current request may have the cookie."""
    endpoint = request.endpoint
    if endpoint is None or endpoint.rpartition(".")[2] == "static" or request.blueprint in _NOT_ORDINARY:
        return False
    if request.method == "OPTIONS" or response.status_code == 304 or response.status_code >= 500:
        return False
    if _is_of_program():
        return False
    return not caches.is_shared(response, _clock())


def _is_of_program() -> bool:
    """Whether a script or a program sends the request in the name of a user that its cookies do not know: the next page
    of the browser would be another user's."""
    scheme, _, _ = request.headers.get("Authorization", "").partition(" ")
    return bool(scheme) and scheme.lower() not in _SENT_BY_BROWSERS


def _apply(users: Users, state: MercureSSEState, response: Response, topics: list[str]) -> None:
    """Bring cookie and record of a response in line with the topics of the current user."""
    if any(each.startswith(f"{state.settings.authz_cookie_name}=") for each in response.headers.getlist("Set-Cookie")):
        # The view has set the cookie itself. Without its record, the next response sets that of the user again.
        if _record_name(state) in request.cookies:
            _delete_record(state, response)
            _keep_from_caches(response)
        return
    record, has_changed = request.cookies.get(_record_name(state)), _CHANGED in request.environ
    try:
        if not topics:
            if record is not None or has_changed:
                _delete(state, response)
                _keep_from_caches(response)
            return
        if not cookies.reaches_hub(state):
            state.warn_once(
                "user_topics",
                "user_topics: no cookie of this host reaches the Mercure hub, so none is set. Let pages ask for a "
                'token at url_for("mercure_user.token", token=""), or give the hub a name in the domain of the '
                "application.",
            )
            return
        grant: _Grant | None = None
        with _guarded(state.app, response):
            grant = _Grant.from_user(users, state, topics)
        if grant is None or (not has_changed and grant.is_fresh(state, record)):
            return
        if grant.fits(state):
            _set(state, response, grant)
        elif record is not None or has_changed:
            # The cookie that the browser has says something else.
            _delete(state, response)
        else:
            return
        _keep_from_caches(response)
    except BadRequest:
        # A host that TRUSTED_HOSTS does not list: Flask 3.0 lets views answer it all the same.
        return


def _keep_from_caches(response: Response) -> None:
    if "no-store" not in response.cache_control:
        response.cache_control.private = True
    response.vary.add("Cookie")


def _set(state: MercureSSEState, response: Response, grant: _Grant) -> None:
    ttl = state.settings.jwt_ttl
    cookies.set_cookie(state, response, grant.token(state), lasts_as_its_token=True, secure=None, options={})
    lifetime = ttl + state.settings.authz_cookie_grace if ttl else None
    record = grant.record(state, int(_clock()) + ttl if ttl else 0)
    response.set_cookie(_record_name(state), record, max_age=lifetime, **_record_scope(state.app))


def _delete(state: MercureSSEState, response: Response) -> None:
    cookies.delete_cookie(state, response, secure=None, options={})
    _delete_record(state, response)


def _delete_record(state: MercureSSEState, response: Response) -> None:
    response.set_cookie(_record_name(state), "", max_age=0, expires=0, **_record_scope(state.app))


def _record_name(state: MercureSSEState) -> str:
    return state.settings.authz_cookie_name.removeprefix("__Secure-") + "_record"


def _record_scope(app: Flask) -> dict[str, Any]:
    """As the session's cookie: a request brings both or neither. With the record alone, it would look like a logout."""
    session = app.session_interface
    return {
        "domain": session.get_cookie_domain(app),
        "path": session.get_cookie_path(app),
        "secure": session.get_cookie_secure(app),
        "samesite": session.get_cookie_samesite(app),
        "httponly": True,
    }


@dataclass(frozen=True)
class _Grant:
    """What the current user's token says."""

    topics: list[str]
    payload: Mapping[str, Any]

    @classmethod
    def from_user(cls, users: Users, state: MercureSSEState, topics: list[str]) -> _Grant:
        code = getattr(users.topics, "__code__", None)
        place = ("user_topics", 0) if code is None else (code.co_filename, code.co_firstlineno)
        state.authorization.selectors.warn(topics, place)
        return cls(topics, state.authorization.payload(topics, None, users.payload))

    def token(self, state: MercureSSEState) -> str:
        """A fresh token.

        Raises:
            ValueError: the subscriber key is not set or is a public key.
        """
        authorization = state.authorization
        payload = {"payload": self.payload} if self.payload else {}
        return authorization.sign("subscriber", authorization.key("subscriber"), {"subscribe": self.topics, **payload})

    def fits(self, state: MercureSSEState) -> bool:
        """Whether browsers keep a cookie with the token. If not, an error is logged once."""
        measured = WerkzeugResponse()
        # Else Werkzeug warns, too.
        measured.max_cookie_size = 0
        token = self.token(state)
        cookies.set_cookie(state, measured, token, lasts_as_its_token=True, secure=None, options={})
        size = len(measured.headers["Set-Cookie"])
        if size <= _COOKIE_BYTES_MAX:
            return True
        state.warn_once(
            "user_topics: size",
            f"user_topics: the cookie for {len(self.topics)} topics would have {size} bytes, and browsers keep "
            f"{_COOKIE_BYTES_MAX} at most, so none is set. Return fewer or shorter topics, or one selector for many: a "
            "Selector, or a URLPattern in protocol 1.0. Until then, pages ask for a token at "
            'url_for("mercure_user.token", token="").',
            logging.ERROR,
        )
        return False

    def record(self, state: MercureSSEState, end: int) -> str:
        """The record of a token that lasts until ``end``, in seconds of the Unix clock; 0: for ever."""
        key = state.authorization.key("subscriber")
        topics = sorted((type(topic).__name__, str(topic)) for topic in self.topics)
        said = [end, topics, self.payload, cookies.scope(state, None), state.settings.protocol]
        text = json.dumps(said, sort_keys=True, default=str)
        digest = hmac.new(key.encode() if isinstance(key, str) else key, text.encode(), hashlib.sha256)
        return f"{end}.{digest.hexdigest()[:32]}"

    def is_fresh(self, state: MercureSSEState, record: str | None) -> bool:
        """Whether the browser's cookie says the same, and the first half of its life is not over."""
        end, _, _ = (record or "").partition(".")
        if record is None or not end.isdecimal() or len(end) > 12:
            return False
        ttl = state.settings.jwt_ttl
        if ttl and int(end) - _clock() < ttl / 2:
            return False
        return hmac.compare_digest(self.record(state, int(end)).encode(), record.encode())
