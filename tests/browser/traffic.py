"""Updates without end, and the check that a page has heard each once."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

from clients import PATIENCE


class Traffic(threading.Thread):
    """Publishes an update each 10 ms, each until it is acknowledged.

    Every attempt has a text of its own: one whose end is not known may have been published or not."""

    def __init__(self, publish: Callable[[str], bool]) -> None:
        super().__init__(daemon=True)
        self.publish = publish
        self.stopped = threading.Event()
        self.acknowledged: list[str] = []
        self.attempts: list[str] = []
        self.start()

    def run(self) -> None:
        for number in itertools.count():
            for attempt in itertools.count():
                if self.stopped.wait(0.01):
                    return
                text = f"{number}.{attempt}"
                self.attempts.append(text)
                if self.publish(text):
                    self.acknowledged.append(text)
                    break

    def stop(self) -> None:
        self.stopped.set()
        self.join(PATIENCE)
        assert not self.is_alive()

    def __enter__(self) -> Traffic:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def check(self, heard: list[str]) -> None:
        """Each acknowledged update was heard, nothing twice, nothing in another order."""
        lost = [text for text in self.acknowledged if text not in set(heard)]
        assert lost == []
        assert heard == [text for text in self.attempts if text in set(heard)]
