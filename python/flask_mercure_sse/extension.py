"""The extension: publish, subscription URLs, tokens, cookies, and who is subscribed."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote, urlencode, urlsplit

from flask import current_app, has_app_context, has_request_context, json, request
from markupsafe import Markup
from werkzeug.exceptions import BadRequest

from . import client
from ._native import Hub, InvalidUpdate, expand_subscription_topic, sign_token
from .blueprint import hub_blueprint
from .cli import cli
from .errors import HubError, InvalidUpdateError, MercureError
from .settings import DEFAULTS, HUB_PATH, STANDALONE_HUB_URL, MercureSSEState, check_url, load
from .signals import publish_signal
from .topics import as_publication, as_topic, as_topics

if TYPE_CHECKING:
    from blinker import NamedSignal
    from flask import Flask, Response

PayloadGetter = Callable[[list[str]], "dict[str, Any] | None"]
_Getter = TypeVar("_Getter", bound=PayloadGetter)

_HOST: Final = re.compile(r"([A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?")


class MercureSSE:
    """Publishes updates of Flask applications to browsers.

    >>> from flask import Flask
    >>> app = Flask(__name__)
    >>> mercure = MercureSSE(app, hub_url="https://example.com/.well-known/mercure")
    >>> mercure.hub_url("books/1")
    'https://example.com/.well-known/mercure?topic=books%2F1'

    Keyword arguments are the settings in lower case, without their ``MERCURE_``; the application's config wins over
    them. See README.md for all of them.
    """

    def __init__(self, app: Flask | None = None, **settings: Any) -> None:
        self.app: Flask | None = None
        self._payload_getter: PayloadGetter | None = None
        if app is not None:
            self.init_app(app, **settings)

    def init_app(
        self,
        app: Flask,
        hub_url: str | bool | None = None,
        public_hub_url: str | None = None,
        publisher_jwt: str | None = None,
        subscriber_secret_key: str | bytes | None = None,
        publisher_secret_key: str | bytes | None = None,
        hub_allow_publish: bool | None = None,
        hub_allow_anonymous: bool | None = None,
        hub_subscriptions: bool | None = None,
        hub_keepalive_interval: float | None = None,
        hub_reconciliation_length: int | None = None,
        authz_cookie_name: str | None = None,
        type_is_topic: bool | None = None,
        hub: bool | None = None,
    ) -> None:
        """Set the extension up for an application; any number of them, each once.

        Raises:
            ValueError: a setting that cannot be used; the message names it.
            RuntimeError: the application has the extension already.
        """
        given = {name: value for name, value in locals().items() if name in DEFAULTS}
        if "mercure_sse" in app.extensions:
            raise RuntimeError(f"the application {app.name!r} has MercureSSE already: call init_app(app) once")
        self.app = app
        app.extensions["mercure_sse"] = load(app, self, given)
        app.register_blueprint(hub_blueprint)
        app.cli.add_command(cli)
        app.jinja_env.globals.update(
            mercure_hub_url=self._template_hub_url,
            mercure_authentified_hub_url=self._template_authentified_hub_url,
            mercure_subscriber_jwt=self.create_subscription_jwt,
            mercure_topic=as_topic,
            mercure_subscription_topic=_subscription_topic,
            mercure_subscriptions=self._template_subscriptions,
        )

    @property
    def state(self) -> MercureSSEState:
        """The settings of the current application, or of the last one that was set up.

        Raises:
            RuntimeError: there is none.
        """
        state: MercureSSEState | None = None
        if has_app_context():
            state = current_app.extensions.get("mercure_sse")
        if state is None or state.instance is not self:
            state = self.app.extensions["mercure_sse"] if self.app is not None else None
        if state is None:
            raise RuntimeError("MercureSSE has no application: call init_app(app) first")
        return state

    @property
    def hub(self) -> Hub | None:
        """The hub inside this process, or None if the application uses another."""
        state = self.state
        return state.embedded_hub() if state.is_embedded else None

    # Publishing

    def publish(
        self,
        topic: Any,
        data: Any = None,
        private: bool = False,
        id: str | None = None,
        type: str | bool | None = None,
        retry: int | None = None,
        jwt: str | None = None,
        hub_url: str | None = None,
    ) -> str:
        """Publish an update and return its id.

        Args:
            topic: a topic, or several: the first is the canonical one. An object brings its own.
            data: text, bytes in UTF-8, or anything that Flask can write as JSON.
            private: whether only subscribers with a token for one of the topics receive it.
            id: the update's id; by default the hub makes one.
            type: the type of the event; True: the topic.
            retry: milliseconds after which a browser reconnects.
            jwt: the token to publish with, on an external hub.
            hub_url: the external hub to publish on.

        Raises:
            InvalidUpdateError: the update breaks a rule; nothing was published.
            MercureError: the hub did not take it; the subclass says why.
        """
        state = self.state
        try:
            topics, text = as_publication(topic, data)
            if type is True or (type is None and state.type_is_topic):
                type = topics[0] if topics else None
            optional = {"id": id, "type": type or None, "retry": retry}
            given = {name: str(value) for name, value in optional.items() if value is not None}
            if state.is_embedded and hub_url is None:
                return state.embedded_hub().publish(topics, text, private=bool(private), **given)
            fields = [("topic", each) for each in topics] + [("data", text)]
            fields += [("private", "on")] if private else []
            body = urlencode([*fields, *given.items()]).encode()
        except UnicodeError:
            raise InvalidUpdateError("the update holds bytes or surrogates that are no text in UTF-8") from None
        except InvalidUpdate as error:
            raise InvalidUpdateError(str(error)) from None
        token = jwt or state.publisher_jwt
        if not token:
            raise MercureError(
                "publishing needs a token: set MERCURE_PUBLISHER_JWT, MERCURE_PUBLISHER_SECRET_KEY or SECRET_KEY"
            )
        url = check_url("hub_url", hub_url) or self.hub_base_url(public=False)
        form = "application/x-www-form-urlencoded"
        answer = client.request("POST", url, token=token, body=body, content_type=form)
        answer.raise_for_status()
        return _event_id(answer.body)

    def publish_signal(self, signal: NamedSignal, *args: Any, **kwargs: Any) -> None:
        """Publish an update each time ``signal`` is sent: see :func:`flask_mercure_sse.publish_signal`."""
        kwargs["sse"] = self
        publish_signal(signal, *args, **kwargs)

    # URLs

    def hub_base_url(self, public: bool = True) -> str:
        """The hub's URL, without a query: the one for browsers, or the one for the application itself.

        Raises:
            RuntimeError: the hub is at the host of the request, and there is no request.
        """
        state = self.state
        # In debug and testing mode the embedded hub stands in for the one of the settings.
        stand_in = state.is_embedded and not state.hub
        if public and state.public_hub_url and not stand_in:
            return state.public_hub_url
        # The application's own tokens never go to a host that a client has named.
        if state.is_embedded or (public and state.hub_url is True):
            return _request_host_url() + HUB_PATH
        return state.hub_url if isinstance(state.hub_url, str) else STANDALONE_HUB_URL

    def hub_url(
        self,
        topics: Any = None,
        subscriber_jwt: str | None = None,
        with_subscriptions: bool = False,
        public: bool = True,
    ) -> str:
        """The URL that subscribes to a topic or several.

        Args:
            topics: exact topics, URI templates or "*".
            subscriber_jwt: a token to put into the URL, for clients that can send neither header nor cookie.
            with_subscriptions: whether the subscriptions to these topics are topics, too.
            public: the URL for browsers, or the one for the application itself.
        """
        selected = as_topics(topics)
        if with_subscriptions:
            selected += [_subscription_topic(topic) for topic in selected]
        fields = [f"topic={quote(topic, safe='')}" for topic in selected]
        if subscriber_jwt:
            fields.append(f"authorization={quote(subscriber_jwt, safe='')}")
        return f"{self.hub_base_url(public)}?{'&'.join(fields)}"

    def authentified_hub_url(
        self, topics: Any = None, payload: dict[str, Any] | None = None, with_subscriptions: bool = False
    ) -> str:
        """The URL that subscribes to topics with a token for just these topics in it."""
        granted = as_topics(topics) or ["*"]
        if with_subscriptions:
            granted += [_subscription_topic(topic) for topic in granted]
        return self.hub_url(topics, self.create_subscription_jwt(granted, payload), with_subscriptions)

    def _template_hub_url(self, *args: Any, **kwargs: Any) -> Markup:
        # Every topic and token is percent-encoded and the base is checked, so the URL holds no character that could
        # end a string or an attribute; "&topic=" and "&authorization=" are no character references.
        return Markup(self.hub_url(*args, **kwargs))

    def _template_authentified_hub_url(self, *args: Any, **kwargs: Any) -> Markup:
        return Markup(self.authentified_hub_url(*args, **kwargs))

    # Tokens and cookies

    def payload_getter(self, getter: _Getter) -> _Getter:
        """Register what tokens say about their subscriber: a function of the topics that returns a dict or None."""
        self._payload_getter = getter
        return getter

    def create_jwt(self, key: str, **data: Any) -> str:
        """Sign a token (HS256) with ``data`` as its "mercure" claim.

        Args:
            key: "publisher_secret_key" or "subscriber_secret_key".

        Raises:
            ValueError: that key is not set.
        """
        secret = getattr(self.state, key)
        if not secret:
            raise ValueError(f"MERCURE_{key.upper()} is not set, and SECRET_KEY neither: set one of them")
        return sign_token(json.dumps({"mercure": data}), secret)

    def create_subscription_jwt(self, topics: Any, payload: dict[str, Any] | None = None) -> str:
        """Sign a token that receives private updates of ``topics``; ``payload`` is merged over the payload getter's."""
        granted = as_topics(topics)
        merged = dict((self._payload_getter(granted) if self._payload_getter else None) or {}, **(payload or {}))
        return self.create_jwt("subscriber_secret_key", subscribe=granted, **({"payload": merged} if merged else {}))

    def set_authz_cookie(
        self,
        response: Response,
        topics: Any = None,
        jwt: str | None = None,
        payload: dict[str, Any] | None = None,
        secure: bool | None = None,
        **set_cookie_kwargs: Any,
    ) -> Response:
        """Give the browser a cookie with a subscriber token, for ``topics`` (by default all), and return the response.

        The cookie reaches the hub only: its path, and its host or the domain that application and hub share.
        """
        token = jwt or self.create_subscription_jwt(["*"] if topics is None else topics, payload)
        scope = self._cookie_scope()
        if secure is not None:
            scope["secure"] = secure
        response.set_cookie(self.state.authz_cookie_name, token, **{**scope, **set_cookie_kwargs})
        return response

    def delete_authz_cookie(self, response: Response, **set_cookie_kwargs: Any) -> Response:
        """Take the cookie back; pass what was passed to :meth:`set_authz_cookie`."""
        for name in ("topics", "jwt", "payload"):
            set_cookie_kwargs.pop(name, None)
        attributes = {**self._cookie_scope(), **set_cookie_kwargs, "max_age": 0, "expires": 0}
        response.set_cookie(self.state.authz_cookie_name, "", **attributes)
        return response

    def _cookie_scope(self) -> dict[str, Any]:
        hub = urlsplit(self.hub_base_url())
        page = request.host if has_request_context() else ""
        return {
            "httponly": True,
            "samesite": "Strict",
            "path": hub.path or "/",
            "domain": _shared_domain(hub.hostname or "", urlsplit(f"//{page}").hostname or ""),
            "secure": hub.scheme == "https",
        }

    # Subscriptions

    def get_subscriptions(self, topic: Any = None, subscriber: str | None = None) -> dict[str, Any]:
        """The hub's answer about who is subscribed: to a topic, or to anything; or about one subscriber.

        Returns:
            The parsed JSON-LD document. Nobody is a document with no subscriptions.

        Raises:
            ValueError: a subscriber without a topic.
            MercureError: the hub did not answer; the subclass says why.
        """
        state = self.state
        path = expand_subscription_topic(None if topic is None else as_topic(topic), subscriber)
        through = None
        if state.is_embedded:
            url = "http://localhost" + path
            through = socket.socket(fileno=state.embedded_hub().connect())
        else:
            base = self.hub_base_url(public=False)
            url = base + path.removeprefix(HUB_PATH)
            path = urlsplit(url).path
        token = self.create_jwt("subscriber_secret_key", subscribe=[path])
        answer = client.request("GET", url, token=token, through=through)
        if answer.status == 404 and subscriber is not None:
            return {"@context": "https://mercure.rocks/", "id": path, "type": "Subscriptions", "subscriptions": []}
        if answer.status == 404:
            raise HubError("the hub lists no subscriptions: they are switched off, or MERCURE_HUB_URL is wrong")
        answer.raise_for_status()
        return _subscriptions_document(answer.body)

    def is_connected(self, topic: Any, **payload_filter: Any) -> bool:
        """Whether anyone is subscribed to a topic; with a filter, anyone whose payload has these values.

        Raises:
            MercureError: the hub did not answer; the subclass says why.
        """
        active = [each for each in self.get_subscriptions(topic)["subscriptions"] if each.get("active", True)]
        return any(_matches(each.get("payload"), payload_filter) for each in active)

    def _template_subscriptions(self, topic: Any) -> list[dict[str, Any]]:
        return list(self.get_subscriptions(topic)["subscriptions"])


