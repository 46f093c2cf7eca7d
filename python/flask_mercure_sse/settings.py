"""The settings of one application: where they come from, in which order, and what they may be."""

from __future__ import annotations

import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

from flask import current_app

from . import client, forks, tokens
from ._native import Hub, InvalidUpdate, check_key
from .background import BackgroundQueues
from .client import Timeouts
from .errors import TokenRefusedError, from_native
from .presence import Watch
from .update import Update

if TYPE_CHECKING:
    from flask import Flask

    from .extension import MercureSSE

HUB_URL_FROM_REQUEST: Final = True
"""As ``MERCURE_HUB_URL``: the hub is at the host of the request."""

HUB_PATH: Final = "/.well-known/mercure"
"""Where every hub answers unless its URL says otherwise."""

STANDALONE_HUB_URL: Final = "http://localhost:5500" + HUB_PATH
"""The hub of ``python -m flask_mercure_sse.server`` on the same machine."""

NAMES: Final = (
    "hub_url",
    "public_hub_url",
    "publisher_jwt",
    "subscriber_secret_key",
    "publisher_secret_key",
    "hub_allow_publish",
    "hub_allow_anonymous",
    "hub_subscriptions",
    "hub_keepalive_interval",
    "hub_reconciliation_length",
    "authz_cookie_name",
    "type_is_topic",
    "hub",
    "protocol",
    "jwt_ttl",
    "jwt_issuer",
    "jwt_audience",
    "connect_timeout",
    "read_timeout",
    "publish_background",
    "publish_queue_length",
    "publish_drain_seconds",
    "hub_transport",
)
"""The settings; their defaults are those of :meth:`flask_mercure_sse.MercureSSE.init_app`."""

COOKIE_NAMES: Final = {"0.x": "mercureAuthorization", "1.0": "__Secure-mercure_access_token"}
"""The cookie that hubs look for, in each dialect of the protocol."""

_ENVIRONMENT: Final = {
    "subscriber_secret_key": "MERCURE_SUBSCRIBER_JWT_KEY",
    "publisher_secret_key": "MERCURE_PUBLISHER_JWT_KEY",
    "hub_transport": "MERCURE_HUB_TRANSPORT",
}


