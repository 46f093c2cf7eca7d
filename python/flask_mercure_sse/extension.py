"""The extension: publish, subscription URLs, tokens, cookies, and who is subscribed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import quote, urljoin, urlsplit

from flask import current_app, has_app_context, has_request_context, json, request
from markupsafe import Markup

from . import client, transactions
from ._native import Hub, expand_subscription_topic, expand_subscriptions_path
from .background import BackgroundStats
from .blueprint import hub_blueprint
from .cli import cli
from .cookies import shared_domain
from .delivery import Delivery
from .errors import HubError, InvalidUpdateError, MercureError, may_pass
from .events import Subscription
from .grants import EVERYTHING, warn_of_selectors
from .hosts import base_url, request_host
from .settings import HUB_PATH, NAMES, MercureSSEState, check_url, current_extension, load
from .signals import publish_signal
from .tokens import check_dialect
from .topics import Selector, URLPattern, as_topic, as_topics, topic
from .update import Update

if TYPE_CHECKING:
    from blinker import Signal
    from flask import Flask
    from werkzeug.wrappers import Response

PayloadGetter = Callable[[Any], "Mapping[str, Any] | None"]
_Getter = TypeVar("_Getter", bound=PayloadGetter)
_Response = TypeVar("_Response", bound="Response")


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
        public_hub_url: str | bool | None = None,
        publisher_jwt: str | None = None,
        subscriber_secret_key: str | bytes | None = None,
        publisher_secret_key: str | bytes | None = None,
        hub_allow_publish: bool | None = False,
        hub_allow_anonymous: bool | None = True,
        hub_subscriptions: bool | None = True,
        hub_keepalive_interval: float | None = 15,
        hub_reconciliation_length: int | None = None,
        authz_cookie_name: str | None = None,
        type_is_topic: bool | None = False,
        hub: bool | None = None,
        protocol: str = "0.x",
        jwt_ttl: int = 24 * 3600,
        jwt_issuer: str | None = None,
        jwt_audience: str | None = None,
        connect_timeout: float = 2,
        read_timeout: float = 10,
        publish_background: bool | None = False,
        publish_queue_length: int = 1000,
        publish_drain_seconds: float = 5,
        hub_transport: str | None = None,
    ) -> None:
        """Set the extension up for an application; any number of them, each once.

        Raises:
            ValueError: a setting that cannot be used; the message names it.
            RuntimeError: the application has the extension already.
        """
        given = {name: value for name, value in locals().items() if name in NAMES}
        if "mercure_sse" in app.extensions:
            raise RuntimeError(f"the application {app.name!r} has MercureSSE already: call init_app(app) once")
        self.app = app
        app.extensions["mercure_sse"] = load(app, self, given)
        transactions.prepare()
        app.register_blueprint(hub_blueprint)
        app.cli.add_command(cli)
        app.jinja_env.globals.update(
            mercure_hub_url=self._template_hub_url,
            mercure_authentified_hub_url=self._template_authentified_hub_url,
            mercure_subscriber_jwt=self.create_subscription_jwt,
            mercure_topic=_template_topic,
            mercure_selector=Selector,
            mercure_subscription_topic=self._template_subscription_topic,
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
        retry: int | str | None = None,
        jwt: str | None = None,
        hub_url: str | None = None,
        after_commit: Any = None,
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
            after_commit: a session of SQLAlchemy: publish once it commits, drop the update if it rolls back. What goes
                wrong then is logged, since the commit has happened. A transaction is begun if there is none.

        Raises:
            InvalidUpdateError: the update or ``hub_url`` breaks a rule; nothing was published.
            MercureError: the hub did not take it; the subclass says why. With MERCURE_PUBLISH_BACKGROUND and an
                external hub never: see :attr:`background`.

        >>> from flask import Flask
        >>> app = Flask(__name__)
        >>> app.testing = True
        >>> MercureSSE(app).publish("/books/1", {"title": "Walden"}, id="urn:example:1")
        'urn:example:1'
        """
        state = self.state
        update = self._update(state, topic, data, private, id, type, retry)
        delivery = Delivery.of(state, jwt, hub_url)
        return delivery.send(update) if after_commit is None else delivery.send_with(after_commit, update)

    async def apublish(
        self,
        topic: Any,
        data: Any = None,
        private: bool = False,
        id: str | None = None,
        type: str | bool | None = None,
        retry: int | str | None = None,
        jwt: str | None = None,
        hub_url: str | None = None,
        after_commit: Any = None,
    ) -> str:
        """What :meth:`publish` does, for async views: the event loop goes on while the hub answers. Objects are asked,
        and sessions used, in the thread of the caller.

        >>> from flask import Flask
        >>> app = Flask(__name__)
        >>> app.testing = True
        >>> mercure = MercureSSE(app)
        >>> asyncio.run(mercure.apublish("a", "b", id="urn:example:1"))
        'urn:example:1'
        """
        state = self.state
        update = self._update(state, topic, data, private, id, type, retry)
        delivery = Delivery.of(state, jwt, hub_url)
        if after_commit is not None:
            return delivery.send_with(after_commit, update)
        return await asyncio.to_thread(delivery.send, update) if delivery.waits else delivery.send(update)

    def publish_many(
        self,
        updates: Iterable[Any],
        jwt: str | None = None,
        hub_url: str | None = None,
        after_commit: Any = None,
    ) -> list[str]:
        """Publish updates one after the other over one connection, and return their ids.

        Args:
            updates: each a dict of keyword arguments of :meth:`publish` (but for those that this method has), a tuple
                or list of its positional arguments, an :class:`Update`, or an object that brings its own topic. All are
                checked before the first is sent.

        Raises:
            InvalidUpdateError: one of them breaks a rule; nothing was published.
            MercureError: the hub did not take one of them: the ids of those before it are its ``published``.

        >>> from flask import Flask
        >>> app = Flask(__name__)
        >>> app.testing = True
        >>> mercure = MercureSSE(app)
        >>> mercure.publish_many([("a", "1", False, "urn:x:1"), {"topic": "a", "data": "2", "id": "urn:x:2"}])
        ['urn:x:1', 'urn:x:2']
        """
        state = self.state
        batch = []
        for number, each in enumerate(updates):
            try:
                batch.append(self._as_update(state, each))
            except InvalidUpdateError as error:
                raise InvalidUpdateError(f"update {number}: {error}") from None
        delivery = Delivery.of(state, jwt, hub_url)
        if after_commit is not None:
            return [delivery.send_with(after_commit, update) for update in batch]
        published: list[str] = []
        for update in batch:
            try:
                published.append(delivery.send(update))
            except MercureError as error:
                error.published = published
                raise
        return published

    @property
    def background(self) -> BackgroundStats:
        """What became of the updates that were handed to the background queue (MERCURE_PUBLISH_BACKGROUND)."""
        return self.state.queues.stats

    def flush(self, timeout: float = 10) -> bool:
        """Wait until the background queue is empty, at most ``timeout`` seconds, and return whether it is."""
        return self.state.queues.flush(timeout)

    @contextmanager
    def capture(self) -> Iterator[list[Update]]:
        """In tests: updates go into the list, and to no hub.

        >>> from flask import Flask
        >>> mercure = MercureSSE(Flask(__name__))
        >>> with mercure.capture() as updates:
        ...     _ = mercure.publish("/books/1", {"title": "Walden"}, private=True)
        >>> updates[0].topic, updates[0].json()["title"], updates[0].private
        ('/books/1', 'Walden', True)
        """
        captures = self.state.captures
        updates: list[Update] = []
        captures.append(updates)
        try:
            yield updates
        finally:
            captures[:] = [each for each in captures if each is not updates]

    def _update(self, state: MercureSSEState, *args: Any, **kwargs: Any) -> Update:
        return Update.of(*args, **kwargs, type_is_topic=state.type_is_topic)

    def _as_update(self, state: MercureSSEState, given: Any) -> Update:
        if isinstance(given, Update):
            return given
        if isinstance(given, Mapping):
            other = ", ".join(repr(name) for name in given if name not in _OF_AN_UPDATE)
            if other or "topic" not in given:
                raise InvalidUpdateError(
                    f"write a dict of {', '.join(_OF_AN_UPDATE)}, with a topic; not {other or 'without'}"
                )
            return self._update(state, **given)
        if isinstance(given, (tuple, list)):
            if not 1 <= len(given) <= len(_OF_AN_UPDATE):
                raise InvalidUpdateError(f"write a tuple of {', '.join(_OF_AN_UPDATE)}, as many as are needed")
            return self._update(state, *given)
        return self._update(state, given)

    def publish_signal(self, signal: Signal, *args: Any, **kwargs: Any) -> None:
        """Publish an update each time ``signal`` is sent: see :func:`flask_mercure_sse.publish_signal`."""
        kwargs["sse"] = self
        publish_signal(signal, *args, **kwargs)

    # Topics and URLs

    @staticmethod
    def topic(template: str, /, *values: Any, **named: Any) -> str:
        """Put values into a topic so that they cannot select others: see :func:`flask_mercure_sse.topic`.

        >>> MercureSSE.topic("/users/{}", "*")
        '/users/%2A'
        """
        return topic(template, *values, **named)

    def hub_base_url(self, public: bool = True) -> str:
        """The hub's URL, without a query: the one for browsers, or the one for the application itself.

        The one for browsers may lack its scheme or host, as MERCURE_PUBLIC_HUB_URL may.

        Raises:
            RuntimeError: the hub is at the host of the request, and there is no request.
        """
        state = self.state
        # In debug and testing mode the embedded hub stands in for the one of the settings.
        stands_in = state.is_embedded and not state.hub
        if public and isinstance(state.public_hub_url, str) and not stands_in:
            return state.public_hub_url
        # The application's own tokens never go to a host that a client has named.
        if state.is_embedded:
            return base_url(is_mounted=True) + HUB_PATH
        if public and True in (state.public_hub_url, state.hub_url):
            return base_url(is_mounted=False) + HUB_PATH
        return state.external_url

    def hub_url(
        self,
        topics: Any = None,
        subscriber_jwt: str | None = None,
        with_subscriptions: bool = False,
        public: bool = True,
    ) -> str:
        """The URL that subscribes to a topic or several.

        Args:
            topics: exact topics or "*"; in protocol 0.x also URI templates, in 1.0 :class:`URLPattern`.
            subscriber_jwt: a token to put into the URL, for clients that can send neither header nor cookie.
            with_subscriptions: whether the subscriptions to these topics are topics, too.
            public: the URL for browsers, or the one for the application itself.

        Raises:
            ValueError: a URL pattern in 0.x, or a token in 1.0, which has none in URLs.
            RuntimeError: the hub is at the host of the request, and there is no request.
        """
        state = self.state
        selected = self._selected(topics, with_subscriptions)
        fields = [f"{_parameter(state, topic)}={quote(topic, safe='')}" for topic in selected]
        if subscriber_jwt:
            if state.protocol == "1.0":
                raise ValueError("protocol 1.0 has no tokens in URLs: use set_authz_cookie(), or send a header")
            fields.append(f"authorization={quote(subscriber_jwt, safe='')}")
        return f"{self.hub_base_url(public)}?{'&'.join(fields)}"

    def authentified_hub_url(
        self, topics: Any = None, payload: dict[str, Any] | None = None, with_subscriptions: bool = False
    ) -> str:
        """The URL that subscribes to topics with a token for just these topics in it."""
        topics = topics or [EVERYTHING]
        jwt = self._subscription_jwt(self._selected(topics, with_subscriptions), topics, payload)
        return self.hub_url(topics, jwt, with_subscriptions)

    def subscription_topic(self, topic: Any, subscriber: Any = None) -> str:
        """The topic of the events that tell who subscribes to ``topic``, or of those of one subscriber: its id, or an
        object that has it as ``id``.

        In protocol 0.x, the topic of all is one that petasos adds; followed by ``/{subscriber}`` it is a URI template
        that selects them on every hub.
        """
        state, name, subscriber = self.state, as_topic(topic), getattr(subscriber, "id", subscriber)
        if state.protocol == "0.x":
            return expand_subscription_topic(name, subscriber)
        path = self._subscriptions_path(name, subscriber)
        return path if subscriber else URLPattern(f"{path}/:subscriber")

    def _subscriptions_path(self, topic: str | None, subscriber: str | None) -> str:
        """The path of the subscriptions API, as tokens name it."""
        state = self.state
        if state.protocol == "0.x":
            return expand_subscription_topic(topic, subscriber)
        match_type = "urlpattern" if isinstance(topic, URLPattern) else "exact"
        path = expand_subscriptions_path(topic, subscriber, match_type)
        base = HUB_PATH if state.is_embedded else urlsplit(state.external_url).path
        return base + path.removeprefix(HUB_PATH)

    def _selected(self, topics: Any, with_subscriptions: bool) -> list[str]:
        selected = as_topics(topics)
        if not with_subscriptions:
            return selected
        events = [self.subscription_topic(topic) for topic in selected]
        if self.state.protocol == "0.x":
            # What every hub publishes is under the topic of one subscriber.
            events = [Selector(f"{topic}/{{subscriber}}") for topic in events]
        return selected + events

    def add_link(self, response: _Response, topic: Any = None) -> _Response:
        """Tell clients where the hub is, and what to subscribe to for news of this resource (section "Discovery").

        Args:
            topic: the canonical URL of the resource; without one only the hub is named.

        >>> from flask import Flask, Response
        >>> app = Flask(__name__)
        >>> mercure = MercureSSE(app, hub_url="https://example.com/.well-known/mercure")
        >>> mercure.add_link(Response(), "/books/1").headers.getlist("Link")
        ['<https://example.com/.well-known/mercure>; rel="mercure"', '</books/1>; rel="self"']
        """
        response.headers.add("Link", f'<{self.hub_base_url()}>; rel="mercure"')
        if topic is not None:
            # An address, not a parameter: only what would end it is encoded.
            url = quote(as_topic(topic), safe="!#$%&'()*+,/:;=?@[]~{}")
            response.headers.add("Link", f'<{url}>; rel="self"')
        return response

    def _template_hub_url(self, *args: Any, **kwargs: Any) -> Markup:
        # Every topic and token is percent-encoded and the base is checked, so the URL holds no character that could
        # end a string or an attribute; "&topic=" and "&authorization=" are no character references.
        return Markup(self.hub_url(*args, **kwargs))

    def _template_authentified_hub_url(self, *args: Any, **kwargs: Any) -> Markup:
        return Markup(self.authentified_hub_url(*args, **kwargs))

    def _template_subscription_topic(self, topic: Any, sub: Any = None, **names: Any) -> str:
        # 0.4.1 named the parameter so.
        return self.subscription_topic(topic, **{"subscriber": sub, **names})

    # Tokens and cookies

    def payload_getter(self, getter: _Getter) -> _Getter:
        """Register what tokens say about their subscriber: a function that returns a dict or None. Its argument are the
        topics as they were given, in a list or tuple also if there is one."""
        self._payload_getter = getter
        return getter

    def create_jwt(self, key: str, **data: Any) -> str:
        """Sign a token that grants ``data``, in the dialect of the application; it lasts MERCURE_JWT_TTL seconds.

        Args:
            key: "publisher_secret_key" or "subscriber_secret_key".
            data: "publish" and "subscribe", lists of topics, and "payload", an object.

        Raises:
            ValueError: there is no such key, it is not set, or the dialect does not know such a grant.
        """
        state, role = self.state, key.removesuffix("_secret_key")
        if role not in ("publisher", "subscriber"):
            raise ValueError('create_jwt: write "publisher_secret_key" or "subscriber_secret_key", the name of the key')
        token = state.sign(state.key_of(role), data)
        # Most publishers may publish on every topic, on purpose.
        published = [topic for topic in as_topics(data.get("publish")) if topic != "*"]
        warn_of_selectors(state, [*published, *as_topics(data.get("subscribe"))])
        return token

    def create_subscription_jwt(self, topics: Any, payload: dict[str, Any] | None = None) -> str:
        """Sign a token that receives private updates of ``topics``; ``payload`` is merged over the payload getter's."""
        return self._subscription_jwt(as_topics(topics), topics, payload)

    def _subscription_jwt(self, granted: list[str], topics: Any, payload: Mapping[str, Any] | None) -> str:
        said = None
        if self._payload_getter is not None:
            said = self._payload_getter(topics if isinstance(topics, (list, tuple, set, frozenset)) else (topics,))
        if said is not None and not isinstance(said, Mapping):
            raise TypeError(f"the payload getter: return a dict or None, not a {type(said).__name__}")
        merged = {**(said or {}), **(payload or {})}
        return self.create_jwt("subscriber_secret_key", subscribe=granted, **({"payload": merged} if merged else {}))

    def set_authz_cookie(
        self,
        response: _Response,
        topics: Any = None,
        jwt: str | None = None,
        payload: dict[str, Any] | None = None,
        secure: bool | None = None,
        **set_cookie_kwargs: Any,
    ) -> _Response:
        """Give the browser a cookie with a subscriber token, for ``topics`` (by default all), and return the response.

        The cookie reaches the hub only: its path, and its host or the domain that application and hub share.
        It lasts as long as its token.

        Args:
            topics: what the token grants. jwt: a token of your own instead. payload: what it says about its bearer.
            secure: whether it is sent over TLS only; by default, if the hub's URL says https.
            set_cookie_kwargs: what Flask's ``set_cookie`` takes, instead of what was found out.
        """
        token = jwt or self.create_subscription_jwt([EVERYTHING] if topics is None else topics, payload)
        scope = self._cookie_scope(secure)
        if jwt is None and self.state.jwt_ttl and "expires" not in set_cookie_kwargs:
            # A cookie with an expired token would keep the browser out even where no token is needed.
            scope["max_age"] = self.state.jwt_ttl
        response.set_cookie(self.state.authz_cookie_name, token, **{**scope, **set_cookie_kwargs})
        return response

    def delete_authz_cookie(
        self,
        response: _Response,
        topics: Any = None,
        jwt: str | None = None,
        payload: dict[str, Any] | None = None,
        secure: bool | None = None,
        **set_cookie_kwargs: Any,
    ) -> _Response:
        """Take the cookie back; pass what was passed to :meth:`set_authz_cookie`."""
        attributes = {**self._cookie_scope(secure), **set_cookie_kwargs, "max_age": 0, "expires": 0}
        response.set_cookie(self.state.authz_cookie_name, "", **attributes)
        return response

    def _cookie_scope(self, secure: bool | None) -> dict[str, Any]:
        state = self.state
        page_url = f"{request.scheme}://{request_host()}/" if has_request_context() else ""
        # The hub's URL may lack what the page has.
        hub = urlsplit(urljoin(page_url, self.hub_base_url()))
        host, page = (hub.hostname or "").rstrip("."), (urlsplit(page_url).hostname or "").rstrip(".")
        domain = shared_domain(host, page)
        if domain is None and page and host != page:
            state.warn_once(
                "cookie",
                f"no cookie of {page!r} reaches the Mercure hub at {host!r}: they share no domain of their own. Use "
                "authentified_hub_url(), or give the hub a name beside the application's.",
            )
        if secure is None:
            # Browsers take a cookie of such a name only if it is secure; on localhost also without TLS.
            secure = hub.scheme == "https" or state.authz_cookie_name.startswith("__Secure-")
        return {"httponly": True, "samesite": "Strict", "path": hub.path or "/", "domain": domain, "secure": secure}

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
        path = self._subscriptions_path(None if topic is None else as_topic(topic), subscriber)
        through = None
        if state.is_embedded:
            url = "http://localhost" + path
            through = state.connect_embedded()
        else:
            url = state.external_url + path[path.index("/subscriptions") :]
            path = urlsplit(url).path
        token = state.sign(state.own_key("subscriber") or state.key_of("subscriber"), {"subscribe": [path]})
        answer = client.request("GET", url, token=token, through=through, timeouts=state.timeouts)
        if answer.status == 404 and subscriber is not None:
            if state.protocol == "1.0":
                return {"id": path, "type": "subscriptions", "subscriptions": []}
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

    def subscribe(
        self,
        topics: Any,
        last_event_id: str | None = None,
        jwt: str | None = None,
        hub_url: str | None = None,
    ) -> Subscription:
        """Receive updates, in a worker or a script: an iterator over :class:`Event` that never ends by itself.

        It has a token for ``topics``, if there is a subscriber key; it comes back after every break, from the last
        event it has received, with pauses that grow to half a minute.

        Args:
            topics: what :meth:`hub_url` takes.
            last_event_id: the id to go on from, "earliest" for everything the hub has kept; by default from now on.
            jwt: a token to use instead.
            hub_url: the hub to subscribe to, instead of the application's.

        Raises:
            ValueError: ``last_event_id`` holds what no id holds.
            MercureError: the hub refuses, now or in the loop; a hub that is away is waited for.

        >>> from flask import Flask
        >>> app = Flask(__name__)
        >>> app.testing = True
        >>> mercure = MercureSSE(app)
        >>> with mercure.subscribe("/books/{id}") as events:
        ...     _ = mercure.publish("/books/1", "Walden")
        ...     next(events).data
        'Walden'
        """
        selected = as_topics(topics)
        if not jwt:
            warn_of_selectors(self.state, selected)
        return self._subscribe(selected, last_event_id, jwt, hub_url)

    def _subscribe(
        self,
        selected: list[str],
        last_event_id: str | None = None,
        jwt: str | None = None,
        hub_url: str | None = None,
    ) -> Subscription:
        """Subscribe as :meth:`subscribe` does, without a warning of selectors."""
        state = self.state
        query = "&".join(f"{_parameter(state, topic)}={quote(topic, safe='')}" for topic in selected)
        is_embedded = state.is_embedded and hub_url is None
        url = "" if is_embedded else check_url("hub_url", hub_url) or state.external_url
        if jwt:
            jwt = client.check_token(jwt)
        if last_event_id is not None and not _is_event_id(last_event_id):
            raise ValueError("last_event_id: write the id of an event: a text without control characters")

        def connect(cursor: str | None) -> client.Stream:
            key = state.subscriber_secret_key if hub_url else state.own_key("subscriber")
            token = jwt or (state.sign(key, {"subscribe": selected}) if key else None)
            through = state.connect_embedded() if is_embedded else None
            target = f"{url or 'http://localhost' + HUB_PATH}?{query}"
            return client.Stream(target, token=token, last_event_id=cursor, through=through, timeouts=state.timeouts)

        subscription = Subscription(connect, last_event_id, state.app.logger)
        try:
            return subscription.open()
        except MercureError as error:
            if not may_pass(error):
                raise
            return subscription

    def _template_subscriptions(self, topic: Any) -> list[dict[str, Any]]:
        return list(self.get_subscriptions(topic)["subscriptions"])


