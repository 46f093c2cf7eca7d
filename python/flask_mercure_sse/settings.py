"""The settings of one application: where they come from, in which order, and what they may be."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

from . import tokens
from ._native import Hub, InvalidUpdate
from .background import BackgroundQueue
from .client import Timeouts
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

DEFAULTS: Final[Mapping[str, Any]] = {
    "hub_url": None,
    "public_hub_url": None,
    "publisher_jwt": None,
    "subscriber_secret_key": None,
    "publisher_secret_key": None,
    "hub_allow_publish": False,
    "hub_allow_anonymous": True,
    "hub_subscriptions": True,
    "hub_keepalive_interval": 15,
    "hub_reconciliation_length": 500,
    "authz_cookie_name": None,
    "type_is_topic": False,
    "hub": None,
    "protocol": "0.x",
    "jwt_ttl": 24 * 3600,
    "jwt_issuer": None,
    "jwt_audience": None,
    "connect_timeout": 2,
    "read_timeout": 10,
    "publish_background": False,
    "publish_queue_length": 1000,
    "publish_drain_seconds": 5,
}

COOKIE_NAMES: Final = {"0.x": "mercureAuthorization", "1.0": "__Secure-mercure_access_token"}
"""The cookie that hubs look for, in each dialect of the protocol."""

_ENVIRONMENT: Final = {
    "subscriber_secret_key": "MERCURE_SUBSCRIBER_JWT_KEY",
    "publisher_secret_key": "MERCURE_PUBLISHER_JWT_KEY",
}


@dataclass(repr=False)
class MercureSSEState:
    """The settings of one application, as ``app.extensions["mercure_sse"]``.

    Secrets do not appear in its ``repr``. Those that are not given are the application's SECRET_KEY, at the moment of
    their use. They may be set later; an embedded hub keeps those it has started with.
    """

    app: Flask
    instance: MercureSSE
    hub_url: str | bool | None
    public_hub_url: str | None
    authz_cookie_name: str
    type_is_topic: bool
    hub_allow_publish: bool
    hub_allow_anonymous: bool
    hub_subscriptions: bool
    hub_keepalive_interval: float
    hub_reconciliation_length: int
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
    given_publisher_key: str | bytes | None
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may use the embedded hub, besides the application's own."""
    captures: list[list[Update]] = field(default_factory=list)
    """Where updates go instead of a hub: see :meth:`flask_mercure_sse.MercureSSE.capture`."""
    watch: Watch = field(default_factory=Watch)
    """What sends the signals of :mod:`flask_mercure_sse.presence`."""
    _hub: Hub | None = None
    _queue: BackgroundQueue | None = None
    _own_jwt: tuple[Any, str, float] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __repr__(self) -> str:
        return f"<MercureSSEState of {self.app.name!r}>"

    @property
    def subscriber_secret_key(self) -> str | bytes | None:
        """Signs and verifies subscribers' tokens."""
        return self.given_subscriber_key or _key("subscriber_secret_key", self.app.config.get("SECRET_KEY"))

    @subscriber_secret_key.setter
    def subscriber_secret_key(self, key: str | bytes | None) -> None:
        self.given_subscriber_key = _key("subscriber_secret_key", key)

    @property
    def publisher_secret_key(self) -> str | bytes | None:
        """Signs and verifies publishers' tokens."""
        return self.given_publisher_key or _key("publisher_secret_key", self.app.config.get("SECRET_KEY"))

    @publisher_secret_key.setter
    def publisher_secret_key(self, key: str | bytes | None) -> None:
        self.given_publisher_key = _key("publisher_secret_key", key)

    def key_of(self, role: str) -> str | bytes:
        """The secret key of "publisher" or "subscriber".

        Raises:
            ValueError: it is not set.
        """
        secret: str | bytes | None = getattr(self, f"{role}_secret_key")
        if not secret:
            name = config_key(f"{role}_secret_key")
            raise ValueError(f"{name} is not set, and SECRET_KEY neither: set one of them")
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
        self.given_publisher_jwt = _text("publisher_jwt", jwt)

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
        return self.public_hub_url or (self.hub_url if isinstance(self.hub_url, str) else STANDALONE_HUB_URL)

    @property
    def embedded_url(self) -> str | None:
        """The embedded hub's public URL, if the settings tell it."""
        if self.hub and self.public_hub_url:
            return self.public_hub_url if urlsplit(self.public_hub_url).path == HUB_PATH else None
        server_name = self.app.config.get("SERVER_NAME")
        return f"{self.app.config['PREFERRED_URL_SCHEME']}://{server_name}{HUB_PATH}" if server_name else None

    @property
    def queue(self) -> BackgroundQueue:
        """What publishes in the background."""
        with self._lock:
            if self._queue is None:
                self._queue = BackgroundQueue(self.publish_queue_length, self.publish_drain_seconds, self.app.logger)
            return self._queue

    @property
    def is_embedded(self) -> bool:
        """Whether the application's own hub is used.

        Asked for each time: ``app.debug`` and ``app.testing`` are often set after the extension is made. A hub URL
        that was given wins over both, MERCURE_HUB wins over all.
        """
        if self.hub is not None:
            return self.hub
        return (self.app.debug or self.app.testing) and not isinstance(self.hub_url, str)

    def embedded_hub(self) -> Hub:
        """The hub inside this process, made when it is first needed.

        Raises:
            ValueError: a setting that the hub cannot use.
        """
        with self._lock:
            if self._hub is None:
                try:
                    self._hub = Hub(
                        publisher_key=self.publisher_secret_key or None,
                        subscriber_key=self.subscriber_secret_key or None,
                        anonymous=self.hub_allow_anonymous,
                        subscriptions=self.hub_subscriptions,
                        publish=self.hub_allow_publish,
                        keep_alive=self.hub_keepalive_interval,
                        history_max=self.hub_reconciliation_length,
                        cookie_name=self.authz_cookie_name,
                        cors_origins=self.cors_origins,
                        cors_loopback_credentials=True,
                        public_url=self.embedded_url,
                    )
                except InvalidUpdate as error:
                    raise ValueError(f"the embedded Mercure hub cannot start: {error}") from None
            return self._hub