@dataclass(repr=False, eq=False)
class MercureSSEState:
    """The settings of one application, as ``app.extensions["mercure_sse"]``.

    Secrets do not appear in its ``repr``. Those that are not given are the application's SECRET_KEY, at the moment of
    their use. They may be set later; an embedded hub keeps those it has started with.
    """

    app: Flask
    instance: MercureSSE
    hub_url: str | bool | None
    public_hub_url: str | bool | None
    """May lack the scheme, or the host; True: that of the request."""
    authz_cookie_name: str
    type_is_topic: bool
    hub_allow_publish: bool
    hub_allow_anonymous: bool
    hub_subscriptions: bool
    hub_keepalive_interval: float
    hub_reconciliation_length: int | None
    """None: 500 in memory, 100,000 in another log."""
    hub: bool | None
    protocol: Literal["0.x", "1.0"]
    jwt_ttl: int
    """Seconds until the tokens of the extension expire; 0: never."""
    jwt_issuer: str | None
    jwt_audience: str | None
    timeouts: Timeouts
    publish_background: bool
    publish_queue_length: int
    publish_drain_seconds: float
    given_publisher_jwt: str | None
    given_subscriber_key: str | bytes | None
    """Empty: none, and not the application's SECRET_KEY either."""
    given_publisher_key: str | bytes | None
    hub_transport: str | None = None
    """Where the embedded hub has its log, with the password; None: in memory."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may use the embedded hub, besides the application's own."""
    captures: list[list[Update]] = field(default_factory=list)
    """Where updates go instead of a hub: see :meth:`flask_mercure_sse.MercureSSE.capture`."""
    watch: Watch = field(default_factory=Watch)
    """What sends the signals of :mod:`flask_mercure_sse.presence`."""
    warned_sites: set[tuple[str, int, str]] = field(default_factory=set)
    """Warnings of :mod:`flask_mercure_sse.grants` that were logged: file, line and kind of selector."""
    _hub: Hub | None = None
    _started_in: int | None = None
    _hub_keys: dict[str, str | bytes] = field(default_factory=dict)
    _queues: BackgroundQueues | None = None
    _own_jwt: tuple[Any, str, float] | None = None
    _warned: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.after_fork()
        forks.register(self)

    def after_fork(self) -> None:
        """Another thread of the parent may have held the lock."""
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<MercureSSEState of {self.app.name!r}>"

    @property
    def subscriber_secret_key(self) -> str | bytes | None:
        """Signs and verifies subscribers' tokens."""
        return self._configured("subscriber_secret_key", self.given_subscriber_key)

    @subscriber_secret_key.setter
    def subscriber_secret_key(self, key: str | bytes | None) -> None:
        self.given_subscriber_key = _key("MERCURE_SUBSCRIBER_SECRET_KEY", key)

    @property
    def publisher_secret_key(self) -> str | bytes | None:
        """Signs and verifies publishers' tokens."""
        return self._configured("publisher_secret_key", self.given_publisher_key)

    @publisher_secret_key.setter
    def publisher_secret_key(self, key: str | bytes | None) -> None:
        self.given_publisher_key = _key("MERCURE_PUBLISHER_SECRET_KEY", key)

    def _configured(self, name: str, given: str | bytes | None) -> str | bytes | None:
        setting = "SECRET_KEY" if given is None else config_key(name)
        key = _key(setting, self.app.config.get("SECRET_KEY")) if given is None else given
        # Checked here, since debug and testing mode, which need no good key, are often set later than the key.
        if key and not self.app.debug and not self.app.testing:
            weakness = _weakness(key)
            if weakness is not None:
                self.warn_once(f"weak {setting}", f"{setting}: {weakness}")
        return key or None

    def key_of(self, role: str) -> str | bytes:
        """The secret key of "publisher" or "subscriber": the one that the embedded hub has begun with, if it has.

        Raises:
            ValueError: it is not set.
        """
        secret: str | bytes | None = getattr(self, f"{role}_secret_key")
        if not secret:
            name = config_key(f"{role}_secret_key")
            raise ValueError(f"{name} is not set, and SECRET_KEY neither: set one of them")
        if not self.is_embedded or self._hub_keys.get(role, secret) == secret:
            return secret
        self.warn_once(
            "keys", "SECRET_KEY, or a key of Mercure, has changed after the embedded hub began: it keeps the former"
        )
        return self._hub_keys[role]

    def own_key(self, role: str) -> str | bytes | None:
        """What signs the application's own requests: also those to an embedded hub that has been given no key."""
        if self.is_embedded:
            self.embedded_hub()
            return self._hub_keys[role]
        secret: str | bytes | None = getattr(self, f"{role}_secret_key")
        return secret

    @property
    def publisher_jwt(self) -> str | None:
        """The token that publishes on an external hub: the given one, else one for every topic, if there is a key."""
        if self.given_publisher_jwt:
            return self.given_publisher_jwt
        key = self.publisher_secret_key
        if not key:
            return None
        made_for = (key, self.audience if self.protocol == "1.0" else None)
        if self._own_jwt is None or self._own_jwt[0] != made_for or time.monotonic() >= self._own_jwt[2]:
            # A token is renewed in the middle of its life, long before a hub would refuse it.
            renewal = time.monotonic() + (self.jwt_ttl / 2 if self.jwt_ttl else float("inf"))
            self._own_jwt = (made_for, self.sign(key, {"publish": ["*"]}), renewal)
        return self._own_jwt[1]

    @publisher_jwt.setter
    def publisher_jwt(self, jwt: str | None) -> None:
        self.given_publisher_jwt = _token(jwt)

    def sign(self, key: str | bytes, grants: Mapping[str, Any], ttl: int | None = None) -> str:
        """A token with these grants, in the dialect of the application.

        Args:
            grants: "publish" and "subscribe" with lists of topics, and perhaps a "payload".
            ttl: seconds until it expires; 0: never; None: ``jwt_ttl``.

        Raises:
            ValueError: a grant or a lifetime that the dialect does not know.
        """
        lifetime = self.jwt_ttl if ttl is None else ttl
        if self.protocol == "0.x":
            return tokens.sign_legacy(key, grants, lifetime)
        audience = self.audience
        return tokens.sign(key, grants, lifetime, audience=audience, issuer=self.jwt_issuer)

    @property
    def audience(self) -> str:
        """The hub's resource identifier, which 1.0 tokens name: its public URL, unless MERCURE_JWT_AUDIENCE says."""
        if self.jwt_audience:
            return self.jwt_audience
        if self.is_embedded:
            return self.embedded_url or "http://localhost" + HUB_PATH
        return str(self.public_hub_url) if is_absolute(self.public_hub_url) else self.external_url

    @property
    def external_url(self) -> str:
        """The hub that the application itself talks to where it has none embedded."""
        return self.hub_url if isinstance(self.hub_url, str) else STANDALONE_HUB_URL

    @property
    def embedded_url(self) -> str | None:
        """The embedded hub's public URL, if the settings tell it."""
        if self.hub and is_absolute(self.public_hub_url):
            return str(self.public_hub_url) if urlsplit(str(self.public_hub_url)).path == HUB_PATH else None
        server_name = self.app.config.get("SERVER_NAME")
        return f"{self.app.config['PREFERRED_URL_SCHEME']}://{server_name}{HUB_PATH}" if server_name else None

    @property
    def queues(self) -> BackgroundQueues:
        """What publishes in the background."""
        with self._lock:
            if self._queues is None:
                self._queues = BackgroundQueues(self.publish_queue_length, self.publish_drain_seconds, self.app.logger)
            return self._queues

    def warn_once(self, name: str, message: str) -> None:
        """Log what is wrong with the settings, the first time that it matters."""
        if name not in self._warned:
            self._warned.add(name)
            self.app.logger.warning("%s", message)

    @property
    def is_embedded(self) -> bool:
        """Whether the application's own hub is used.

        Asked for each time: ``app.debug`` and ``app.testing`` are often set after the extension is made. In debug mode
        a hub URL that was given wins; in testing mode it does not, so that no test publishes to the hub of production.
        A log elsewhere that was given is one for an embedded hub. MERCURE_HUB wins over all.
        """
        if self.hub is not None:
            return self.hub
        if self.app.testing:
            return True
        return (self.app.debug or self.hub_transport is not None) and not isinstance(self.hub_url, str)

    @property
    def shared_transport(self) -> str | None:
        """Where the embedded hub has its log, if not in memory.

        In testing mode it is in memory, unless MERCURE_HUB says that the hub is embedded: no test writes into the log
        of production.
        """
        return None if self.app.testing and not self.hub else self.hub_transport

    def connect_embedded(self) -> socket.socket:
        """A connection to the hub inside this process.

        Raises:
            MercureError: the subclass says why; see :func:`flask_mercure_sse.errors.from_native`.
        """
        try:
            self.watch.ensure(self)
            return socket.socket(fileno=self.running_hub().connect())
        except (OSError, RuntimeError) as error:
            raise from_native(error) from None

    def embedded_hub(self) -> Hub:
        """The hub inside this process, made when it is first needed.

        Raises:
            ValueError: a setting that the hub cannot use.
        """
        with self._lock:
            if self._hub is None:
                # Without a key, a random one serves the application's own requests and nobody else.
                keys = {
                    "publisher": self.publisher_secret_key or secrets.token_hex(32),
                    "subscriber": self.subscriber_secret_key or secrets.token_hex(32),
                }
                try:
                    self._hub = Hub(
                        publisher_key=keys["publisher"],
                        subscriber_key=keys["subscriber"],
                        anonymous=self.hub_allow_anonymous,
                        subscriptions=self.hub_subscriptions,
                        publish=self.hub_allow_publish,
                        keep_alive=self.hub_keepalive_interval,
                        history_max=self.hub_reconciliation_length,
                        cookie_name=self.authz_cookie_name,
                        cors_origins=self.cors_origins,
                        cors_loopback_credentials=True,
                        public_url=self.embedded_url,
                        transport=self.shared_transport,
                    )
                except InvalidUpdate as error:
                    raise ValueError(f"the embedded Mercure hub cannot start: {error}") from None
                self._hub_keys = keys
            return self._hub

    def running_hub(self) -> Hub:
        """The same, started. Where other greenlets would wait while its log is looked for, a thread of gevent's does.

        Raises:
            ValueError: a setting that the hub cannot use.
            OSError: its log is unavailable (LogUnavailable), or the process has no room for it (NoRoom).
            RuntimeError: its log cannot be used (HubFailed), or it has been stopped (HubStopped).
        """
        hub = self.embedded_hub()
        if self.shared_transport is not None and self._started_in != os.getpid():
            if client.is_cooperative():
                from gevent import get_hub  # type: ignore[import-untyped]

                get_hub().threadpool.apply(hub.start)
            self._started_in = os.getpid()
        return hub