def mercure_publish(topic: Any, data: Any = None, **kwargs: Any) -> str:
    """Publish with the extension of the current application: see :meth:`MercureSSE.publish`.

    Raises:
        RuntimeError: there is no application context.
    """
    extension: MercureSSE = current_app.extensions["mercure_sse"].instance
    return extension.publish(topic, data, **kwargs)


def _event_id(body: bytes) -> str:
    """The id that a hub answers: one line of text. A page of whatever stands in front of a hub is none."""
    text = body.decode(errors="replace").strip()
    if not text or "<" in text or "\n" in text or "\ufffd" in text:
        raise HubError("the answer holds no id: the update may not have been published; is MERCURE_HUB_URL right?")
    return text


def _subscriptions_document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    listed = document.get("subscriptions", []) if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(listed, list) or not all(isinstance(e, dict) for e in listed):
        raise HubError("the answer is no subscription document: is MERCURE_HUB_URL right?")
    return document if document.get("type") == "Subscription" else {**document, "subscriptions": listed}


def _subscription_topic(topic: Any, subscriber: str | None = None) -> str:
    return expand_subscription_topic(as_topic(topic), subscriber)


def _matches(payload: Any, wanted: dict[str, Any]) -> bool:
    if not wanted:
        return True
    return isinstance(payload, dict) and all(
        name in payload and payload[name] == value for name, value in wanted.items()
    )


def _request_host_url() -> str:
    if has_request_context():
        scheme, host = request.scheme, request.host
        # The Host header is the client's; it ends up in pages.
        if scheme in ("http", "https") and _HOST.fullmatch(host):
            return f"{scheme}://{host}"
        raise BadRequest("The Host header is no host name.")
    app = current_app if has_app_context() else None
    if app is not None and app.config.get("SERVER_NAME"):
        return f"{app.config['PREFERRED_URL_SCHEME']}://{app.config['SERVER_NAME']}"
    raise RuntimeError(
        "the hub is at the host of the request, and there is no request: call this in a view, or set SERVER_NAME or "
        "MERCURE_HUB_URL"
    )


def _shared_domain(hub: str, application: str) -> str | None:
    """The domain of a cookie that the application sets for the hub; None: the application's own host."""
    if hub == application or _is_address(hub) or _is_address(application):
        return None
    if not application:
        return hub if "." in hub else None
    shared: list[str] = []
    for ours, theirs in zip(reversed(hub.split(".")), reversed(application.split(".")), strict=False):
        if ours != theirs:
            break
        shared.insert(0, ours)
    return ".".join(shared) if len(shared) > 1 else None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
