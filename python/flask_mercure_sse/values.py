"""The values of settings: each function checks and converts a value from a config, a keyword or the environment.

Every error is a ValueError that begins with the name of the setting and says what to write. It quotes no value: a
value may be a secret.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final, Literal

from ._native import Hub, InvalidUpdate, check_key
from .errors import TokenRefusedError
from .host_log import is_short
from .tokens import check_token

HUB_PATH: Final = "/.well-known/mercure"
"""The path of every hub, unless its URL says otherwise."""

STANDALONE_HUB_URL: Final = "http://localhost:5500" + HUB_PATH
"""The hub of ``python -m flask_mercure_sse.server`` on the same machine."""

HUB_URL_FROM_REQUEST: Final = True
"""As ``MERCURE_HUB_URL``: the hub is at the host of the request."""


# Switches and numbers


def parse_bool(key: str, value: Any) -> bool:
    """A switch, also as the text of an environment variable.

    >>> parse_bool("MERCURE_HUB", "off"), parse_bool("MERCURE_HUB", 1)
    (False, True)

    Raises:
        ValueError: the text is no switch.
    """
    if isinstance(value, str):
        switch = _SWITCHES.get(value.strip().lower())
        if switch is None:
            raise ValueError(f"{key}: write true or false")
        return switch
    return bool(value)


_SWITCHES: Final = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off", ""), False),
}


def parse_number(key: str, value: Any) -> float:
    """A number of seconds from 0 to NUMBER_MAX.

    >>> parse_number("MERCURE_HUB_KEEPALIVE_INTERVAL", "2.5")
    2.5

    Raises:
        ValueError: the value is no such number.
    """
    try:
        number = float("" if isinstance(value, bool) else value)
    except (TypeError, ValueError, OverflowError):
        number = -1
    if not 0 <= number <= NUMBER_MAX:
        raise ValueError(f"{key}: write a number, 0 or more, up to {NUMBER_MAX}")
    return number


NUMBER_MAX: Final = 10**9
"""About 31 years in seconds. Sockets, dates and tokens hold no more than some centuries."""


def parse_whole_number(key: str, value: Any, least: int = 0) -> int:
    """A number of seconds or of updates without a fraction, from ``least`` to NUMBER_MAX.

    >>> parse_whole_number("MERCURE_JWT_TTL", "60")
    60

    Raises:
        ValueError: the value is no such number.
    """
    try:
        number = parse_number(key, value)
    except ValueError:
        number = -1
    # A fraction would be cut off: half a second would become 0, which means never.
    if number < least or number != int(number):
        raise ValueError(f"{key}: write a whole number, {least} or more, up to {NUMBER_MAX}")
    return int(number)


def parse_seconds_above_zero(key: str, value: Any) -> float:
    """A number of seconds above 0.

    Raises:
        ValueError: the value is no such number.
    """
    number = parse_number(key, value)
    if number == 0:
        raise ValueError(f"{key}: write a number above 0")
    return number


# URLs of hubs


def check_url(key: str, value: Any) -> str | None:
    """The URL of a hub, without a slash at its end. None: the value is None or empty.

    >>> check_url("MERCURE_HUB_URL", "http://localhost:3000/.well-known/mercure/")
    'http://localhost:3000/.well-known/mercure'

    Raises:
        ValueError: the value is no absolute http or https URL that consists of host, port and path.
    """
    if value is None or value == "":
        return None
    match = _URL.fullmatch(value) if isinstance(value, str) else None
    if match is None or not match["scheme"] or not match["host"]:
        raise ValueError(f"{key}: write the hub's URL, such as {STANDALONE_HUB_URL!r}, without user, query or fragment")
    return _checked_url(key, match)


def _checked_url(key: str, match: re.Match[str]) -> str:
    labels = (match["host"] or "x").removesuffix(".").split(".")
    if "[" not in labels[0] and not all(0 < len(label) < 64 for label in labels):
        raise ValueError(f"{key}: write the hub's URL with a host of labels of 1 to 63 characters")
    if int(match["port"] or 0) > 65535:
        raise ValueError(f"{key}: write the hub's URL with a port up to 65535")
    scheme: str = match["scheme"] or ""
    return scheme.lower() + (match[0][len(scheme) :].rstrip("/") or "/")


_URL: Final = re.compile(
    r"(?P<scheme>(?i:https?:)(?=//))?"
    r"(?://(?P<host>[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{0,9}))?)?(?P<path>/(?!/)[!$%&(-;=@-\[\]^_a-~]*)?"
)
"""A URL whose scheme or host may be missing. Characters that could end a string or an attribute of a page, or begin a
query, are not in it."""


def is_absolute(url: str | bool | None) -> bool:
    """Whether the URL of a hub has a scheme and a host.

    >>> is_absolute("https://hub.example/.well-known/mercure"), is_absolute("/.well-known/mercure"), is_absolute(True)
    (True, False, False)
    """
    return isinstance(url, str) and not url.startswith("/")


def parse_hub_url(value: Any) -> str | bool | None:
    """``MERCURE_HUB_URL``: a URL, True (the host of the request), or None.

    Raises:
        ValueError: the value is none of these.
    """
    if value is HUB_URL_FROM_REQUEST or (isinstance(value, str) and value.lower() == "true"):
        return HUB_URL_FROM_REQUEST
    if value is False or (isinstance(value, str) and value.lower() == "false"):
        return None
    return check_url("MERCURE_HUB_URL", value)


def parse_public_hub_url(value: Any) -> str | bool | None:
    """``MERCURE_PUBLIC_HUB_URL``: a URL that may lack its scheme, or scheme and host; True, or None.

    Raises:
        ValueError: the value is none of these.
    """
    if value is HUB_URL_FROM_REQUEST or (isinstance(value, str) and value.lower() == "true"):
        return HUB_URL_FROM_REQUEST
    match = _URL.fullmatch(value) if isinstance(value, str) and value.startswith("/") else None
    if match is None:
        return check_url("MERCURE_PUBLIC_HUB_URL", value)
    return _checked_url("MERCURE_PUBLIC_HUB_URL", match)


def parse_transport(value: Any) -> str | None:
    """``MERCURE_HUB_TRANSPORT``: the URL of a log, with its password. None: none is given.

    Raises:
        ValueError: the hub knows no such log.
    """
    if not value:
        return None
    if not isinstance(value, str):
        raise ValueError("MERCURE_HUB_TRANSPORT: write a text such as redis://localhost:6379")
    try:
        # The place of a short one is chosen when the hub is used.
        Hub(transport="host:///place" + value.removeprefix("host:") if is_short(value) else value)
    except InvalidUpdate as error:
        raise ValueError(f"MERCURE_HUB_TRANSPORT: {str(error).partition(': ')[2]}") from None
    return value


# Texts


def parse_text(key: str, value: Any) -> str | None:
    """A text of printable characters without spaces. None: the value is None or empty.

    Raises:
        ValueError: the value is no such text.
    """
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not value.isprintable() or " " in value:
        raise ValueError(f"{key}: write a text without spaces")
    return value


def parse_protocol(value: Any) -> Literal["0.x", "1.0"]:
    """``MERCURE_PROTOCOL``: the dialect that the application speaks.

    Raises:
        ValueError: there is no such dialect.
    """
    if value == "0.x" or value == "1.0":
        return value  # type: ignore[no-any-return]
    raise ValueError('MERCURE_PROTOCOL: write "0.x" or "1.0"')


def parse_cookie_name(value: Any) -> str | None:
    """``MERCURE_AUTHZ_COOKIE_NAME``: a token of RFC 6265, section 4.1.1. None: the value is None or empty.

    Raises:
        ValueError: browsers take no cookie of that name with the path of a hub.
    """
    name = parse_text("MERCURE_AUTHZ_COOKIE_NAME", value)
    if name is not None and not _COOKIE_NAME.fullmatch(name):
        raise ValueError(f"MERCURE_AUTHZ_COOKIE_NAME: write letters, digits and {_COOKIE_SIGNS}")
    if name is not None and name.startswith("__Host-"):
        raise ValueError("MERCURE_AUTHZ_COOKIE_NAME: write another name: __Host- is for cookies with the path /")
    return name


_COOKIE_SIGNS: Final = "!#$%&'*+-.^_`|~"
_COOKIE_NAME: Final = re.compile(f"[A-Za-z0-9{re.escape(_COOKIE_SIGNS)}]+")


# Secrets


def parse_publisher_jwt(value: Any) -> str | None:
    """``MERCURE_PUBLISHER_JWT``: a token, without the line end of its file. None: the value is None or empty.

    Raises:
        ValueError: the value is no token.
    """
    if value is None or value == "":
        return None
    try:
        return check_token(value)
    except TokenRefusedError:
        raise ValueError("MERCURE_PUBLISHER_JWT: write a token: letters, digits, dots, dashes, underscores") from None


def parse_key(key: str, value: Any) -> str | bytes | None:
    """A shared secret, or a public key in PEM, that the hub takes. None: the value is None or empty.

    Raises:
        ValueError: the hub does not take the key.
    """
    if value is None:
        return None
    if not isinstance(value, (str, bytes)):
        raise ValueError(f"{key}: write a text or bytes")
    if not value:
        return None
    try:
        weakness(value)
    except UnicodeEncodeError:
        raise ValueError(f"{key}: write bytes, or a text that UTF-8 can hold") from None
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None
    return value


@lru_cache(maxsize=64)
def weakness(key: str | bytes) -> str | None:
    """Why a key is weak, and the remedy. None: it is not weak.

    Cached, because SECRET_KEY is checked at each use: it may be set late, or change.

    Raises:
        ValueError: the hub does not take the key.
    """
    if isinstance(key, str):
        key.encode()
    return check_key(key)
