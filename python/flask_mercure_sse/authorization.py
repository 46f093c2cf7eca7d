"""The tokens that an application makes: which key signs them, in which dialect, for which hub, and for how long."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from . import tokens
from .embedded import EmbeddedHub
from .grants import UnmarkedSelectors
from .keys import Keys, Role
from .once import WarnOnce
from .settings import Settings, config_key
from .tokens import UnusableKeyError
from .topics import as_topics
from .values import HUB_PATH, is_absolute, parse_publisher_jwt

SOON: Final = timedelta(days=7)
"""How long before its end a token of the configuration is warned of: time to replace it on a working day."""

PayloadGetter = Callable[[Any], "Mapping[str, Any] | None"]
"""What an application registers with ``payload_getter``: called with topics, returns an object or None."""


class Authorization:
    """Signs the tokens of one application."""

    def __init__(self, settings: Settings, keys: Keys, embedded: EmbeddedHub, warn_once: WarnOnce) -> None:
        self._settings, self._keys, self._embedded, self._warn_once = settings, keys, embedded, warn_once
        self.given_publisher_jwt = settings.publisher_jwt
        """The token of the settings, or one that was set later."""
        self.selectors = UnmarkedSelectors(embedded.app, settings.protocol)
        self._own_jwt: tuple[Any, str, float] | None = None
        self._looked_at: str | None = None
        self._expiry: datetime | None = None

    # Keys

    def key(self, role: Role) -> str | bytes:
        """The key of the application's tokens: the one with which the embedded hub was made, if that is used.

        Raises:
            ValueError: the application has no key for the role.
        """
        key = self._keys.need(role)
        kept = self._embedded.key_if_made(role) if self._embedded.is_used else None
        if kept is None or kept == key:
            return key
        self._warn_once(
            "keys",
            "SECRET_KEY, MERCURE_PUBLISHER_SECRET_KEY or MERCURE_SUBSCRIBER_SECRET_KEY has changed after the embedded "
            "hub was made: the hub keeps the former key",
        )
        return kept

    def own_key(self, role: Role) -> str | bytes | None:
        """The key of the application's own requests. An embedded hub has one even if the application has none."""
        return self._embedded.key(role) if self._embedded.is_used else self._keys.find(role)

    # Tokens

    def sign(self, role: Role, key: str | bytes, grants: Mapping[str, Any], ttl: int | None = None) -> str:
        """Sign a token in the dialect of the application.

        Args:
            role: whose key it is; names the setting in errors.
            grants: "publish" and "subscribe" with lists of topics, and perhaps "payload", an object.
            ttl: seconds until the token expires, 0: never; None: MERCURE_JWT_TTL.

        Raises:
            ValueError: the dialect does not know such a grant or lifetime, or the key is a public key.
        """
        settings = self._settings
        lifetime = settings.jwt_ttl if ttl is None else ttl
        try:
            if settings.protocol == "0.x":
                return tokens.sign_legacy(key, grants, lifetime)
            return tokens.sign(key, grants, lifetime, audience=self.audience, issuer=settings.jwt_issuer)
        except UnusableKeyError:
            setting, own = self._keys.setting(role), config_key(f"{role}_secret_key")
            where = "there" if setting == own else f"as {own}"
            raise ValueError(
                f"{setting} is a public key, which verifies tokens and cannot sign them: set a shared secret {where}, "
                "or pass a token that was signed elsewhere"
            ) from None

    @property
    def audience(self) -> str:
        """The hub's resource identifier, which 1.0 tokens name: MERCURE_JWT_AUDIENCE, or the hub's public URL."""
        settings = self._settings
        if settings.jwt_audience:
            return settings.jwt_audience
        if self._embedded.is_used:
            return settings.embedded_url(self._embedded.app.config) or "http://localhost" + HUB_PATH
        return str(settings.public_hub_url) if is_absolute(settings.public_hub_url) else settings.external_url

    @property
    def publisher_jwt(self) -> str | None:
        """The token that publishes on an external hub: the given one, else one for every topic. None: there is no key.

        Raises:
            ValueError: the publisher key is a public key.
        """
        if self.given_publisher_jwt:
            self.warn_of_expiry()
            return self.given_publisher_jwt
        key = self._keys.find("publisher")
        if not key:
            return None
        made_for = (key, self.audience if self._settings.protocol == "1.0" else None)
        if self._own_jwt is None or self._own_jwt[0] != made_for or time.monotonic() >= self._own_jwt[2]:
            ttl = self._settings.jwt_ttl
            # A token is renewed in the middle of its life, long before a hub would refuse it.
            renewal = time.monotonic() + (ttl / 2 if ttl else float("inf"))
            self._own_jwt = (made_for, self.sign("publisher", key, {"publish": ["*"]}), renewal)
        return self._own_jwt[1]

    def warn_of_expiry(self) -> None:
        """Log once that the given token has expired, or will within SOON."""
        token = self.given_publisher_jwt
        if token != self._looked_at:
            self._looked_at, self._expiry = token, tokens.expiry(token) if token else None
        if self._expiry is None or self._expiry - datetime.now(timezone.utc) > SOON:
            return
        ends = "has expired" if self._expiry <= datetime.now(timezone.utc) else "expires"
        self._warn_once(
            f"publisher_jwt {ends}",
            f"MERCURE_PUBLISHER_JWT {ends} at {self._expiry.isoformat()}: nothing can be published with it then. "
            'Make another: "flask mercure publisher-jwt", or "petasos token mint --publish ..." with its keys',
        )

    def set_publisher_jwt(self, jwt: str | None) -> None:
        """Replace the given token.

        Raises:
            ValueError: it is no token.
        """
        self.given_publisher_jwt = parse_publisher_jwt(jwt)

    def create_jwt(self, key: str, data: Mapping[str, Any]) -> str:
        """See :meth:`flask_mercure_sse.MercureSSE.create_jwt`."""
        roles: dict[str, Role] = {"publisher": "publisher", "subscriber": "subscriber"}
        role = roles.get(key.removesuffix("_secret_key"))
        if role is None:
            raise ValueError('create_jwt: write "publisher_secret_key" or "subscriber_secret_key", the name of the key')
        token = self.sign(role, self.key(role), data)
        # Most publishers may publish on every topic, on purpose: no warning of "*".
        published = [topic for topic in as_topics(data.get("publish")) if topic != "*"]
        self.selectors.warn([*published, *as_topics(data.get("subscribe"))])
        return token

    def subscription_jwt(
        self,
        granted: list[str],
        topics: Any,
        payload: Mapping[str, Any] | None,
        payload_getter: PayloadGetter | None,
    ) -> str:
        """Sign a token of a subscriber.

        Args:
            granted: what the token grants.
            topics: the topics as the application gave them, for ``payload_getter``.
            payload: merged over the result of ``payload_getter``.
        """
        merged = self.payload(topics, payload, payload_getter)
        return self.create_jwt(
            "subscriber_secret_key", {"subscribe": granted, **({"payload": merged} if merged else {})}
        )

    @staticmethod
    def payload(
        topics: Any, payload: Mapping[str, Any] | None, payload_getter: PayloadGetter | None
    ) -> Mapping[str, Any]:
        """What a token tells of its subscriber. Arguments: as :meth:`subscription_jwt`.

        Raises:
            TypeError: the payload getter returned neither a dict nor None.
        """
        said = None
        if payload_getter is not None:
            said = payload_getter(topics if isinstance(topics, (list, tuple, set, frozenset)) else (topics,))
        if said is not None and not isinstance(said, Mapping):
            raise TypeError(f"the payload getter: return a dict or None, not a {type(said).__name__}")
        return {**(said or {}), **(payload or {})}
