"""The secret keys of one application: those of the settings, or its SECRET_KEY."""

from __future__ import annotations

from typing import Literal

from flask import Flask

from .once import WarnOnce
from .settings import Settings, config_key
from .values import parse_key, weakness

Role = Literal["publisher", "subscriber"]


class Keys:
    """The keys that sign and verify the tokens of publishers and of subscribers.

    A key that the settings do not give is the application's SECRET_KEY at the moment of its use. Keys may be set later.
    """

    def __init__(self, app: Flask, settings: Settings, warn_once: WarnOnce) -> None:
        self._app, self._warn_once = app, warn_once
        self._given: dict[Role, str | bytes | None] = {
            "publisher": settings.publisher_secret_key,
            "subscriber": settings.subscriber_secret_key,
        }

    def find(self, role: Role) -> str | bytes | None:
        """The key of a role; None: there is none. Logs once that it is weak, unless in debug or testing mode.

        Raises:
            ValueError: the hub does not take SECRET_KEY.
        """
        given, setting = self._given[role], self.setting(role)
        key = parse_key(setting, self._app.config.get("SECRET_KEY")) if given is None else given
        # Checked at each use, because debug and testing mode are often set later than the key.
        if key and not self._app.debug and not self._app.testing:
            reason = weakness(key)
            if reason is not None:
                self._warn_once(f"weak {setting}", f"{setting}: {reason}")
        return key or None

    def need(self, role: Role) -> str | bytes:
        """The key of a role.

        Raises:
            ValueError: there is none, or the hub does not take SECRET_KEY.
        """
        key = self.find(role)
        if not key:
            raise ValueError(f"{config_key(f'{role}_secret_key')} is not set, and SECRET_KEY neither: set one of them")
        return key

    def set(self, role: Role, key: str | bytes | None) -> None:
        """Replace a key. None: SECRET_KEY.

        Raises:
            ValueError: the hub does not take the key.
        """
        self._given[role] = parse_key(config_key(f"{role}_secret_key"), key)

    def setting(self, role: Role) -> str:
        """The name of the setting that gives the key of a role."""
        return "SECRET_KEY" if self._given[role] is None else config_key(f"{role}_secret_key")