def _template_topic(subject: Any, *values: Any, **named: Any) -> str:
    """With values, the topic that they make; without, the topic of an object, as in 0.4.1."""
    return topic(subject, *values, **named) if values or named else as_topic(subject)


def mercure_publish(topic: Any, data: Any = None, **kwargs: Any) -> str:
    """Publish with the extension of the current application: see :meth:`MercureSSE.publish`.

    Raises:
        RuntimeError: there is no application context, or the application has no extension.
    """
    return current_extension().publish(topic, data, **kwargs)


_OF_AN_UPDATE: Final = ("topic", "data", "private", "id", "type", "retry")


def _parameter(state: MercureSSEState, topic: str) -> str:
    """The query parameter that selects a topic."""
    check_dialect(topic, state.protocol)
    if state.protocol == "1.0":
        return "match_urlpattern" if isinstance(topic, URLPattern) else "match"
    return "topic"


def _is_event_id(text: Any) -> bool:
    return isinstance(text, str) and not re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", text)


def _subscriptions_document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    listed = document.get("subscriptions", []) if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(listed, list) or not all(isinstance(e, dict) for e in listed):
        raise HubError("the answer is no subscription document: is MERCURE_HUB_URL right?")
    return (
        document if document.get("type") in ("Subscription", "subscription") else {**document, "subscriptions": listed}
    )


def _matches(payload: Any, wanted: dict[str, Any]) -> bool:
    if not wanted:
        return True
    return isinstance(payload, dict) and all(
        name in payload and payload[name] == value for name, value in wanted.items()
    )