def load(app: Flask, instance: MercureSSE, given: Mapping[str, Any]) -> MercureSSEState:
    """Read the settings of an application: its config wins over the keywords, which have the defaults. Secrets may come
    from the environment, too.

    Raises:
        ValueError: a setting that cannot be used; the message names it and says what to write.
    """
    values = {name: app.config.get(config_key(name), given[name]) for name in NAMES}
    protocol = _protocol(values["protocol"])
    jwt_ttl = parse_whole_number("MERCURE_JWT_TTL", values["jwt_ttl"])
    if protocol == "1.0" and jwt_ttl == 0:
        raise ValueError("MERCURE_JWT_TTL: tokens of protocol 1.0 expire: write a number of seconds above 0")
    # Its own keys are not known before it is set; a broken one is said here, by its name.
    _key("SECRET_KEY", app.config.get("SECRET_KEY"))
    return MercureSSEState(
        app=app,
        instance=instance,
        hub_url=_hub_url(values["hub_url"]),
        public_hub_url=_public_hub_url(values["public_hub_url"]),
        authz_cookie_name=_cookie_name(values["authz_cookie_name"]) or COOKIE_NAMES[protocol],
        type_is_topic=parse_bool("MERCURE_TYPE_IS_TOPIC", values["type_is_topic"]),
        hub_allow_publish=parse_bool("MERCURE_HUB_ALLOW_PUBLISH", values["hub_allow_publish"]),
        hub_allow_anonymous=parse_bool("MERCURE_HUB_ALLOW_ANONYMOUS", values["hub_allow_anonymous"]),
        hub_subscriptions=parse_bool("MERCURE_HUB_SUBSCRIPTIONS", values["hub_subscriptions"]),
        hub_keepalive_interval=parse_number("MERCURE_HUB_KEEPALIVE_INTERVAL", values["hub_keepalive_interval"] or 0),
        hub_reconciliation_length=None
        if values["hub_reconciliation_length"] is None
        else parse_whole_number("MERCURE_HUB_RECONCILIATION_LENGTH", values["hub_reconciliation_length"]),
        hub=None if values["hub"] is None else parse_bool("MERCURE_HUB", values["hub"]),
        protocol=protocol,
        jwt_ttl=jwt_ttl,
        jwt_issuer=_text("jwt_issuer", values["jwt_issuer"]),
        jwt_audience=_text("jwt_audience", values["jwt_audience"]),
        timeouts=Timeouts(
            connect=_above_zero("MERCURE_CONNECT_TIMEOUT", values["connect_timeout"]),
            read=_above_zero("MERCURE_READ_TIMEOUT", values["read_timeout"]),
        ),
        publish_background=parse_bool("MERCURE_PUBLISH_BACKGROUND", values["publish_background"]),
        publish_queue_length=parse_whole_number("MERCURE_PUBLISH_QUEUE_LENGTH", values["publish_queue_length"], 1),
        publish_drain_seconds=parse_number("MERCURE_PUBLISH_DRAIN_SECONDS", values["publish_drain_seconds"]),
        given_publisher_jwt=_token(values["publisher_jwt"]),
        given_subscriber_key=_secret(app, "subscriber_secret_key", values),
        given_publisher_key=_secret(app, "publisher_secret_key", values),
        hub_transport=_transport(_given(app, "hub_transport", values)[1]),
    )


