"""Publishers and subscribers: threads that reach any node and that come back after whatever happens to them."""

from __future__ import annotations

import http.client
import itertools
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from urllib.parse import quote, urlencode, urlsplit

import hubs
from clients import HUB_PATH, Stream, Token
from torture.ledger import MISSED, Ledger

PUBLISH = {"Authorization": "Bearer " + Token.sign({"mercure": {"publish": ["*"]}}, hubs.PUBLISHER)}
SUBSCRIBE = {"Authorization": "Bearer " + Token.sign({"mercure": {"subscribe": ["*"]}}, hubs.SUBSCRIBER)}
EVERYTHING = "news"
"""The topic that each update has."""
ANSWER_SECONDS = 15.0
"""How long a publisher waits for an answer. It is more than each log's own time-out, after which the hub answers."""
SILENCE_SECONDS = 5.0
"""How long a subscriber waits for a byte. The hub sends a comment each second."""
AGAIN_SECONDS = 0.1
"""The pause before the next attempt, of publishers and subscribers."""
PADDING = "x" * 500

Urls = Callable[[], Sequence[str]]
"""The URLs of all nodes."""


class Publisher(threading.Thread):
    """Publishes numbered updates, each until it is acknowledged. Each attempt has an id of its own, so that an attempt
    whose end is unknown may arrive or not."""

    def __init__(self, name: str, urls: Urls, ledger: Ledger, chance: random.Random, rate: float) -> None:
        super().__init__(name=name, daemon=True)
        self.urls, self.ledger, self.chance, self.pause = urls, ledger, chance, 1 / rate
        self.ends, self.goes_on, self.hurries = threading.Event(), threading.Event(), threading.Event()
        self.is_idle = threading.Event()
        self.connection: http.client.HTTPConnection | None = None

    def run(self) -> None:
        try:
            self.publish_all()
        finally:
            self.disconnect()

    def publish_all(self) -> None:
        for number in itertools.count():
            for attempt in itertools.count():
                if not self.goes_on.is_set():
                    self.is_idle.set()
                    self.goes_on.wait()
                    self.is_idle.clear()
                if self.ends.is_set():
                    return
                if self.publish(f"{self.name}:{number}:{attempt}", (EVERYTHING, self.name)) == 200:
                    break
                self.ends.wait(AGAIN_SECONDS)
            if not self.hurries.is_set():
                self.ends.wait(self.pause * self.chance.uniform(0.5, 1.5))

    def publish(self, id: str, topics: tuple[str, ...]) -> int | None:
        """Returns the status, or None if no answer comes."""
        form = [*(("topic", topic) for topic in topics), ("data", PADDING), ("id", id)]
        if self.chance.random() < 0.5:
            form.append(("private", "on"))
        attempt = self.ledger.send(id, topics)
        try:
            if self.connection is None or self.chance.random() < 0.05:
                self.connect()
            status = self.exchange(urlencode(form))
        except (OSError, http.client.HTTPException):
            self.disconnect()
            return None
        self.ledger.answer(attempt, status)
        if status != 200:
            self.disconnect()
        return status

    def exchange(self, body: str) -> int:
        assert self.connection is not None
        headers = {**PUBLISH, "Content-Type": "application/x-www-form-urlencoded"}
        self.connection.request("POST", HUB_PATH, body, headers)
        with closing(self.connection.getresponse()) as answer:
            answer.read()
            if answer.status == 503 and "retry-after" not in answer.headers:
                return 500
            return answer.status

    def connect(self) -> None:
        self.disconnect()
        address = urlsplit(self.chance.choice(self.urls())).netloc
        self.connection = http.client.HTTPConnection(address, timeout=ANSWER_SECONDS)

    def disconnect(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def close(self) -> None:
        self.ends.set()
        self.goes_on.set()


class Subscriber(threading.Thread):
    """Reads one topic from any node. When its stream ends or is silent, it goes to another node with its cursor.

    ``visits``: after so many events it leaves by itself, on average; None: never."""

    def __init__(
        self, name: str, topic: str, urls: Urls, chance: random.Random, cursor: str, visits: int | None = None
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.topic, self.urls, self.chance, self.cursor, self.visits = topic, urls, chance, cursor, visits
        self.arrivals: list[str] = []
        self.streams = 0
        self.ends, self.reads = threading.Event(), threading.Event()
        self.reads.set()
        self.is_open = threading.Event()

    def run(self) -> None:
        while not self.ends.is_set():
            try:
                self.read(self.chance.choice(self.urls()))
            except (OSError, EOFError, ValueError, http.client.HTTPException):
                self.ends.wait(AGAIN_SECONDS)

    def read(self, url: str) -> None:
        query = f"topic={quote(self.topic)}&lastEventID={quote(self.cursor)}"
        with closing(Stream(f"{url}?{query}", SUBSCRIBE, SILENCE_SECONDS)) as stream:
            if stream.status != 200:
                raise EOFError
            if stream.headers["Last-Event-ID"] != self.cursor:
                self.arrivals.append(MISSED)
            self.streams += 1
            self.is_open.set()
            while not self.ends.is_set():
                event = stream.event()
                self.arrivals.append(event["id"])
                self.cursor = event["id"]
                if not self.reads.is_set():
                    self.reads.wait()
                if self.visits is not None and self.chance.random() < 1 / self.visits:
                    return

    def take(self, marker: str) -> list[str]:
        """Removes what has arrived up to an update, and returns it."""
        end = self.arrivals.index(marker) + 1
        taken, self.arrivals[:end] = self.arrivals[:end], []
        return taken

    def close(self) -> None:
        self.ends.set()
        self.reads.set()


def replay(url: str, cursor: str, marker: str) -> list[str]:
    """What a subscriber gets that comes with a cursor, up to an update; first ``MISSED`` if it is told of a loss.

    Raises ``OSError`` or ``EOFError`` if the stream ends before."""
    query = f"topic={EVERYTHING}&lastEventID={quote(cursor)}"
    with closing(Stream(f"{url}?{query}", SUBSCRIBE, SILENCE_SECONDS)) as stream:
        if stream.status != 200:
            raise EOFError(f"answered {stream.status}")
        ids = [] if stream.headers["Last-Event-ID"] == cursor else [MISSED]
        deadline = time.monotonic() + 60
        while not ids or ids[-1] != marker:
            if time.monotonic() > deadline:
                raise EOFError(f"{marker} does not arrive")
            ids.append(stream.event()["id"])
        return ids
