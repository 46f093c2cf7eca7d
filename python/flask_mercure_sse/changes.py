"""Changes of rows that wait for a commit: what each publishes, and what several changes of one row become."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from . import rows
from .committed import WaitingUpdate
from .drafts import Draft
from .errors import describe
from .publishing import Delivery
from .state import MercureSSEState

if TYPE_CHECKING:
    from .models import Broadcast, Change


@dataclass(frozen=True)
class Places:
    """Where the pages have a row: they have it under its primary key, on these topics."""

    topics: tuple[str, ...]
    key: dict[str, Any]


class WaitingChange:
    """A change that waits for a commit: see :class:`flask_mercure_sse.transactions.Waiting`."""

    def __init__(
        self,
        broadcast: Broadcast,
        state: MercureSSEState,
        change: Change,
        item: Any,
        was: Places | None = None,
    ) -> None:
        from sqlalchemy import inspect

        self._broadcast, self._state, self._change, self._item = broadcast, state, change, item
        self._was = was
        """Where the row was when the transaction began, if that may be elsewhere."""
        self._updates: list[WaitingUpdate] | None = None
        self._draft: Draft | None = None
        # Not the object: a row may be deleted and inserted again, by another one.
        self.subject = (broadcast, inspect(item).mapper.identity_key_from_instance(item))

    @property
    def _is_wanted(self) -> bool:
        return self._change in self._broadcast.options.on or self._was is not None

    @property
    def is_taken(self) -> bool:
        return self._updates is not None or not self._is_wanted

    def take(self) -> None:
        from sqlalchemy import inspect
        from sqlalchemy.orm.exc import ObjectDeletedError

        if self.is_taken:
            return
        try:
            # A bulk statement has deleted the row since: there is nothing to show.
            self._updates = [] if inspect(self._item).was_deleted else self._made()
        except ObjectDeletedError:
            # It may be a related object.
            if not rows.is_gone(self._item):
                raise
            self._updates = []

    def take_delete(self, connection: Any) -> None:
        """Take what a delete publishes, before the row is gone."""
        if self._is_wanted:
            topics = partial(self._broadcast.topics_of_delete, self._item, connection)
            self._draft = self._broadcast.draft(self._state, "delete", self._item, topics)
            self._updates = [self._update(self._draft)]
            if isinstance(self._draft.topic, list):
                self._was = Places(tuple(self._draft.topic), rows.primary_key(self._item))

    def _made(self) -> list[WaitingUpdate]:
        made: list[WaitingUpdate] = []
        broadcast, state = self._broadcast, self._state
        draft = broadcast.draft(state, self._change, self._item) if self._change in broadcast.options.on else None
        if self._was is not None:
            left = broadcast.left(state, self._item, self._was)
            if left:
                made.append(
                    self._update(broadcast.draft(state, "delete", self._item, lambda: list(left), self._was.key))
                )
        if draft is not None:
            made.append(self._update(draft))
        return made

    def _update(self, draft: Draft) -> WaitingUpdate:
        update = WaitingUpdate(Delivery.from_arguments(self._state, None, None), draft)
        update.take()
        return update

    def merged_into(self, later: WaitingChange) -> WaitingChange | None:
        if later._change == "delete":
            if self._change == "insert":
                return None
            if self._was is not None and later._draft is not None:
                # The pages have the row where it was before.
                later._updates = [later._update(replace(later._draft, topic=list(self._was.topics)))]
            return later
        # A row that took the place of a deleted one is an update, perhaps elsewhere.
        change: Change = "insert" if self._change == "insert" else "update"
        was = None if change == "insert" else self._was or later._was
        if (change, was) != (later._change, later._was):
            later._change, later._was, later._updates = change, was, None
        return later

    def publish(self, failed: set[str]) -> None:
        if not self.is_taken:
            try:
                self.take()
            except Exception as error:
                self._state.app.logger.error(
                    "a change of %s was not published after the commit: %s", type(self._item).__name__, describe(error)
                )
        for update in self._updates or ():
            update.publish(failed)
