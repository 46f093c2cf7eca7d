"""The settings of one application: read once from config, keywords and environment, checked, and never changed.

A setting stands here three times: in NAMES, as a field with its meaning, and where :func:`load` checks it. Its type and
its default are those of :meth:`flask_mercure_sse.MercureSSE.init_app`. ``make reference`` writes the table of
docs/reference/settings.md from them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from . import values
from .http.answer import Timeouts
from .values import HUB_PATH, STANDALONE_HUB_URL, is_absolute

NAMES: Final = (
    "hub_url",
    "public_hub_url",
    "publisher_jwt",
    "subscriber_secret_key",
    "publisher_secret_key",
    "hub_allow_publish",
    "hub_allow_anonymous",
    "hub_subscriptions",
    "hub_keepalive_interval",
    "hub_reconciliation_length",
    "authz_cookie_name",
    "type_is_topic",
    "hub",
    "protocol",
    "jwt_ttl",
    "jwt_issuer",
    "jwt_audience",
    "connect_timeout",
    "read_timeout",
    "publish_background",
    "publish_queue_length",
    "publish_drain_seconds",
    "hub_transport",
    "last_event_id_in_urls",
    "after_commit_retry",
    "authz_cookie_grace",
    "hub_retry_interval",
)
"""The settings, as keywords of ``init_app``."""

COOKIE_NAMES: Final = {"0.x": "mercureAuthorization", "1.0": "__Secure-mercure_access_token"}
"""The cookie that hubs look for, in each dialect of the protocol."""

NO_HUB_NAMED: Final = "no setting names a hub"
NAME_A_HUB: Final = "set MERCURE_HUB = True for the embedded hub, or MERCURE_HUB_URL"
"""What to change where no setting names a hub."""

_ENVIRONMENT: Final = {
    "subscriber_secret_key": "MERCURE_SUBSCRIBER_JWT_KEY",
    "publisher_secret_key": "MERCURE_PUBLISHER_JWT_KEY",
    "hub_transport": "MERCURE_HUB_TRANSPORT",
}
"""The settings that an environment variable may give, and its name."""


def config_key(name: str) -> str:
    """The key of a setting in ``app.config``.

    >>> config_key("hub_url")
    'MERCURE_HUB_URL'
    """
    return "MERCURE_" + name.upper()


@dataclass(frozen=True, repr=False)
class Settings:
    """Checked settings. They hold secrets, so their ``repr`` does not show them.

    The texts below the fields are the table in docs/reference/settings.md, in this order. "None:" says what holds
    without the setting.
    """

    hub_url: str | bool | None
    """The URL of the hub. ``True``: browsers find the hub at the host of the request. None: the mode of the
    application decides."""
    public_hub_url: str | bool | None
    """The URL for browsers, if it differs. ``True``: the hub is at the host of the request. A path or ``//host/path``:
    the request supplies the rest. With an embedded hub: only if ``MERCURE_HUB = True``. None: ``MERCURE_HUB_URL``."""
    hub: bool | None
    """Whether the hub is embedded. None: the mode of the application decides; ``True`` with ``MERCURE_HUB_TRANSPORT``,
    unless ``MERCURE_HUB_URL`` is set."""
    publisher_jwt: str | None
    """The token to publish with. None: made with the publisher key."""
    publisher_secret_key: str | bytes | None
    """Signs publishers' tokens. Empty: there is no key. None: ``SECRET_KEY``."""
    subscriber_secret_key: str | bytes | None
    """Signs subscribers' tokens. Empty: there is no key. None: ``SECRET_KEY``."""
    authz_cookie_name: str
    """The name of the cookie with the token. None: ``mercureAuthorization``; 1.0: ``__Secure-mercure_access_token``."""
    type_is_topic: bool
    """Use the topic as the type of an update that has none."""
    protocol: Literal["0.x", "1.0"]
    """``"0.x"`` or ``"1.0"``: the dialect of tokens, cookies, URLs and the subscriptions API."""
    jwt_ttl: int
    """Seconds until the application's tokens expire. 0: never (0.x only)."""
    authz_cookie_grace: int
    """Seconds for which the cookie outlives its token, so that a page whose token has ended is refused and can renew
    it."""
    jwt_issuer: str | None
    """1.0: the ``iss`` of tokens. None: the origin of their audience."""
    jwt_audience: str | None
    """1.0: the ``aud`` of tokens, the hub's resource identifier. None: the hub's public URL if it has scheme and host,
    else ``MERCURE_HUB_URL``."""
    timeouts: Timeouts
    publish_background: bool
    """Whether a queue publishes, so that no request waits for the hub or fails with it. Not used by an embedded hub in
    memory, which takes updates at once."""
    publish_queue_length: int
    """Updates that each queue holds. A full queue drops new updates."""
    publish_drain_seconds: float
    """How long the queues may go on sending at the end of the process."""
    after_commit_retry: bool
    """After a commit, send an update again in the background if the hub was unavailable."""
    last_event_id_in_urls: bool
    """Whether hub URLs in templates have the id of the newest update, so that a page misses nothing while it loads."""
    hub_transport: str | None
    """Where the embedded hub has its log: ``host:///DIRECTORY`` for the processes of one host, ``redis://…``,
    ``nats://…`` or ``postgres://…`` for several hosts, ``memory:`` for one process. None: shared by the processes of
    the same application and user on the host."""
    hub_allow_publish: bool
    """Embedded hub: whether it accepts updates over HTTP."""
    hub_allow_anonymous: bool
    """Embedded hub: whether subscribers need no token."""
    hub_subscriptions: bool
    """Embedded hub: whether it announces and lists subscriptions."""
    hub_keepalive_interval: float
    """Embedded hub: seconds between signs of life on an idle stream. 0: none."""
    hub_retry_interval: float
    """Embedded hub: seconds that browsers wait before they connect again. 0: as they like."""
    hub_reconciliation_length: int | None
    """Embedded hub: updates that are kept for reconnections. None: 10,000 in the log of a host, 500 in memory, 100,000
    in other logs."""

    @property
    def external_url(self) -> str:
        """The hub that the application talks to where it has no embedded hub."""
        return self.hub_url if isinstance(self.hub_url, str) else STANDALONE_HUB_URL

    @property
    def names_hub(self) -> bool:
        """Whether ``external_url`` is that of a setting, and not the default."""
        return isinstance(self.hub_url, str)

    def use_elsewhere(self, hub_url: str | bool | None) -> None:
        """Use another hub from now on, as workers of Hyperflask ask for. Everything else never changes."""
        object.__setattr__(self, "hub_url", hub_url)

    def embed_no_hub(self) -> None:
        """Use no embedded hub from now on."""
        object.__setattr__(self, "hub", False)

    def embedded_url(self, config: Mapping[str, Any]) -> str | None:
        """The public URL of the embedded hub, if the settings or Flask's ``config`` say it."""
        if self.hub and is_absolute(self.public_hub_url):
            return str(self.public_hub_url) if urlsplit(str(self.public_hub_url)).path == HUB_PATH else None
        server_name = config.get("SERVER_NAME")
        return f"{config['PREFERRED_URL_SCHEME']}://{server_name}{HUB_PATH}" if server_name else None