def load(app: Flask, instance: MercureSSE, given: Mapping[str, Any]) -> MercureSSEState:
    """Read the settings of an application: its config, then the keywords, then the environment, then the defaults.

    Raises:
        ValueError: a setting that cannot be used; the message names it and says what to write.
    """
    values = {name: _value(app, name, given) for name in DEFAULTS}
    protocol = _protocol(values["protocol"])
    jwt_ttl = parse_whole_number("MERCURE_JWT_TTL", values["jwt_ttl"])
    if protocol == "1.0" and jwt_ttl == 0:
        raise ValueError("MERCURE_JWT_TTL: tokens of protocol 1.0 expire: write a number of seconds above 0")
    return MercureSSEState(
        app=app,
        instance=instance,
        hub_url=_hub_url(values["hub_url"]),
        public_hub_url=check_url("MERCURE_PUBLIC_HUB_URL", values["public_hub_url"]),
        authz_cookie_name=_cookie_name(values["authz_cookie_name"]) or COOKIE_NAMES[protocol],
        type_is_topic=parse_bool("MERCURE_TYPE_IS_TOPIC", values["type_is_topic"]),
        hub_allow_publish=parse_bool("MERCURE_HUB_ALLOW_PUBLISH", values["hub_allow_publish"]),
        hub_allow_anonymous=parse_bool("MERCURE_HUB_ALLOW_ANONYMOUS", values["hub_allow_anonymous"]),
        hub_subscriptions=parse_bool("MERCURE_HUB_SUBSCRIPTIONS", values["hub_subscriptions"]),
        hub_keepalive_interval=parse_number("MERCURE_HUB_KEEPALIVE_INTERVAL", values["hub_keepalive_interval"]),
        hub_reconciliation_length=parse_whole_number(
            "MERCURE_HUB_RECONCILIATION_LENGTH", values["hub_reconciliation_length"]
        ),
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
        given_publisher_jwt=_text("publisher_jwt", values["publisher_jwt"]),
        given_subscriber_key=_key("subscriber_secret_key", values["subscriber_secret_key"]),
        given_publisher_key=_key("publisher_secret_key", values["publisher_secret_key"]),
    )


def _value(app: Flask, name: str, given: Mapping[str, Any]) -> Any:
    key = config_key(name)
    if key in app.config:
        return app.config[key]
    if given.get(name) is not None:
        return given[name]
    return os.environ.get(_ENVIRONMENT.get(name, ""), DEFAULTS[name])


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
        number = float(0 if value is None else value)
    except (TypeError, ValueError):
        raise ValueError(f"{key}: write a number, 0 or more") from None
    if not 0 <= number < 2**53:
        raise ValueError(f"{key}: write a number, 0 or more")
    return number


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
        raise ValueError(f"{key}: write a whole number, {least} or more")
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
    if match is not None and int(match["port"] or 0) < 65536:
        return match[0].rstrip("/")
    raise ValueError(f"{key}: write the hub's URL, such as {STANDALONE_HUB_URL!r}")


_URL: Final = re.compile(
    r"https?://(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]*))?(?:/[^\s?#\"'<>\\`]*)?"
)


def _hub_url(value: Any) -> str | bool | None:
    if value is HUB_URL_FROM_REQUEST or (isinstance(value, str) and value.lower() == "true"):
        return HUB_URL_FROM_REQUEST
    if value is False or (isinstance(value, str) and value.lower() == "false"):
        return None
    return check_url("MERCURE_HUB_URL", value)


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
    return name


_COOKIE_SIGNS: Final = "!#$%&'*+-.^_`|~"
_COOKIE_NAME: Final = re.compile(f"[A-Za-z0-9{re.escape(_COOKIE_SIGNS)}]+")
"""A token, as RFC 6265, section 4.1.1 has it."""


def _key(name: str, value: Any) -> str | bytes | None:
    if value is not None and not isinstance(value, (str, bytes)):
        raise ValueError(f"{config_key(name)}: write a text or bytes")
    return value or None
