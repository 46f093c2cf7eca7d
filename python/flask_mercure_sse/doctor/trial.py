"""What the doctor publishes and subscribes to: private updates on a topic that nobody else has."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from ..drafts import Draft
from ..errors import MercureError
from ..publishing import Delivery
from ..state import MercureSSEState
from ..urls import subscribe_url

_TOKEN_SECONDS = 3600


@dataclass(frozen=True, repr=False)
class Trial:
    """A topic, a token for it, and a way to publish on it."""

    state: MercureSSEState
    topic: str
    token: str | None
    """None: the application has no key that signs, so the updates are public."""
    through: str | None
    """The URL of the hub to which updates are sent. None: the hub that the application uses."""

    @classmethod
    def new(cls, state: MercureSSEState, site_hub: str | None = None) -> Trial:
        """With a new topic.

        Args:
            site_hub: the URL of the hub through the proxy, for an embedded hub that is out of reach otherwise.
        """
        topic = f"urn:uuid:{uuid.uuid4()}"
        try:
            key = state.keys.find("subscriber")
            grants = {"subscribe": [topic]}
            token = state.authorization.sign("subscriber", key, grants, _TOKEN_SECONDS) if key else None
        except ValueError:
            token = None
        is_alone = state.embedded.is_used and state.embedded.shared_transport is None
        return cls(state, topic, token, site_hub if is_alone else None)

    @property
    def can_publish(self) -> bool:
        """Whether there is a way to publish: an embedded hub with its log in memory is out of reach of this process,
        unless it takes updates over HTTP."""
        return self.through is None or self.state.settings.hub_allow_publish

    def headers(self) -> dict[str, str]:
        """The header fields of a subscriber."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def url(self, hub: str) -> str:
        """The URL of a stream on the topic."""
        return subscribe_url(self.state, hub, [self.topic])

    def publish(self, data: str) -> str:
        """Publish an update and return its id.

        Raises:
            MercureError: it was not published.
        """
        state = self.state
        jwt = None
        if self.through is not None:
            key = state.authorization.key("publisher")
            jwt = state.authorization.sign("publisher", key, {"publish": [self.topic]}, _TOKEN_SECONDS)
        delivery = Delivery.from_arguments(state, jwt, self.through, background=False)
        draft = Draft(self.topic, data, private=self.token is not None, type_is_topic=False)
        return delivery.send(draft.update())


def reason(error: MercureError | ValueError) -> str:
    """Why nothing was published, in one sentence."""
    return str(error) or type(error).__name__
