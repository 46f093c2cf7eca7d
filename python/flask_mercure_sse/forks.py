"""What a forked process must not share with its parent: locks that another thread held, threads, connections."""

from __future__ import annotations

import os
import weakref
from typing import Final, Protocol


class Forked(Protocol):
    """Something that begins anew in a forked process."""

    def after_fork(self) -> None:
        """Called in the child, where no other thread runs."""


_registered: Final[weakref.WeakSet[Forked]] = weakref.WeakSet()


def register(each: Forked) -> None:
    """Have ``after_fork`` called in every child process, as long as somebody else keeps the object."""
    _registered.add(each)


def check() -> None:
    """Make up for a fork that Python was not told of: uWSGI's workers are such."""
    global _process
    if _process != os.getpid():
        _process = os.getpid()
        for each in list(_registered):
            each.after_fork()


_process = os.getpid()

os.register_at_fork(after_in_child=check)
