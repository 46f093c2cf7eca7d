"""``python -m flask_mercure_sse.server``: the standalone hub. No Python is in the path of a message."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import secrets
import threading
from collections.abc import Mapping
from typing import IO, Any, Final

import click

from .._native import Hub, InvalidUpdate, Server, flush_lines, print_line, sign_token
from ..values import parse_bool, parse_number, parse_whole_number
from .app import FLUSH_SECONDS, PUBLISH_ALL
from .dotenv import KEY_ADVICE, Variables
from .stop import Stop


@click.command()
@click.option("--host", default="0.0.0.0", show_default=True, help="The address to listen on.")
@click.option("--port", default=5500, show_default=True, type=click.IntRange(0, 65535), help="0: any free port.")
@click.option("--publisher-secret", help="Verifies publishers' JWTs. [env: MERCURE_PUBLISHER_SECRET_KEY]")
@click.option("--subscriber-secret", help="Verifies subscribers' JWTs. [env: MERCURE_SUBSCRIBER_SECRET_KEY]")
@click.option(
    "--allow-anonymous/--no-allow-anonymous",
    default=None,
    help="Whether subscribers need no JWT; allowed by default. [env: MERCURE_HUB_ALLOW_ANONYMOUS]",
)
@click.option(
    "--cors-origins",
    default="*",
    show_default=True,
    help="Origins whose pages may subscribe, separated by commas; listed ones with cookies. "
    "https://*.example.com stands for all subdomains.",
)
@click.option(
    "--subscriptions/--no-subscriptions",
    default=None,
    help="Whether subscriptions are announced and listed; on by default. [env: MERCURE_HUB_SUBSCRIPTIONS]",
)
@click.option(
    "--transport",
    metavar="URL",
    help="Where the log is, such as durable:///var/lib/mercure or redis://localhost:6379; in memory by default. "
    "[env: MERCURE_HUB_TRANSPORT]",
)
@click.option("--debug", is_flag=True, help="Log what the hub does, and the settings in use, on standard error.")
def main(host: str, port: int, cors_origins: str, debug: bool, **options: Any) -> None:
    """Run a Mercure hub.

    Options win over the environment, the environment over the file .env of the working directory. More variables:
    MERCURE_HUB_KEEPALIVE_INTERVAL and MERCURE_HUB_RETRY_INTERVAL (seconds), MERCURE_HUB_RECONCILIATION_LENGTH
    (updates), MERCURE_AUTHZ_COOKIE_NAME, and FLASK_SECRET_KEY for secrets that are not given.
    """
    _open_standard_streams()
    try:
        settings = _settings(options, Variables())
    except ValueError as error:
        raise HubFailure(str(error)) from None
    origins = [origin.strip() for origin in cors_origins.split(",") if origin.strip()]
    for role in ("publisher", "subscriber"):
        if not settings[f"{role}_key"]:
            settings[f"{role}_key"] = secrets.token_hex(32)
            print_line(f"Generated {role} secret key: {settings[f'{role}_key']}")
    if debug:
        os.environ.setdefault("PETASOS_LOG", "debug")
        shown = {name: value for name, value in settings.items() if not name.endswith(("_key", "transport"))}
        print_line(f"Settings: {shown}, cors_origins: {origins}", error=True)
    stop = Stop(_DRAIN_SECONDS)
    try:
        hub = Hub(
            **settings,
            cors_origins=origins,
            cors_loopback_credentials=True,
            own_process=True,
            exposed=not _is_loopback(host),
        )
        for warning in hub.warnings:
            print_line(f"Warning: {_by_option(warning)}", error=True)
        server = Server(hub, host, port)
    except (InvalidUpdate, ConnectionError, RuntimeError) as error:
        raise HubFailure(_by_option(str(error))) from None
    except OSError as error:
        reason = f"cannot listen on {host}:{port}: {error}: choose another --host or --port"
        raise HubFailure(reason) from None
    if server.streams_max < _FEW_STREAMS:
        print_line(
            f"Warning: the limit of open files has room for {server.streams_max} streams only: raise it "
            "(LimitNOFILE= in a systemd unit, --ulimit nofile= of a container, ulimit -n in a shell)",
            error=True,
        )
    # A public key cannot sign.
    with contextlib.suppress(ValueError):
        print_line(f"Publisher JWT: {sign_token(PUBLISH_ALL, settings['publisher_key'])}")
    bound = f"[{server.host}]" if ":" in server.host else server.host
    print_line(f"Serving on http://{bound}:{server.port}")
    threading.Thread(target=_end_when_hub_fails, args=(server, stop), name="mercure-failure", daemon=True).start()
    stop.wait()
    server.stop(_DRAIN_SECONDS)
    if stop.has_failed:
        raise HubFailure("the hub has failed, see the error in its log: start it again")
    flush_lines()


def _end_when_hub_fails(server: Server, stop: Stop) -> None:
    server.wait_until_hub_fails()
    stop.fail()


class HubFailure(click.ClickException):
    """The hub does not start, or has failed. The reason is written to standard error without waiting for a reader."""

    def show(self, file: IO[Any] | None = None) -> None:
        print_line(f"Error: {self.format_message()}", error=True)
        flush_lines(FLUSH_SECONDS)


def _open_standard_streams() -> None:
    """Open the null device for each standard stream that is closed. Otherwise a socket of the hub would get its number,
    and log lines would be written into that socket."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)