def load(config: Mapping[str, Any], keywords: Mapping[str, Any]) -> Settings:
    """Read and check the settings of an application.

    Args:
        config: ``app.config``. A key that is there wins, also if its value is None.
        keywords: a value for each of NAMES.

    Secrets and the transport may also come from the environment, if neither config nor keyword gives them.

    Raises:
        ValueError: a setting cannot be used. The message names the setting and says what to write.
    """
    given = {name: config.get(config_key(name), keywords[name]) for name in NAMES}
    protocol = values.parse_protocol(given["protocol"])
    jwt_ttl = values.parse_whole_number("MERCURE_JWT_TTL", given["jwt_ttl"])
    if protocol == "1.0" and jwt_ttl == 0:
        raise ValueError("MERCURE_JWT_TTL: tokens of protocol 1.0 expire: write a number of seconds above 0")
    # SECRET_KEY may be set later, too. A broken one that is there now is reported now.
    values.parse_key("SECRET_KEY", config.get("SECRET_KEY"))

    def switch(name: str) -> bool:
        return values.parse_bool(config_key(name), given[name])

    def secret(name: str) -> str | bytes | None:
        key = values.parse_key(*_with_environment(config, name, given[name]))
        return key or ("" if config_key(name) in config else None)

    history = given["hub_reconciliation_length"]
    return Settings(
        hub_url=values.parse_hub_url(given["hub_url"]),
        public_hub_url=values.parse_public_hub_url(given["public_hub_url"]),
        authz_cookie_name=values.parse_cookie_name(given["authz_cookie_name"]) or COOKIE_NAMES[protocol],
        type_is_topic=switch("type_is_topic"),
        hub_allow_publish=switch("hub_allow_publish"),
        hub_allow_anonymous=switch("hub_allow_anonymous"),
        hub_subscriptions=switch("hub_subscriptions"),
        hub_keepalive_interval=values.parse_number(
            "MERCURE_HUB_KEEPALIVE_INTERVAL", given["hub_keepalive_interval"] or 0
        ),
        hub_retry_interval=values.parse_number("MERCURE_HUB_RETRY_INTERVAL", given["hub_retry_interval"] or 0),
        hub_reconciliation_length=None
        if history is None
        else values.parse_whole_number("MERCURE_HUB_RECONCILIATION_LENGTH", history),
        hub=None if given["hub"] is None else switch("hub"),
        protocol=protocol,
        jwt_ttl=jwt_ttl,
        jwt_issuer=values.parse_text("MERCURE_JWT_ISSUER", given["jwt_issuer"]),
        jwt_audience=values.parse_text("MERCURE_JWT_AUDIENCE", given["jwt_audience"]),
        timeouts=Timeouts(
            connect=values.parse_seconds_above_zero("MERCURE_CONNECT_TIMEOUT", given["connect_timeout"]),
            read=values.parse_seconds_above_zero("MERCURE_READ_TIMEOUT", given["read_timeout"]),
        ),
        publish_background=switch("publish_background"),
        publish_queue_length=values.parse_whole_number(
            "MERCURE_PUBLISH_QUEUE_LENGTH", given["publish_queue_length"], 1
        ),
        publish_drain_seconds=values.parse_number("MERCURE_PUBLISH_DRAIN_SECONDS", given["publish_drain_seconds"]),
        publisher_jwt=values.parse_publisher_jwt(given["publisher_jwt"]),
        subscriber_secret_key=secret("subscriber_secret_key"),
        publisher_secret_key=secret("publisher_secret_key"),
        hub_transport=values.parse_transport(_with_environment(config, "hub_transport", given["hub_transport"])[1]),
        last_event_id_in_urls=switch("last_event_id_in_urls"),
        after_commit_retry=switch("after_commit_retry"),
        authz_cookie_grace=values.parse_whole_number("MERCURE_AUTHZ_COOKIE_GRACE", given["authz_cookie_grace"]),
    )


def _with_environment(config: Mapping[str, Any], name: str, value: Any) -> tuple[str, Any]:
    """The name under which a setting is given and its value: from config or keyword, else from the environment."""
    key, variable = config_key(name), _ENVIRONMENT[name]
    if key in config or value:
        return key, value
    return variable, os.environ.get(variable)
