"""Exceptions that end a greenlet, under gevent and eventlet."""

from __future__ import annotations

import sys

from .client import is_cooperative


def ends_this_thread(error: BaseException) -> bool:
    """Whether a thread that has caught the error must raise it again and end.

    A killed greenlet must end, because the caller of ``kill`` may wait for that. Greenlets share the signals of one
    system thread, so an exception that ends the process may be raised in any of them and must go on from there. In a
    system thread both are ordinary failures.

    >>> ends_this_thread(SystemExit()), ends_this_thread(ValueError())
    (False, False)
    """
    greenlet = sys.modules.get("greenlet")
    if greenlet is not None and isinstance(error, greenlet.GreenletExit):
        return True
    return isinstance(error, (KeyboardInterrupt, SystemExit)) and is_cooperative()
