"""Waiting for a fact of another thread or process that nobody announces."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from clients import PATIENCE

LOOK = 0.01
"""Seconds between two looks. No result depends on them: they leave the processor to what is waited for."""


def wait_until(is_so: Callable[[], bool], what: str = "it becomes true", patience: float = PATIENCE) -> None:
    """Fails after a time that is far above what anything takes, also on a busy machine."""
    deadline, never = time.monotonic() + patience, threading.Event()
    while not is_so():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        never.wait(LOOK)
