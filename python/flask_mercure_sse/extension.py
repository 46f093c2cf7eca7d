"""The extension: publish, subscription URLs, tokens, cookies, and who is subscribed.

:class:`MercureSSE` has the methods and their documentation; the modules that it imports do the work. Every method uses
the state of the current application.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from blinker import Signal
from flask import Flask, Response, current_app, has_app_context, request_started
from flask.typing import ResponseReturnValue

from . import (
    committed,
    cookies,
    cursors,
    exported,
    listing,
    publishing,
    settings,
    stats,
    stream_tags,
    subscription,
    topics,
    transactions,
    urls,
)
from ._native import Hub
from .authorization import PayloadGetter
from .background import BackgroundStats
from .blueprint import hub_blueprint
from .cli import cli
from .client_files import client_blueprint
from .cookies import AnyResponse
from .drafts import Draft, as_drafts, numbered
from .errors import MercureError
from .events import EventClass, Events
from .grants import EVERYTHING
from .publishing import Delivery
from .signals import publish_signal
from .state import MercureSSEState, current_state
from .stats import Stats
from .subscription import Subscription
from .templates import prepare as prepare_templates
from .templates import template_globals
from .topics import as_topics
from .update import Update
from .users import Users, UserTopics, cookie_grants, keeps_cookie, page_user, user_blueprint

if TYPE_CHECKING:
    from prometheus_client.registry import CollectorRegistry

    # Imported at the first use: each takes as long as several other modules, and most applications use none of them.
    from .datastar import Datastar
    from .models import Broadcasts
    from .turbo import Turbo

AnyPayloadGetter = TypeVar("AnyPayloadGetter", bound=PayloadGetter)
AnyUserTopics = TypeVar("AnyUserTopics", bound=UserTopics)


class MercureSSE:
    """Publishes updates of Flask applications to browsers.

    >>> from flask import Flask
    >>> app = Flask(__name__)
    >>> mercure = MercureSSE(app, hub_url="https://example.com/.well-known/mercure")
    >>> mercure.hub_url("books/1")
    'https://example.com/.well-known/mercure?topic=books%2F1'

    Keyword arguments are the settings, in lower case and without ``MERCURE_``. The application's config wins over them.
    docs/reference/settings.md has all of them.
    """

    def __init__(self, app: Flask | None = None, **settings: Any) -> None:
        self.app: Flask | None = None
        self._users, self._events = Users(), Events()
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
        last_event_id_in_urls: bool | None = False,
        after_commit_retry: bool | None = True,
        authz_cookie_grace: int = 24 * 3600,
        hub_retry_interval: float | None = 3,
    ) -> None:
        """Set up an application. An extension may serve several applications; each is set up once.

        Raises:
            ValueError: a setting cannot be used; the message names it.
            RuntimeError: the application has the extension already.

        >>> from flask import Flask
        >>> mercure = MercureSSE()
        >>> mercure.init_app(Flask(__name__), type_is_topic=True)
        """
        keywords = {name: value for name, value in locals().items() if name in settings.NAMES}
        if "mercure_sse" in app.extensions:
            raise RuntimeError(f"the application {app.name!r} has MercureSSE already: call init_app(app) once")
        self.app = app
        state = app.extensions["mercure_sse"] = MercureSSEState(app, self, settings.load(app.config, keywords))
        transactions.prepare()
        for blueprint in (hub_blueprint, client_blueprint, user_blueprint):
            app.register_blueprint(blueprint)
        self._users.prepare(state)
        stream_tags.prepare(app)
        prepare_templates(app)
        state.events = self._events
        app.cli.add_command(cli)
        app.jinja_env.globals.update(
            template_globals(
                hub_url=self.hub_url,
                authentified_hub_url=self.authentified_hub_url,
                subscriber_jwt=self.create_subscription_jwt,
                subscription_topic=self.subscription_topic,
                subscriptions=self.get_subscriptions,
                last_event_id=cursors.NOW if state.settings.last_event_id_in_urls else None,
                keeps_cookie=lambda: keeps_cookie(state),
                cookie_grants=lambda topics: cookie_grants(state, topics),
                page_user=lambda: page_user(state),
            )
        )
        if not state.embedded.is_used:
            state.authorization.warn_of_expiry()
        if state.settings.last_event_id_in_urls:
            request_started.connect(cursors.read_at_the_beginning, app)

    @property
    def state(self) -> MercureSSEState:
        """The state of the current application, or of the last one that was set up.

        Raises:
            RuntimeError: no application was set up.
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
        """The hub inside this process. None: the application uses a hub elsewhere. Set to None, as in 0.4.1: it uses
        a hub elsewhere from now on.

        Raises:
            ValueError: the hub cannot use a setting; the message names it.
        """
        embedded = self.state.embedded
        return embedded.hub() if embedded.is_used else None

    @hub.setter
    def hub(self, hub: None) -> None:
        if hub is not None:
            raise AttributeError("hub: only None can be set, for a hub elsewhere; MERCURE_HUB embeds a hub")
        self.state.settings.embed_no_hub()

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
            topic: a topic, or several: the first is the canonical one. An object may bring its own topic.
            data: text, bytes in UTF-8, a value that Flask can write as JSON, or a function that returns one of these.
            private: whether only subscribers whose token grants one of the topics receive the update.
            id: the id of the update; by default the hub makes one.
            type: the type of the event; True: the topic. None: that of the data's class, see :meth:`event`.
            retry: milliseconds after which a browser reconnects.
            jwt: the token to publish with, on a hub elsewhere.
            hub_url: a hub elsewhere to publish on, instead of the application's hub.
            after_commit: a session of SQLAlchemy. The update is published once the session commits, and dropped if the
                session rolls back. Objects and functions are asked for topic and data just before the commit, after
                the flush, when new rows have their ids. A failure to publish is logged, because the commit has
                happened; MERCURE_AFTER_COMMIT_RETRY says whether the update is sent again. If the session has no
                transaction, one is begun.

        Raises:
            InvalidUpdateError: the update or ``hub_url`` breaks a rule; nothing was published.
            TypeError: the topic is a value such as a dict or a number, or ``after_commit`` is no session.
            MercureError: the hub did not accept the update; the subclass says why. Never raised where a queue publishes
                in the background: see :attr:`background`.

        >>> from flask import Flask
        >>> app = Flask(__name__)
        >>> app.testing = True
        >>> MercureSSE(app).publish("/books/1", {"title": "Walden"}, id="urn:example:1")
        'urn:example:1'
        """
        state = self.state
        draft = Draft(topic, data, private, id, type, retry, state.settings.type_is_topic, state.typed_events)
        delivery = Delivery.from_arguments(state, jwt, hub_url)
        return (
            delivery.send(draft.update()) if after_commit is None else committed.publish(delivery, after_commit, draft)
        )

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
        """Publish an update as :meth:`publish` does, from an async view: the event loop runs while the hub answers.

        The methods of objects and sessions are called in the thread of the caller.

        >>> import asyncio
        >>> from flask import Flask
        >>> app = Flask(__name__)
        >>> app.testing = True
        >>> mercure = MercureSSE(app)
        >>> asyncio.run(mercure.apublish("a", "b", id="urn:example:1"))
        'urn:example:1'
        """
        state = self.state
        draft = Draft(topic, data, private, id, type, retry, state.settings.type_is_topic, state.typed_events)
        delivery = Delivery.from_arguments(state, jwt, hub_url)
        if after_commit is not None:
            return committed.publish(delivery, after_commit, draft)
        # Here, as it is a third of the time that the import of the package takes.
        import asyncio

        update = draft.update()
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
            updates: each a dict of keyword arguments of :meth:`publish` (from ``topic`` to ``retry``), a tuple or list
                of these arguments in their order, an :class:`Update`, or an object that brings its own topic. All are
                checked before the first is sent.
            jwt, hub_url, after_commit: as in :meth:`publish`.

        Raises:
            InvalidUpdateError: one of them breaks a rule; nothing was published.
            MercureError: the hub did not accept one of them. The ids of the updates before it are in ``published`` of
                the exception.

        >>> from flask import Flask
        >>> app = Flask(__name__)
        >>> app.testing = True
        >>> mercure = MercureSSE(app)
        >>> mercure.publish_many([("a", "1", False, "urn:x:1"), {"topic": "a", "data": "2", "id": "urn:x:2"}])
        ['urn:x:1', 'urn:x:2']
        """
        state = self.state
        batch = as_drafts(updates, state.settings.type_is_topic, state.typed_events)
        delivery = Delivery.from_arguments(state, jwt, hub_url)
        if after_commit is not None:
            return committed.publish_all(delivery, after_commit, batch)
        published: list[str] = []
        for update in numbered(batch, Draft.update):
            try:
                published.append(delivery.send(update))
            except MercureError as error:
                error.published = published
                raise
        return published

    @property
    def turbo(self) -> Turbo:
        """Publishes Turbo Streams: see :class:`flask_mercure_sse.turbo.Turbo`.

        >>> from flask import Flask
        >>> app = Flask(__name__)
        >>> app.testing = True
        >>> _ = MercureSSE(app).turbo.append("/rooms/1", "messages", html="<p>Hello</p>")
        """
        from .turbo import Turbo

        return Turbo(self.publish, self.state.app)

    @property
    def datastar(self) -> Datastar:
        """Publishes events of Datastar: see :class:`flask_mercure_sse.datastar.Datastar`.

        >>> from flask import Flask
        >>> app = Flask(__name__)
        >>> app.testing = True
        >>> _ = MercureSSE(app).datastar.patch_elements("/carts/1", '<b id="total">7</b>')
        """
        from .datastar import Datastar

        return Datastar(self.publish, self.state.app)

    @property
    def background(self) -> BackgroundStats:
        """Counters of the updates that were put into the background queues (MERCURE_PUBLISH_BACKGROUND)."""
        return self.state.queues.stats

    def stats(self) -> Stats:
        """What became of the updates of this application in this process, and the metrics of its embedded hub.

        >>> from flask import Flask
        >>> app = Flask(__name__)
        >>> app.testing = True
        >>> mercure = MercureSSE(app)
        >>> _ = mercure.publish("topic", "message")
        >>> mercure.stats().published
        1
        """
        return stats.stats(self.state)

    def register_metrics(self, registry: CollectorRegistry | None = None) -> None:
        """Export these counters through ``prometheus_client``, which the application installs, and the metrics of the
        embedded hub with them.

        Args:
            registry: where; None: the default registry of ``prometheus_client``.

        The metrics are ``flask_mercure_updates_total``, with the label ``result``, ``flask_mercure_updates_queued``,
        and those of ``docs/metrics.md``. In the multiprocess mode of ``prometheus_client``, which several workers need,
        the metrics of the embedded hub are left out: that mode can only add up what it counts itself.

        Raises:
            ImportError: there is no ``prometheus_client``.
            ValueError: the registry has them already: call this once for each registry.
        """
        exported.export(self.state, registry)

    def flush(self, timeout: float = 10) -> bool:
        """Wait until the background queues are empty, at most ``timeout`` seconds, and return whether they are."""
        return self.state.queues.flush(timeout)

    def capture(self) -> AbstractContextManager[list[Update]]:
        """Have updates put into a list instead of sending them, in a test.

        >>> from flask import Flask
        >>> mercure = MercureSSE(Flask(__name__))
        >>> with mercure.capture() as updates:
        ...     _ = mercure.publish("/books/1", {"title": "Walden"}, private=True)
        >>> updates[0].topic, updates[0].json()["title"], updates[0].private
        ('/books/1', 'Walden', True)
        """
        return publishing.capture(self.state)

    def publish_signal(self, signal: Signal, *args: Any, **kwargs: Any) -> None:
        """Publish an update each time ``signal`` is sent: see :func:`flask_mercure_sse.publish_signal`."""
        kwargs["sse"] = self
        publish_signal(signal, *args, **kwargs)

    @property
    def broadcasts(self) -> Broadcasts:
        """Publish the committed changes of a model of SQLAlchemy: see :meth:`flask_mercure_sse.models.Broadcasts`.

        As a function, ``mercure.broadcasts(Book, topic="/books/{id}", data=("id", "title"))``, or as a decorator.
        """
        from .models import Broadcasts

        return Broadcasts(self)

    def event(self, type: str) -> Callable[[EventClass], EventClass]:
        """Have a dataclass, a TypedDict or a pydantic model say what the data of a type of event is: a decorator.

        ``publish(topic, OrderPaid(...))`` then has this type, unless ``type=`` gives another. In debug and testing
        mode, an update whose data is not what the class says is refused; so is a dict that is published with
        ``type="order-paid"``. ``flask mercure types`` writes the classes for pages, as TypeScript or JSON Schema.

        Raises:
            TypeError: it is no such class, or a field has no form in JSON; the message names the field.
            ValueError: the type is none, or belongs to another class.

        >>> from dataclasses import dataclass
        >>> from flask import Flask
        >>> mercure = MercureSSE(Flask(__name__))
        >>> @mercure.event("order-paid")
        ... @dataclass
        ... class OrderPaid:
        ...     order: int
        ...     total: float
        >>> with mercure.capture() as updates:
        ...     _ = mercure.publish("/orders/7", OrderPaid(7, 9.5))
        >>> updates[0].type, updates[0].json()
        ('order-paid', {'order': 7, 'total': 9.5})
        """
        return partial(self._events.register, type)

    # Topics and URLs

    @staticmethod
    def topic(template: str, /, *values: Any, **named: Any) -> str:
        """Put values into a topic so that they cannot select others: see :func:`flask_mercure_sse.topic`.

        >>> MercureSSE.topic("/users/{}", "*")
        '/users/%2A'
        """
        return topics.topic(template, *values, **named)

    def hub_base_url(self, public: bool = True) -> str:
        """The hub's URL without a query.

        Args:
            public: the URL for browsers, which may lack its scheme or host if MERCURE_PUBLIC_HUB_URL does; otherwise
                the URL for the application itself.

        Raises:
            RuntimeError: the hub is at the host of the request, and there is no request.
        """
        return urls.hub_base_url(self.state, public)

    def hub_url(
        self,
        topics: Any = None,
        subscriber_jwt: str | None = None,
        with_subscriptions: bool = False,
        public: bool = True,
        last_event_id: str | None = None,
    ) -> str:
        """The URL that subscribes to a topic or several.

        Args:
            topics: exact topics or "*"; in protocol 0.x also URI templates, in 1.0 also :class:`URLPattern`.
            subscriber_jwt: a token to put into the URL, for clients that can send neither header nor cookie.
            with_subscriptions: whether the URL also subscribes to the subscription events of these topics.
            public: the URL for browsers; otherwise the URL for the application itself.
            last_event_id: the id of the event after which the stream begins. "now": the result of
                :meth:`last_event_id`; if the hub does not say it, the URL has none. "earliest": the stream begins with
                everything that the hub has kept. None: it begins when it is opened.

        Raises:
            ValueError: a URL pattern in 0.x, a token in 1.0, which has no tokens in URLs, an id that is none, or an
                empty topic.
            RuntimeError: the hub is at the host of the request, and there is no request.
        """
        state = self.state
        selected = urls.selected_topics(state, topics, with_subscriptions)
        cursor = cursors.resolve(state, last_event_id)
        return urls.subscribe_url(state, self.hub_base_url(public), selected, subscriber_jwt, cursor)

    def authentified_hub_url(
        self,
        topics: Any = EVERYTHING,
        payload: dict[str, Any] | None = None,
        with_subscriptions: bool = False,
        last_event_id: str | None = None,
    ) -> str:
        """The URL that subscribes to topics, with a token for just these topics in it.

        Args:
            topics: as in :meth:`hub_url`; left out: all. None or an empty list grants nothing, and the hub refuses the
                URL.
            with_subscriptions, last_event_id: as in :meth:`hub_url`.
            payload: as in :meth:`create_subscription_jwt`.

        Raises:
            ValueError: there is no subscriber key, or protocol 1.0 is in use, which has no tokens in URLs.
        """
        granted = urls.selected_topics(self.state, topics, with_subscriptions)
        jwt = self.state.authorization.subscription_jwt(granted, topics, payload, self._users.payload)
        return self.hub_url(topics, jwt, with_subscriptions, last_event_id=last_event_id)

    def last_event_id(self) -> str | None:
        """The id of the newest update of the hub, to be read before the data of a page.

        A stream that begins after it (``hub_url(topics, last_event_id=...)``) gets everything that is published after
        this call. In one request, every call returns the id of the first call. "earliest": the hub has no update yet.

        The embedded hub knows it. What other processes have published to the same log is known some milliseconds later.
        A hub elsewhere is asked at most once in a second, and for half a second at most. None: it does not answer, or
        does not say the id; the reason is logged once, and the hub is not asked again for ten seconds.

        >>> from flask import Flask
        >>> app = Flask(__name__)
        >>> app.testing = True
        >>> mercure = MercureSSE(app)
        >>> _ = mercure.publish("/books/1", "Walden", id="urn:example:1")
        >>> mercure.last_event_id()
        'urn:example:1'
        """
        return cursors.last_event_id(self.state)

    def subscription_topic(self, topic: Any, subscriber: Any = None) -> str:
        """The topic of the subscription events of ``topic``: an event tells that a subscription begins or ends.

        Args:
            subscriber: the id of one subscriber, or an object that has it as ``id``; None: all subscribers.

        In protocol 0.x, only petasos publishes on the topic of all subscribers. Followed by ``/{subscriber}``, it is a
        URI template that selects the events on every hub.

        >>> from flask import Flask
        >>> MercureSSE(Flask(__name__)).subscription_topic("/books/1")
        '/.well-known/mercure/subscriptions/%2Fbooks%2F1'
        """
        return urls.subscription_topic(self.state, topic, subscriber)

    def add_link(self, response: AnyResponse, topic: Any = None) -> AnyResponse:
        """Add ``Link`` headers that tell clients where the hub is (section "Discovery"), and return the response.

        Args:
            topic: the canonical URL of the resource, to be subscribed to; None: only the hub is named.

        >>> from flask import Flask, Response
        >>> app = Flask(__name__)
        >>> mercure = MercureSSE(app, hub_url="https://example.com/.well-known/mercure")
        >>> mercure.add_link(Response(), "/books/1").headers.getlist("Link")
        ['<https://example.com/.well-known/mercure>; rel="mercure"', '</books/1>; rel="self"']
        """
        for link in urls.links(self.state, topic):
            response.headers.add("Link", link)
        return response

    # Tokens and cookies

    def user_topics(self, function: AnyUserTopics) -> AnyUserTopics:
        """Register the function that returns the topics of the current user, and return it: a decorator.

        Responses then set the cookie, renew it in the second half of its life, set it anew when the topics or the
        payload are others, and delete it when nobody is logged in any more. The function is called once in each
        request, after the view; not for the hub, static files, and what caches share. It may be a coroutine function.
        If it fails, the error is logged, and raised in testing mode; cookie and response stay as they are.

        It returns a topic, or anything that yields topics. None, or no topics: nobody is logged in.

        >>> from flask import Flask, session
        >>> app = Flask(__name__)
        >>> app.config["SECRET_KEY"] = "at least 32 random bytes, please"
        >>> mercure = MercureSSE(app, hub=True)
        >>> @mercure.user_topics
        ... def topics_of_the_user():
        ...     return [mercure.topic("/users/{}", session["user"])] if "user" in session else None
        """
        self._users.topics = function
        return function

    def payload_getter(self, getter: AnyPayloadGetter) -> AnyPayloadGetter:
        """Register the function that says what tokens tell of their subscriber, and return it: a decorator.

        The function is called with the topics, in a list or tuple even if there is one, and returns a dict or None.
        """
        self._users.payload = getter
        return getter

    def create_jwt(self, key: str, **data: Any) -> str:
        """Sign a token in the dialect of the application. It lasts for MERCURE_JWT_TTL seconds.

        Args:
            key: "publisher_secret_key" or "subscriber_secret_key".
            data: the grants: "publish" and "subscribe", lists of topics, and "payload", an object.

        Raises:
            ValueError: there is no key of that name, it is not set or a public key, or the dialect has no such grant.
        """
        return self.state.authorization.create_jwt(key, data)

    def create_subscription_jwt(self, topics: Any, payload: dict[str, Any] | None = None) -> str:
        """Sign a token with which a subscriber receives private updates of ``topics``.

        Args:
            payload: what the token tells of its subscriber, merged over the result of the payload getter.

        Raises:
            ValueError: the subscriber key is not set or is a public key.
            TypeError: the payload getter returned neither a dict nor None.
        """
        return self.state.authorization.subscription_jwt(as_topics(topics), topics, payload, self._users.payload)

    def set_authz_cookie(
        self,
        response: ResponseReturnValue,
        topics: Any = EVERYTHING,
        jwt: str | None = None,
        payload: dict[str, Any] | None = None,
        secure: bool | None = None,
        **set_cookie_kwargs: Any,
    ) -> Response:
        """Give the browser a cookie with a subscriber's token, and return the response.

        The cookie reaches the hub and nothing else: it has the hub's path, and the hub's host or the domain that the
        application and the hub share. It outlives its token by MERCURE_AUTHZ_COOKIE_GRACE: a page whose token has ended
        is refused then (401) and can renew it, and is not let in as anonymous.

        Args:
            response: a response, or anything else that a view may return, such as a text.
            topics: the topics that the token grants; left out: all. None or an empty list: none.
            jwt: a token to use instead.
            payload: as in :meth:`create_subscription_jwt`.
            secure: whether the cookie is sent over TLS only; None: whether the hub's URL says https.
            set_cookie_kwargs: arguments of Flask's ``set_cookie``, which win.

        Raises:
            ValueError: a token is needed, and the subscriber key is not set or is a public key.
        """
        token = jwt or self.create_subscription_jwt(topics, payload)
        return cookies.set_cookie(
            self.state,
            cookies.as_response(response),
            token,
            lasts_as_its_token=jwt is None,
            secure=secure,
            options=set_cookie_kwargs,
        )

    def delete_authz_cookie(
        self,
        response: ResponseReturnValue,
        topics: Any = None,
        jwt: str | None = None,
        payload: dict[str, Any] | None = None,
        secure: bool | None = None,
        **set_cookie_kwargs: Any,
    ) -> Response:
        """Have the browser delete the cookie, and return the response. Arguments: as :meth:`set_authz_cookie`."""
        return cookies.delete_cookie(
            self.state, cookies.as_response(response), secure=secure, options=set_cookie_kwargs
        )

    # Subscriptions

    def get_subscriptions(self, topic: Any = None, subscriber: str | None = None) -> dict[str, Any]:
        """Ask the hub for its active subscriptions: to a topic, to all topics, or of one subscriber to a topic.

        Returns:
            The parsed JSON-LD document. Without subscriptions, its list "subscriptions" is empty.

        Raises:
            ValueError: a subscriber without a topic, or no subscriber key.
            MercureError: the hub did not answer, or refused; the subclass says why.
        """
        return listing.list_subscriptions(self.state, topic, subscriber)

    def is_connected(self, topic: Any, **payload_filter: Any) -> bool:
        """Ask the hub whether a subscriber is subscribed to a topic. With a filter: one whose payload has these values.

        It counts every subscription to exactly this topic: also those without a token, which receive no private update,
        but not those to a template or to ``*`` that select the topic. To ask whether a user receives private updates,
        give the tokens a payload and filter by it. Tabs of one user are subscribers of their own.

        Raises:
            MercureError: the hub did not answer, or refused; the subclass says why.
        """
        return listing.is_connected(self.state, topic, payload_filter)

    def subscribe(
        self,
        topics: Any,
        last_event_id: str | None = None,
        jwt: str | None = None,
        hub_url: str | None = None,
    ) -> Subscription:
        """Receive updates in a worker or a script: an endless iterator over :class:`Event`.

        With a subscriber key, it sends a token for ``topics``. After a break it connects again and goes on after the
        last event; the pauses between attempts grow to half a minute.

        Args:
            topics: as in :meth:`hub_url`.
            last_event_id: the id to go on after; "earliest": everything that the hub has kept; None: from now on.
            jwt: a token to use instead.
            hub_url: a hub to subscribe to, instead of the application's hub.

        Raises:
            ValueError: ``last_event_id`` is no id, or the dialect has no such selector.
            MercureError: the hub refuses the subscription, now or in the loop. An unavailable hub is waited for.

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
            self.state.authorization.selectors.warn(selected)
        return subscription.subscribe(self.state, selected, last_event_id, jwt, hub_url)


def mercure_publish(topic: Any, data: Any = None, **kwargs: Any) -> str:
    """Publish with the extension of the current application: see :meth:`MercureSSE.publish`.

    Raises:
        RuntimeError: there is no application context, or the application has no extension.
    """
    return current_state().instance.publish(topic, data, **kwargs)
