"""State that a forked process must not share with its parent: locks that another thread held, threads, connections."""

from __future__ import annotations

import os
import weakref
from typing import Final, Protocol

from ._native import after_fork, before_fork


class Forked(Protocol):
    """An object that begins anew in a forked process."""

    def after_fork(self) -> None:
        """Called in the child before anything else uses the object. No other thread runs then."""


_registered: Final[weakref.WeakSet[Forked]] = weakref.WeakSet()


def register(each: Forked) -> None:
    """Have ``after_fork`` called in every child process. Keeps only a weak reference to the object."""
    _registered.add(each)


def check() -> None:
    """Call ``after_fork`` now, if the process was forked and Python did not notice: uWSGI forks its workers like
    that."""
    global _process
    if _process != os.getpid():
        _process = os.getpid()
        for each in list(_registered):
            each.after_fork()


_process = os.getpid()

# Threads of the hub go on while Python is about to fork.
os.register_at_fork(before=before_fork, after_in_parent=after_fork, after_in_child=after_fork)
os.register_at_fork(after_in_child=check)
