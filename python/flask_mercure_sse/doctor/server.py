"""The WSGI server of the application, as far as files, environment and a command tell: its workers and their kind."""

from __future__ import annotations

import configparser
import contextlib
import io
import os
import runpy
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from .finding import Finding


@dataclass(frozen=True)
class Server:
    """A WSGI server that is configured here."""

    name: str
    source: str
    """Where that is known from."""
    processes: int
    kind: str
    """How a worker serves requests: the worker class of gunicorn, or "threads"."""
    tls: bool = False
    """Whether the server itself speaks TLS with its clients."""
    python_threads: bool = True
    """Whether threads that an application starts run while no request is served."""


_UNKNOWN: Final = "a thread for each request"
"""The kind of a server of which nothing else is known."""


_ONE_AT_A_TIME: Final = "one request at a time"
"""The kind of a uWSGI without threads and greenlets."""


class UnreadableError(Exception):
    """A configuration or a command of a server cannot be read. The text says which and why."""


def find(command: str | None, environ: Mapping[str, str], directory: Path) -> Server | None:
    """Look for the server. None: nothing tells which one it is.

    Args:
        command: what starts the server, such as ``gunicorn --workers 4 app:app``; None: not known.
        directory: where the server is started.

    Raises:
        UnreadableError: there is a configuration that cannot be read.
    """
    try:
        words = shlex.split(command or "")
    except ValueError as error:
        raise UnreadableError(f"--server: {error}") from None
    names = [Path(word).name for word in words]
    if "gunicorn" in names:
        return _gunicorn(words[names.index("gunicorn") + 1 :], environ, directory)
    if "uwsgi" in names:
        return _uwsgi(words[names.index("uwsgi") + 1 :], environ, directory)
    if command:
        return Server(next(iter(names), ""), "--server", 1, _UNKNOWN)
    if (directory / _GUNICORN_FILE).exists() or environ.get("GUNICORN_CMD_ARGS"):
        return _gunicorn([], environ, directory)
    if (directory / _UWSGI_FILE).exists() or any(name.startswith("UWSGI_") for name in environ):
        return _uwsgi([], environ, directory)
    return _gunicorn([], environ, directory) if environ.get("WEB_CONCURRENCY") else None


def check(server: Server | None, unreadable: str | None) -> Iterator[Finding]:
    """What the embedded hub needs of its server.

    Args:
        unreadable: the text of an UnreadableError.
    """
    if unreadable is not None:
        yield Finding("warning", "server", unreadable, "correct it, or give the command with --server")
        return
    if server is None:
        yield Finding(
            "warning",
            "server",
            "not known: there is no gunicorn.conf.py, no GUNICORN_CMD_ARGS and no uwsgi.ini here",
            'give the command that starts it: --server "gunicorn --workers 4 app:app"',
        )
        return
    workers = "1 worker" if server.processes == 1 else f"{server.processes} workers"
    found = f"{server.name}, {workers}, {server.kind} ({server.source})"
    if server.kind.startswith("uvicorn"):
        yield Finding(
            "problem",
            "server",
            f"{found}: this worker class serves ASGI applications, and Flask is a WSGI application",
            "use gunicorn's own worker classes: sync, gthread or gevent",
        )
    elif server.kind in (_UNKNOWN, "tornado"):
        yield Finding(
            "warning",
            "server",
            f"{found}: it does not show the sockets of its clients, so each stream takes one of its threads",
            "use gunicorn or uWSGI, whose workers streams leave, or give it as many threads as there are streams",
        )
    elif server.tls and server.kind in ("sync", _ONE_AT_A_TIME):
        yield Finding(
            "problem",
            "server",
            f"{found} with TLS in the server: a stream would block its worker, so subscribers are refused (503)",
            "let a proxy speak TLS (docs/proxies.md), or use threads (gunicorn: --worker-class gthread --threads 100)",
        )
    elif server.tls:
        yield Finding(
            "warning",
            "server",
            f"{found} with TLS in the server: each stream takes a thread or a greenlet of its worker",
            "let a proxy speak TLS (docs/proxies.md): streams leave the worker then",
        )
    elif not server.python_threads:
        yield Finding(
            "warning",
            "server",
            f"{found} without threads: queues of updates and signals of subscriptions stand still",
            "set enable-threads = true",
        )
    else:
        yield Finding("ok", "server", found)


_GUNICORN_FILE: Final = "gunicorn.conf.py"


