"""Running functions of the application in its context, also where there is none, such as in a script.

A new context is bound and never popped: its end would run the functions of ``teardown_appcontext``. One of them often
closes the session of the thread, and that may be the session which is just committing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from typing import TypeVar

from flask import Flask, current_app, has_app_context

T = TypeVar("T")


def in_context(app: Flask, function: Callable[[], T]) -> T:
    """Call a function in the caller's application context if that is of ``app``, else in a new one.

    What the function raises is passed on. The new context runs no teardown function, and a context variable that the
    function sets in it is as before afterwards.

    >>> in_context(Flask("shop"), lambda: current_app.name)
    'shop'
    >>> has_app_context()
    False
    """
    if has_app_context() and current_app == app:
        return function()

    def call() -> T:
        app.app_context().push()
        return function()

    return copy_context().run(call)