def current_extension() -> MercureSSE:
    """The extension of the current application.

    Raises:
        RuntimeError: there is no application context, or the application has no extension.
    """
    state: MercureSSEState | None = current_app.extensions.get("mercure_sse")
    if state is None:
        raise RuntimeError(f"the application {current_app.name!r} has no MercureSSE: call init_app(app) first")
    return state.instance


def config_key(name: str) -> str:
    """The config key of a setting.

    >>> config_key("hub_url")
    'MERCURE_HUB_URL'
    """
    return "MERCURE_" + name.upper()


def parse_bool(key: str, value: Any) -> bool:
    """A switch, also as text from an environment variable.

    >>> parse_bool("MERCURE_HUB", "off"), parse_bool("MERCURE_HUB", 1)
    (False, True)

    Raises:
        ValueError: the text is no switch; the message names the key.
    """
    if isinstance(value, str):
        switch = _SWITCHES.get(value.strip().lower())
        if switch is None:
            raise ValueError(f"{key}: write true or false")
        return switch
    return bool(value)


_SWITCHES: Final = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off", ""), False),
}


def parse_number(key: str, value: Any) -> float:
    """A number of seconds, 0 or more.

    >>> parse_number("MERCURE_HUB_KEEPALIVE_INTERVAL", "2.5")
    2.5

    Raises:
        ValueError: it is no number, or below 0; the message names the key.
    """
    try:
        number = float("" if isinstance(value, bool) else value)
    except (TypeError, ValueError, OverflowError):
        number = -1
    if not 0 <= number <= NUMBER_MAX:
        raise ValueError(f"{key}: write a number, 0 or more, up to {NUMBER_MAX}")
    return number


