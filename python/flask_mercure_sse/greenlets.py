"""Greenlets of gevent and eventlet: whether waiting yields to them, and the exceptions that end them."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def is_cooperative() -> bool:
    """Whether a wait for a socket lets other greenlets run: gevent has patched the sockets of this process."""
    return socket.socket.__module__.startswith("gevent.")


def wait_aside(function: Callable[[], Result]) -> Result:
    """Call native code that waits. Under gevent, a thread of its pool calls it, and other greenlets run meanwhile.

    >>> wait_aside(lambda: 1)
    1
    """
    if not is_cooperative():
        return function()
    from gevent import get_hub  # type: ignore[import-untyped]

    outcome: Result = get_hub().threadpool.apply(function)
    return outcome


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
