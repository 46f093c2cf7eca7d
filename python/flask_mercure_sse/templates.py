"""What Jinja templates can call: ``mercure_hub_url`` and the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from flask import Flask
from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from .client_files import CORE, RENEW, client_tags, client_url
from .stream_tags import DATASTAR, TURBO, stream_tag
from .topics import Selector, as_topic, topic


def template_globals(
    *,
    hub_url: Callable[..., str],
    authentified_hub_url: Callable[..., str],
    subscriber_jwt: Callable[..., str],
    subscription_topic: Callable[..., str],
    subscriptions: Callable[[Any], Mapping[str, Any]],
    last_event_id: str | None,
    keeps_cookie: Callable[[], bool],
    cookie_grants: Callable[[Any], bool],
    page_user: Callable[[], str | None],
) -> dict[str, Callable[..., Any]]:
    """The globals of an application's templates, made of the methods of its extension.

    Args:
        last_event_id: the cursor of hub URLs for which the template gives none.
        keeps_cookie: whether the extension keeps the cookie of the current user, and the hub receives it.
        cookie_grants: whether that cookie grants all of some topics.
        page_user: tells the users of a browser apart, so that their tabs share no stream.
    """

    # Whatever adapter a page has, its streams outlast their cookie.
    @pass_context
    def client(context: Context, /, *adapters: str, nonce: str | None = None) -> Markup:
        names = [*adapters, *([RENEW] if adapters and keeps_cookie() else [])]
        # Without Flask, and in what a template imports, nobody knows what the page has already.
        written: set[str] = context.get(_WRITTEN, set())
        tags = client_tags(*names, nonce=nonce, written=written)
        user = None if written else page_user()
        written.update((CORE, *names))
        return tags if user is None else Markup('<meta name="mercure-user" content="{}">\n{}').format(user, tags)

    # Every topic and token in a hub URL is percent-encoded and the base is checked, so the URL holds no character that
    # could end a string or an attribute; "&topic=" and "&authorization=" are no character references.
    def safe_hub_url(*args: Any, **kwargs: Any) -> Markup:
        return Markup(hub_url(*args, **{"last_event_id": last_event_id, **kwargs}))

    def safe_authentified_hub_url(*args: Any, **kwargs: Any) -> Markup:
        return Markup(authentified_hub_url(*args, **{"last_event_id": last_event_id, **kwargs}))

    # 0.4.1 named the second parameter "sub".
    def subscription_topic_of_sub(topic: Any, sub: Any = None, **names: Any) -> str:
        return subscription_topic(topic, **{"subscriber": sub, **names})

    def stream_tag_named(name: str) -> Callable[..., Markup]:
        def tag(topics: Any, private: bool = False, last_event_id: str | None = last_event_id) -> Markup:
            url = hub_url(topics, last_event_id=last_event_id)
            has_token = private and not cookie_grants(topics)
            return stream_tag(name, url, subscriber_jwt(topics) if has_token else None)

        tag.__name__ = tag.__qualname__ = name.replace("-", "_")
        return tag

    def listed(topic: Any) -> list[dict[str, Any]]:
        return list(subscriptions(topic)["subscriptions"])

    for function, name in (
        (client, "mercure_client"),
        (safe_hub_url, "mercure_hub_url"),
        (safe_authentified_hub_url, "mercure_authentified_hub_url"),
        (subscription_topic_of_sub, "mercure_subscription_topic"),
        (listed, "mercure_subscriptions"),
    ):
        # Python's errors have the name by which templates call it.
        function.__name__ = function.__qualname__ = name
    return {
        "mercure_client": client,
        "mercure_client_url": client_url,
        "mercure_hub_url": safe_hub_url,
        "mercure_authentified_hub_url": safe_authentified_hub_url,
        "mercure_subscriber_jwt": subscriber_jwt,
        "mercure_turbo_stream": stream_tag_named(TURBO),
        "mercure_datastar_stream": stream_tag_named(DATASTAR),
        "mercure_topic": _topic,
        "mercure_selector": Selector,
        "mercure_subscription_topic": subscription_topic_of_sub,
        "mercure_subscriptions": listed,
    }


def prepare(app: Flask) -> None:
    """Have each page know what ``mercure_client()`` has written into it.

    It is not kept for a request: the page of an error, or a fragment that is published, may be rendered in the same
    request as another page.
    """
    app.context_processor(lambda: {_WRITTEN: set()})


_WRITTEN: Final = "_mercure_client_written"
"""The name under which the context of a template, and of those that it extends and includes, has the adapters that the
page loads already, and CORE."""


def _topic(subject: Any, *values: Any, **named: Any) -> str:
    """With values, the topic that they make; without values, the topic of an object, as in 0.4.1."""
    return topic(subject, *values, **named) if values or named else as_topic(subject)
