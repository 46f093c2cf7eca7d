"""``python -m flask_mercure_sse.server``: the hub on its own. No Python is in the path of a message."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Mapping
from typing import Any, Final

import click

from .._native import Hub, InvalidUpdate, Server, sign_token
from ..settings import parse_bool, parse_number, parse_whole_number
from .app import PUBLISH_ALL
from .dotenv import Variables


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
    MERCURE_HUB_KEEPALIVE_INTERVAL (seconds), MERCURE_HUB_RECONCILIATION_LENGTH (updates), MERCURE_AUTHZ_COOKIE_NAME,
    and FLASK_SECRET_KEY for secrets that are not given.
    """
    try:
        settings = _settings(options, Variables())
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    origins = [origin.strip() for origin in cors_origins.split(",") if origin.strip()]
    for role in ("publisher", "subscriber"):
        if not settings[f"{role}_key"]:
            settings[f"{role}_key"] = secrets.token_hex(32)
            click.echo(f"Generated {role} secret key: {settings[f'{role}_key']}")
    if debug:
        os.environ.setdefault("PETASOS_LOG", "debug")
        shown = {name: value for name, value in settings.items() if not name.endswith(("_key", "transport"))}
        click.echo(f"Settings: {shown}, cors_origins: {origins}", err=True)
    _block_signals()
    try:
        server = Server(Hub(**settings, cors_origins=origins, cors_loopback_credentials=True), host, port)
    except (InvalidUpdate, ConnectionError, RuntimeError) as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        reason = f"cannot listen on {host}:{port}: {error}: choose another --host or --port"
        raise click.ClickException(reason) from None
    # click.echo flushes: whoever waits for these lines may read them through a pipe.
    click.echo(f"Publisher JWT: {sign_token(PUBLISH_ALL, settings['publisher_key'])}")
    bound = f"[{server.host}]" if ":" in server.host else server.host
    click.echo(f"Serving on http://{bound}:{server.port}")
    _wait_for_signal()
    server.stop()


def _settings(options: Mapping[str, Any], variables: Variables) -> dict[str, Any]:
    """The arguments of the hub: options, then variables, then defaults."""
    fallback = variables.first("FLASK_SECRET_KEY", "SECRET_KEY")

    def secret(role: str) -> str | None:
        given: str | None = options[f"{role.lower()}_secret"]
        return given or variables.first(f"MERCURE_{role}_SECRET_KEY", f"MERCURE_{role}_JWT_KEY") or fallback

    def switch(option: str, key: str) -> bool:
        value: bool | None = options[option]
        return parse_bool(key, variables.first(key) or "true") if value is None else value

    keep_alive, history = "MERCURE_HUB_KEEPALIVE_INTERVAL", "MERCURE_HUB_RECONCILIATION_LENGTH"
    return {
        "publisher_key": secret("PUBLISHER"),
        "subscriber_key": secret("SUBSCRIBER"),
        "anonymous": switch("allow_anonymous", "MERCURE_HUB_ALLOW_ANONYMOUS"),
        "subscriptions": switch("subscriptions", "MERCURE_HUB_SUBSCRIPTIONS"),
        "keep_alive": parse_number(keep_alive, variables.first(keep_alive) or "15"),
        "history_max": parse_whole_number(history, given) if (given := variables.first(history)) else None,
        "transport": options["transport"] or variables.first("MERCURE_HUB_TRANSPORT") or None,
        "cookie_name": variables.first("MERCURE_AUTHZ_COOKIE_NAME") or "mercureAuthorization",
    }


def _block_signals() -> None:
    """Leave SIGINT and SIGTERM to :func:`_wait_for_signal`: threads that are started from now on do not take them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def _wait_for_signal() -> None:
    signal.sigwait(_SIGNALS)
    # A second one, while streams are ended, ends the process at once.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


_SIGNALS: Final = {signal.SIGINT, signal.SIGTERM}


if __name__ == "__main__":
    main(prog_name="python -m flask_mercure_sse.server")
