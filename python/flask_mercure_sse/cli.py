"""``flask mercure``: keys, tokens, and publishing from a terminal."""

from __future__ import annotations

import secrets
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import click
from flask.cli import AppGroup

from .drafts import Draft
from .errors import MercureError
from .keys import Role
from .publishing import Delivery
from .state import current_state
from .values import check_url

YEAR_SECONDS: Final = 365 * 24 * 3600

cli = AppGroup("mercure", help="Mercure hub commands")


@cli.command(with_appcontext=False)
def gen_secret_key() -> None:
    """Generate a secret key, for MERCURE_SUBSCRIBER_SECRET_KEY or MERCURE_PUBLISHER_SECRET_KEY."""
    click.echo(secrets.token_hex(16))


@cli.command()
@click.option("--topic", "-t", multiple=True, default=["*"], show_default=True, help="May be given several times.")
@click.option("--ttl", type=click.IntRange(min=0), help="Seconds until it expires, 0: never (0.x). [MERCURE_JWT_TTL]")
def subscriber_jwt(topic: tuple[str, ...], ttl: int | None) -> None:
    """Generate a JWT for receiving private updates of topics."""
    _print_token("subscriber", {"subscribe": list(topic)}, ttl)


@cli.command()
@click.option("--topic", "-t", multiple=True, default=["*"], show_default=True, help="May be given several times.")
@click.option("--ttl", type=click.IntRange(min=0), help="Seconds until it expires, 0: never. [never; in 1.0 a year]")
def publisher_jwt(topic: tuple[str, ...], ttl: int | None) -> None:
    """Generate a JWT for publishing on topics, to be kept in a configuration."""
    if ttl is None:
        # Longer than MERCURE_JWT_TTL: nothing renews it.
        ttl = 0 if current_state().settings.protocol == "0.x" else YEAR_SECONDS
    _print_token("publisher", {"publish": list(topic)}, ttl)


def _print_token(role: Role, grants: dict[str, list[str]], ttl: int | None) -> None:
    authorization = current_state().authorization
    try:
        click.echo(authorization.sign(role, authorization.key(role), grants, ttl))
    except ValueError as error:
        raise click.ClickException(str(error)) from None


@cli.command()
@click.option("--hub", "hub_url", help="The hub's URL; by default the application's hub.")
@click.option("--jwt", help="The publisher's JWT; by default the application's.")
@click.option("--private", is_flag=True, help="For subscribers with a token only.")
@click.option("--id", help="The update's id; by default the hub makes one.")
@click.option("--type", help="The event's type.")
@click.option("--retry", type=click.IntRange(min=0), help="Milliseconds after which browsers reconnect.")
@click.argument("topic")
@click.argument("data")
def publish(topic: str, data: str, hub_url: str | None, jwt: str | None, **options: Any) -> None:
    """Publish DATA on TOPIC and print the update's id."""
    state = current_state()
    if state.embedded.is_used and hub_url is None and state.embedded.shared_transport is None:
        raise click.ClickException(
            "the embedded hub has its log in the memory of the server, out of reach of this process: name a hub with "
            "--hub (the application's own needs MERCURE_HUB_ALLOW_PUBLISH), or let both share a log "
            "(MERCURE_HUB_TRANSPORT)"
        )
    try:
        # Not from a queue: it would end with this process, and the outcome would be lost.
        delivery = Delivery.from_arguments(state, jwt, hub_url, background=False)
        click.echo(delivery.send(Draft(topic, data, type_is_topic=state.settings.type_is_topic, **options).update()))
    except (MercureError, ValueError, RuntimeError) as error:
        raise click.ClickException(str(error)) from None


@cli.command()
@click.option("--output", "-o", type=click.Path(dir_okay=False, writable=True), help="The file; by default the output.")
@click.option(
    "--format", "form", type=click.Choice(["typescript", "json-schema"]), default="typescript", show_default=True
)
def types(output: str | None, form: str) -> None:
    """Write what the events of @mercure.event hold, for pages and other programs."""
    try:
        shapes = current_state().events.shapes()
    except TypeError as error:
        raise click.ClickException(str(error)) from None
    if not shapes:
        raise click.ClickException("there are no events with a type: register their classes with @mercure.event")
    # Only this command needs it, and every application imports this module.
    from . import shape_documents

    text = shape_documents.typescript(shapes) if form == "typescript" else shape_documents.json_schema(shapes)
    if output is None:
        click.echo(text, nl=False)
    else:
        try:
            Path(output).write_text(text, encoding="utf-8")
        except OSError as error:
            raise click.FileError(output, error.strerror) from None


@cli.command()
@click.argument("url", required=False)
@click.option("--origin", "origins", multiple=True, help="The origin of other pages that use the hub. Several times.")
@click.option("--server", help='The command that starts the server, such as "gunicorn --workers 4 app:app".')
@click.option(
    "--streams", type=click.IntRange(min=0), default=500, show_default=True, help="Streams that are expected."
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, 3600),
    default=20.0,
    show_default=True,
    help="How long a silent stream is held at URL; 0: not at all.",
)
def doctor(url: str | None, origins: tuple[str, ...], server: str | None, streams: int, seconds: float) -> None:
    """Say what will not work in production, and what to change.

    With URL, the address of the running site as browsers see it, a stream is opened through its proxy, and updates are
    published to it. The exit code is 1 if there is a problem.
    """
    # Only this command needs it, and every application imports this module.
    from .doctor import Options, examine

    try:
        site = check_url("URL", url)
        pages = tuple(str(check_url("--origin", origin)).rstrip("/") for origin in origins)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    options = Options(site, pages, server, streams, seconds)
    width = min(shutil.get_terminal_size().columns, 120)
    counted = {"ok": 0, "warning": 0, "problem": 0}
    for finding in examine(current_state(), options, lambda held: _show_progress(held, seconds)):
        click.echo(finding.text(width))
        counted[finding.level] += 1
    click.echo(", ".join(f"{level}: {number}" for level, number in counted.items()))
    if url is None:
        click.echo("With the URL of the running site: flask mercure doctor https://…")
    raise SystemExit(1 if counted["problem"] else 0)


def _show_progress(held: float, seconds: float) -> None:
    """On a terminal, one line that is written anew and in the end removed."""
    if sys.stderr.isatty():
        line = f"holding a stream: {held:.0f} of {seconds:g} s" if held < seconds else ""
        click.echo(f"\r{line:<40}\r", nl=False, err=True)
