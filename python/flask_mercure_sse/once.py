"""Warnings about an application's settings, each logged once."""

from __future__ import annotations

import logging

from flask import Flask


class WarnOnce:
    """Logs each warning of an application the first time that it matters.

    >>> from flask import Flask
    >>> warn = WarnOnce(Flask(__name__))
    >>> warn("keys", "the keys have changed")
    """

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._logged: set[str] = set()

    def __call__(self, name: str, message: str, level: int = logging.WARNING) -> None:
        """Log ``message``, unless a warning of that name has been logged."""
        if name not in self._logged:
            self._logged.add(name)
            # The logger is looked up late: an application may configure logging after its extensions.
            self._app.logger.log(level, "%s", message)
