"""The place of the log that the processes of one host share, for the embedded hub of an application.

Every process of the same user and the same application finds the same place without a setting: the workers of a
server, a shell, a script, a Celery worker. The directory lies in memory where the system has such a place.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, quote, urlencode

from flask import Flask

_DIRECTORY_MODE: Final = 0o700

DIRECTORY_VARIABLE: Final = "MERCURE_HUB_HOST_DIRECTORY"
"""The environment variable that names another directory for the logs of all applications."""

_PATH_BYTES_MAX: Final = 103
"""The longest path of a Unix socket on every system, as in ``crates/transports/src/host/settings.rs``."""


def is_short(transport: str) -> bool:
    """Whether a URL leaves the directory to this module.

    >>> is_short("host:"), is_short("host:?name=shop"), is_short("host:///run/shop")
    (True, True, False)
    """
    return transport == "host:" or transport.startswith("host:?")


def url(app: Flask, transport: str = "host:") -> str:
    """The whole URL of the log of an application.

    Args:
        transport: ``host:``, which may have parameters. ``name`` stands for the name that is made of the application.

    Raises:
        OSError: there is no directory that can be used; the text says why.
    """
    given = {name: values[-1] for name, values in parse_qs(transport.partition("?")[2]).items()}
    parameters = {"name": _name(app), **given}
    problems = []
    for directory in _directories():
        longest = len(os.fsencode(directory)) + len(parameters["name"]) + len("/.socket")
        problem = f"{directory}: its path is too long" if longest > _PATH_BYTES_MAX else _problem(directory)
        if problem is None:
            return f"host://{quote(str(directory))}?{urlencode(parameters)}"
        problems.append(problem)
    raise OSError("; ".join(problems) or "this system has no Unix sockets")


def _name(app: Flask) -> str:
    """Tells the applications of one user apart: the same for ``flask run``, a WSGI server and a script."""
    # The same module has another name where it is imported without its package.
    name = app.name.rpartition(".")[2]
    place = hashlib.sha256(f"{name}\0{app.root_path}".encode()).hexdigest()[:10]
    return f"{re.sub('[^A-Za-z0-9]+', '-', name)[:12]}-{place}"


def _directories() -> Iterator[Path]:
    if not hasattr(os, "getuid"):
        return
    if given := os.environ.get(DIRECTORY_VARIABLE):
        yield Path(given)
        return
    name = f"mercure-{os.getuid()}"
    # Not XDG_RUNTIME_DIR first: a shell of the user has it, and a service of the same user has not.
    if sys.platform == "linux":
        yield Path("/dev/shm", name)
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime, name)
    yield Path(tempfile.gettempdir(), name)


def _problem(directory: Path) -> str | None:
    """Makes the directory for this user alone, and says why it cannot be used."""
    try:
        directory.mkdir(_DIRECTORY_MODE, parents=True, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        return f"{directory}: {error.strerror}"
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        return f"{directory}: it is not a directory of this user alone"
    return None if os.access(directory, os.W_OK | os.X_OK) else f"{directory}: it cannot be written to"