NUMBER_MAX: Final = 10**9
"""About 31 years in seconds: sockets, dates and tokens hold no more than some centuries."""


def parse_whole_number(key: str, value: Any, least: int = 0) -> int:
    """A number of seconds or of updates that has no half.

    >>> parse_whole_number("MERCURE_JWT_TTL", "60")
    60

    Raises:
        ValueError: it is no whole number, or below ``least``; the message names the key.
    """
    try:
        number = parse_number(key, value)
    except ValueError:
        number = -1
    # A fraction would be cut off, and half a second become never.
    if number < least or number != int(number):
        raise ValueError(f"{key}: write a whole number, {least} or more, up to {NUMBER_MAX}")
    return int(number)


def _above_zero(key: str, value: Any) -> float:
    number = parse_number(key, value)
    if number == 0:
        raise ValueError(f"{key}: write a number above 0")
    return number


def _protocol(value: Any) -> Literal["0.x", "1.0"]:
    if value == "0.x" or value == "1.0":
        return value  # type: ignore[no-any-return]
    raise ValueError('MERCURE_PROTOCOL: write "0.x" or "1.0"')


def check_url(key: str, value: Any) -> str | None:
    """The URL of a hub, without a slash at its end; None if there is none.

    >>> check_url("MERCURE_HUB_URL", "http://localhost:3000/.well-known/mercure/")
    'http://localhost:3000/.well-known/mercure'

    Raises:
        ValueError: it is no absolute http or https URL of host, port and path; the message names the key.
    """
    if value is None or value == "":
        return None
    match = _URL.fullmatch(value) if isinstance(value, str) else None
    if match is None or not match["scheme"] or not match["host"]:
        raise ValueError(f"{key}: write the hub's URL, such as {STANDALONE_HUB_URL!r}, without user, query or fragment")
    return _checked(key, match)


def _checked(key: str, match: re.Match[str]) -> str:
    labels = (match["host"] or "x").removesuffix(".").split(".")
    if "[" not in labels[0] and not all(0 < len(label) < 64 for label in labels):
        raise ValueError(f"{key}: write the hub's URL with a host of labels of 1 to 63 characters")
    if int(match["port"] or 0) > 65535:
        raise ValueError(f"{key}: write the hub's URL with a port up to 65535")
    scheme: str = match["scheme"] or ""
    return scheme.lower() + (match[0][len(scheme) :].rstrip("/") or "/")


_URL: Final = re.compile(
    r"(?P<scheme>(?i:https?:)(?=//))?"
    r"(?://(?P<host>[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{0,9}))?)?(?P<path>/(?!/)[!$%&(-;=@-\[\]^_a-~]*)?"
)
"""What is left out could end the string or the attribute of a page that it stands in, or begin a query."""