def _gunicorn(words: list[str], environ: Mapping[str, str], directory: Path) -> Server:
    try:
        from gunicorn.config import Config  # type: ignore[import-untyped]
    except ImportError:
        raise UnreadableError("gunicorn is not installed where this command runs") from None
    config, sources = Config(), []
    # In the order of gunicorn: what is set later wins.
    with contextlib.suppress(ValueError):
        if environ.get("WEB_CONCURRENCY"):
            config.set("workers", int(environ["WEB_CONCURRENCY"]))
            sources.append("WEB_CONCURRENCY")
    given = _gunicorn_arguments(config, words, "--server")
    in_environment = _gunicorn_arguments(config, shlex.split(environ.get("GUNICORN_CMD_ARGS", "")), "GUNICORN_CMD_ARGS")
    file = given.get("config") or in_environment.get("config") or _GUNICORN_FILE
    path = directory / str(file).removeprefix("file:")
    if path.exists():
        _apply(config, _run(path, directory), path.name)
        sources.append(path.name)
    for arguments, source in ((in_environment, "GUNICORN_CMD_ARGS"), (given, "--server")):
        if arguments:
            _apply(config, arguments, source)
        if arguments or (source == "--server" and words):
            sources.append(source)
    kind = str(config.worker_class_str)
    return Server("gunicorn", ", ".join(sources) or "its defaults", config.workers, kind, tls=bool(config.is_ssl))


def _gunicorn_arguments(config: Any, words: list[str], source: str) -> dict[str, Any]:
    try:
        # gunicorn's parser writes its usage to standard error before it ends the process.
        with contextlib.redirect_stderr(io.StringIO()) as said:
            parsed = vars(config.parser().parse_args(words))
    except SystemExit:
        reason = said.getvalue().strip().rpartition("error: ")[2]
        raise UnreadableError(f"{source}: gunicorn does not take it: {reason}") from None
    return {name: value for name, value in parsed.items() if value is not None and name != "args"}


def _apply(config: Any, values: Mapping[str, Any], source: str) -> None:
    for name, value in values.items():
        if name in config.settings and name != "config":
            try:
                config.set(name, value)
            except Exception as error:
                raise UnreadableError(f"{source}: gunicorn does not take {name}: {error}") from None


def _run(path: Path, directory: Path) -> dict[str, Any]:
    # The file is a program: gunicorn runs it, too, and from its own directory.
    before = Path.cwd()
    try:
        os.chdir(directory)
        return runpy.run_path(str(path))
    except Exception as error:
        raise UnreadableError(f"{path.name} fails: {type(error).__name__}") from None
    finally:
        os.chdir(before)


_UWSGI_FILE: Final = "uwsgi.ini"


def _uwsgi(words: list[str], environ: Mapping[str, str], directory: Path) -> Server:
    options: dict[str, str] = {}
    sources = []
    file = next((word for word in words if word.endswith(".ini")), _UWSGI_FILE)
    if (directory / file).exists():
        # Keys may be given several times, and may have no value.
        parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
        try:
            parser.read(directory / file)
        except (configparser.Error, UnicodeError) as error:
            raise UnreadableError(f"{file}: {type(error).__name__}") from None
        section: Mapping[str, str] = parser["uwsgi"] if parser.has_section("uwsgi") else {}
        options |= {name: value or "true" for name, value in section.items()}
        sources.append(file)
    variables = {name[6:].lower(): value for name, value in environ.items() if name.startswith("UWSGI_")}
    if variables:
        options |= {name.replace("_", "-"): value for name, value in variables.items()}
        sources.append("UWSGI_*")
    if words:
        options |= _uwsgi_arguments(words)
        sources.append("--server")
    processes = options.get("processes") or options.get("workers") or options.get("p") or "1"
    has_threads = bool({"threads", "enable-threads", "gevent"} & options.keys())
    # With "https", a process in front of the workers speaks TLS.
    https = any(option.startswith("https-socket") for option in options)
    kind = "gevent" if "gevent" in options else "threads" if "threads" in options else _ONE_AT_A_TIME
    try:
        number = int(processes)
    except ValueError:
        # Magic variables such as %k, the number of cores.
        number = os.cpu_count() or 1
    return Server("uWSGI", ", ".join(sources), number, kind, tls=https, python_threads=has_threads)


def _uwsgi_arguments(words: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for position, word in enumerate(words):
        if word.startswith("-"):
            name, has_value, value = word.lstrip("-").partition("=")
            following = words[position + 1] if position + 1 < len(words) else "-"
            options[name] = value if has_value else "true" if following.startswith("-") else following
    return options
