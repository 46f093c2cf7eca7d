"""What ends a thread that is a greenlet, under gevent and eventlet."""

from __future__ import annotations

import sys

from .client import is_cooperative


def ends_this_thread(error: BaseException) -> bool:
    """Whether a thread that has caught it must end with it.

    A greenlet that somebody ends must end: the caller may wait for that. Greenlets share the signals of one system
    thread, so what would end the process may come up in any of them and has to go on from there. For a thread of the
    system both are failures like others.

    >>> ends_this_thread(SystemExit()), ends_this_thread(ValueError())
    (False, False)
    """
    greenlet = sys.modules.get("greenlet")
    if greenlet is not None and isinstance(error, greenlet.GreenletExit):
        return True
    return isinstance(error, (KeyboardInterrupt, SystemExit)) and is_cooperative()