def _by_option(message: str) -> str:
    """Name the option and the variables of this command, instead of the argument, in a message of the hub about a
    key."""
    setting, _, problem = message.partition(": ")
    if setting not in ("publisher_key", "subscriber_key"):
        return message
    role = setting.removesuffix("_key")
    return f"--{role}-secret, MERCURE_{role.upper()}_SECRET_KEY or FLASK_SECRET_KEY: {problem}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _settings(options: Mapping[str, Any], variables: Variables) -> dict[str, Any]:
    """The arguments of the hub: from the options, else from the variables, else the defaults.

    Raises:
        ValueError: a value cannot be used, such as the empty text for a secret.
    """
    shared = "FLASK_SECRET_KEY", "SECRET_KEY"
    fallback = variables.first(*shared)

    def secret(role: str) -> str | None:
        given: str | None = options[f"{role.lower()}_secret"]
        if given == "":
            raise ValueError(f"--{role.lower()}-secret is empty: {KEY_ADVICE}")
        names = f"MERCURE_{role}_SECRET_KEY", f"MERCURE_{role}_JWT_KEY"
        found = given or variables.first(*names) or fallback
        if not found:
            variables.refuse_empty(*names, *shared)
        return found

    def switch(option: str, key: str) -> bool:
        value: bool | None = options[option]
        return parse_bool(key, variables.first(key) or "true") if value is None else value

    keep_alive, retry = "MERCURE_HUB_KEEPALIVE_INTERVAL", "MERCURE_HUB_RETRY_INTERVAL"
    history = "MERCURE_HUB_RECONCILIATION_LENGTH"
    return {
        "publisher_key": secret("PUBLISHER"),
        "subscriber_key": secret("SUBSCRIBER"),
        "anonymous": switch("allow_anonymous", "MERCURE_HUB_ALLOW_ANONYMOUS"),
        "subscriptions": switch("subscriptions", "MERCURE_HUB_SUBSCRIPTIONS"),
        "keep_alive": parse_number(keep_alive, variables.first(keep_alive) or "15"),
        "retry": parse_number(retry, variables.first(retry) or "3"),
        "history_max": parse_whole_number(history, given) if (given := variables.first(history)) else None,
        "transport": options["transport"] or variables.first("MERCURE_HUB_TRANSPORT") or None,
        "cookie_name": variables.first("MERCURE_AUTHZ_COOKIE_NAME") or "mercureAuthorization",
    }


_FEW_STREAMS: Final = 10_000
"""A warning is printed if there is room for fewer streams. The usual hard limit of open files has room for more."""

_DRAIN_SECONDS: Final = 5.0
"""How long requests may take to finish when the hub stops."""


if __name__ == "__main__":
    main(prog_name="python -m flask_mercure_sse.server")