def is_absolute(url: str | bool | None) -> bool:
    """Whether a hub's URL has a scheme and a host.

    >>> is_absolute("https://hub.example/.well-known/mercure"), is_absolute("/.well-known/mercure"), is_absolute(True)
    (True, False, False)
    """
    return isinstance(url, str) and not url.startswith("/")


def _hub_url(value: Any) -> str | bool | None:
    if value is HUB_URL_FROM_REQUEST or (isinstance(value, str) and value.lower() == "true"):
        return HUB_URL_FROM_REQUEST
    if value is False or (isinstance(value, str) and value.lower() == "false"):
        return None
    return check_url("MERCURE_HUB_URL", value)


def _public_hub_url(value: Any) -> str | bool | None:
    if value is HUB_URL_FROM_REQUEST or (isinstance(value, str) and value.lower() == "true"):
        return HUB_URL_FROM_REQUEST
    match = _URL.fullmatch(value) if isinstance(value, str) and value.startswith("/") else None
    return check_url("MERCURE_PUBLIC_HUB_URL", value) if match is None else _checked("MERCURE_PUBLIC_HUB_URL", match)


def _token(value: Any) -> str | None:
    if value is None or value == "":
        return None
    try:
        return client.check_token(value)
    except TokenRefusedError:
        raise ValueError("MERCURE_PUBLISHER_JWT: write a token: letters, digits, dots, dashes, underscores") from None


def _text(name: str, value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not value.isprintable() or " " in value:
        raise ValueError(f"{config_key(name)}: write a text without spaces")
    return value


def _cookie_name(value: Any) -> str | None:
    name = _text("authz_cookie_name", value)
    if name is not None and not _COOKIE_NAME.fullmatch(name):
        raise ValueError(f"MERCURE_AUTHZ_COOKIE_NAME: write letters, digits and {_COOKIE_SIGNS}")
    if name is not None and name.startswith("__Host-"):
        raise ValueError("MERCURE_AUTHZ_COOKIE_NAME: write another name: __Host- is for cookies with the path /")
    return name


_COOKIE_SIGNS: Final = "!#$%&'*+-.^_`|~"
_COOKIE_NAME: Final = re.compile(f"[A-Za-z0-9{re.escape(_COOKIE_SIGNS)}]+")
"""A token, as RFC 6265, section 4.1.1 has it."""


def _secret(app: Flask, name: str, values: Mapping[str, Any]) -> str | bytes | None:
    """A key. An empty text: the config says that there is none."""
    setting, value = _given(app, name, values)
    return _key(setting, value) or ("" if config_key(name) in app.config else None)


def _given(app: Flask, name: str, values: Mapping[str, Any]) -> tuple[str, Any]:
    """The name of a setting and its value: from the config, else from the keyword, else from the environment."""
    key, variable = config_key(name), _ENVIRONMENT[name]
    if key in app.config or values[name]:
        return key, values[name]
    return variable, os.environ.get(variable)


def _transport(url: Any) -> str | None:
    if not url:
        return None
    if not isinstance(url, str):
        raise ValueError("MERCURE_HUB_TRANSPORT: write a text such as redis://localhost:6379")
    try:
        Hub(transport=url)
    except InvalidUpdate as error:
        raise ValueError(f"MERCURE_HUB_TRANSPORT: {str(error).partition(': ')[2]}") from None
    return url


def _key(key: str, value: Any) -> str | bytes | None:
    """A shared secret, or a public key in PEM, as the hub takes it. None: no key is given."""
    if value is None:
        return None
    if not isinstance(value, (str, bytes)):
        raise ValueError(f"{key}: write a text or bytes")
    if not value:
        return None
    try:
        _weakness(value)
    except UnicodeEncodeError:
        raise ValueError(f"{key}: write bytes, or a text that UTF-8 can hold") from None
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
    return value


@lru_cache(maxsize=64)
def _weakness(key: str | bytes) -> str | None:
    """Why a key is weak, if it is. Cached, because SECRET_KEY is checked at each use: it may be set later, or change.

    Raises:
        ValueError: the hub does not take the key.
    """
    if isinstance(key, str):
        key.encode()
    return check_key(key)
