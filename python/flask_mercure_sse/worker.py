"""The gunicorn worker that serves a request: found once in a process, and watched for its end.

gunicorn tells only the worker that it shall end. The worker finishes its requests first, which may take until
``--graceful-timeout``; its streams end at once, and their subscribers go on with another worker.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from .greenlets import ends_this_thread

LOOK_SECONDS: Final = 1.0
"""How often streams ask the worker whether it is about to end."""

_found: Final[dict[int, Any]] = {}
"""The worker of each process that has looked for it."""


def gunicorn_worker(environ: dict[str, Any]) -> Any:
    """The worker, whose ``alive`` turns false when it is about to end. None: another server serves the request.

    gunicorn gives an application no reference to it, so it is looked for among all objects, once in a process.

    >>> gunicorn_worker({"SERVER_SOFTWARE": "Werkzeug/3.1"})
    """
    software: str = environ.get("SERVER_SOFTWARE", "")
    if not software.startswith("gunicorn"):
        return None
    if os.getpid() not in _found:
        from gunicorn.workers.base import Worker  # type: ignore[import-untyped]

        # isinstance() would ask the application's proxy objects for their class, which runs their code.
        own = (each for each in gc.get_objects() if issubclass(type(each), Worker) and each.pid == os.getpid())
        _found[os.getpid()] = next(own, None)
    return _found[os.getpid()]


class WorkerWatch:
    """Ends streams from a thread of its own once the worker is about to end."""

    def __init__(self, end_streams: Callable[[], None]) -> None:
        self._end_streams = end_streams
        self._begun_in: int | None = None

    def ensure(self, environ: dict[str, Any]) -> None:
        """Begin, unless the watch has begun in this process or the server is not gunicorn."""
        if self._begun_in == os.getpid():
            return
        self._begun_in = os.getpid()
        worker = gunicorn_worker(environ)
        if worker is not None:
            # Without room for a thread, the streams end with the process.
            with contextlib.suppress(RuntimeError):
                threading.Thread(target=self._run, args=(worker,), name="mercure-worker", daemon=True).start()

    def _run(self, worker: Any) -> None:
        try:
            while True:
                time.sleep(LOOK_SECONDS)
                if not worker.alive:
                    # Again and again: requests that are still served may open streams.
                    self._end_streams()
        except BaseException as error:
            # The streams end with the process.
            if ends_this_thread(error):
                raise
