"""Several nodes of a hub on one log, publishers and subscribers on all of them, and the check that they are one hub."""

from __future__ import annotations

import itertools
import json
import random
import signal
import threading
from collections.abc import Sequence
from typing import Any, Protocol
from urllib.parse import quote

import hubs
from clients import HUB_PATH, PATIENCE, Request, Stream, Token
from ports import Port
from waiting import wait_until

PUBLISH = {"Authorization": "Bearer " + Token.sign({"mercure": {"publish": ["*"]}}, hubs.PUBLISHER)}
SUBSCRIBE = {"Authorization": "Bearer " + Token.sign({"mercure": {"subscribe": ["*"]}}, hubs.SUBSCRIBER)}


class HasUrl(Protocol):
    """A node, or a proxy in front of several."""

    url: str


class Node:
    """One petasos process, always on the same port."""

    def __init__(self, log: str, host: str = "127.0.0.1", prefix: list[str] | None = None) -> None:
        # Another process takes a host's log over after some 6 s at most, for which calls may wait.
        timeout = "10s" if log.startswith("host:") else "2s"
        self.transport, self.prefix = f"{log}?lease=2s&timeout={timeout}", prefix or []
        # A port of another network namespace cannot be held from here.
        self.held = None if prefix else Port(host)
        self.listen = str(self.held or f"{host}:0")
        self.start()
        self.listen = self.url.split("/")[2]

    def start(self) -> None:
        command = [*hubs.petasos(self.listen), "--compat", "--transport", self.transport]
        self.hub = hubs.HubProcess([*self.prefix, *command])
        self.process, self.url = self.hub.process, self.hub.url

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        if self.process.poll() is None:
            self.resume()
            self.process.kill()
        if self.process.stdout is not None and not self.process.stdout.closed:
            self.process.communicate()
        if self.held is not None:
            self.held.close()

    def is_ready(self) -> bool:
        try:
            return Request("GET", self.url.replace(HUB_PATH, "/readyz")).status == 200
        except OSError:
            return False

    def subscriptions(self, topic: str | None = None) -> list[dict[str, Any]]:
        """Asked for again while the store does not answer within two seconds, as on a busy machine."""
        path = f"/subscriptions/{quote(topic, safe='')}" if topic else "/subscriptions"
        answers: list[Request] = []

        def is_answered() -> bool:
            answers.append(Request("GET", self.url + path, SUBSCRIBE))
            return answers[-1].status != 503

        wait_until(is_answered, "the subscriptions are listed")
        assert answers[-1].status == 200, answers[-1].body
        found: list[dict[str, Any]] = json.loads(answers[-1].body)["subscriptions"]
        return found


class Publisher(threading.Thread):
    """Publishes a sequence of updates, each until it is acknowledged: every attempt has an id of its own, so that one
    whose end is not known may be there or not."""

    def __init__(self, name: str, nodes: Sequence[HasUrl], stop: threading.Event, seed: int) -> None:
        super().__init__(name=name, daemon=True)
        self.nodes, self.stop, self.random = nodes, stop, random.Random(seed)
        self.acknowledged: list[str] = []
        self.attempts = 0
        self.failures: list[str] = []

    def run(self) -> None:
        for number in itertools.count():
            if self.stop.is_set():
                return
            for attempt in itertools.count():
                self.attempts += 1
                id = f"{self.name}:{number}:{attempt}"
                form = [("topic", "news"), ("topic", self.name), ("data", "x" * 100), ("id", id)]
                if attempt % 2 or number % 3 == 0:
                    form.append(("private", "on"))
                try:
                    answer = Request("POST", self.random.choice(self.nodes).url, PUBLISH, form)
                except OSError:
                    continue
                if answer.status == 200:
                    assert answer.body.decode() == id
                    self.acknowledged.append(id)
                    break
                if answer.status != 503 or "retry-after" not in answer.headers:
                    self.failures.append(f"{answer.status} {answer.body!r}")
                # As a publisher would: not at once.
                if self.stop.wait(0.02):
                    return


class Subscriber(threading.Thread):
    """Reads a topic from any node; when its stream ends, it goes to another with its cursor."""

    def __init__(self, topic: str, nodes: Sequence[HasUrl], seed: int) -> None:
        super().__init__(name=f"subscriber of {topic}", daemon=True)
        self.topic, self.nodes, self.random = topic, nodes, random.Random(seed)
        self.received: list[str] = []
        self.losses: list[str] = []
        self.last: str | None = None
        self.is_open = threading.Event()
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.is_set():
            node = self.random.choice(self.nodes)
            try:
                self.read(node)
            except (OSError, EOFError, ValueError):
                self.ended.wait(0.02)

    def read(self, node: HasUrl) -> None:
        url = f"{node.url}?topic={self.topic}"
        if self.last is not None:
            url += f"&lastEventID={quote(self.last)}"
        stream = Stream(url, SUBSCRIBE)
        try:
            if stream.status != 200:
                raise EOFError
            if self.last is not None and stream.headers["Last-Event-ID"] != self.last:
                self.losses.append(self.last)
            stream.first_bytes()
            self.is_open.set()
            while True:
                event = stream.event()
                self.last = event["id"]
                if event["id"].startswith("end:"):
                    self.ended.set()
                    return
                self.received.append(event["id"])
        finally:
            stream.close()


class Trial:
    """Publishers and subscribers that run while something happens to nodes and engine."""

    def __init__(self, nodes: Sequence[HasUrl], seed: int, publishers: int = 3, subscribers: int = 4) -> None:
        self.nodes, self.seed = nodes, seed
        self.stop = threading.Event()
        self.subscribers = [
            Subscriber("news" if number % 2 else "p0", nodes, seed + number) for number in range(subscribers)
        ]
        self.publishers = [Publisher(f"p{number}", nodes, self.stop, seed - number - 1) for number in range(publishers)]
        # What is published before all are there is no business of theirs: they begin with a cursor.
        answer = Request("POST", nodes[0].url, PUBLISH, [("topic", "start"), ("id", f"start:{seed}")])
        assert answer.status == 200, answer.body
        for subscriber in self.subscribers:
            subscriber.last = f"start:{seed}"
        for thread in [*self.subscribers, *self.publishers]:
            thread.start()
        for subscriber in self.subscribers:
            assert subscriber.is_open.wait(PATIENCE)

    def acknowledged(self) -> int:
        return sum(len(publisher.acknowledged) for publisher in self.publishers)

    def run_for(self, updates: int) -> None:
        """Until so many more updates have been acknowledged."""
        target = self.acknowledged() + updates
        wait_until(lambda: self.acknowledged() >= target, "publishing goes on", 3 * PATIENCE)

    def finish(self) -> int:
        """Ends it and checks that the nodes were one hub. Returns how many updates were acknowledged."""
        self.stop.set()
        for publisher in self.publishers:
            publisher.join(3 * PATIENCE)
            assert not publisher.is_alive(), "the publisher ends"
            assert publisher.failures == []
        form = [("topic", "news"), ("topic", "p0"), ("id", f"end:{self.seed}")]
        wait_until(
            lambda: Request("POST", self.nodes[0].url, PUBLISH, form).status == 200, "the hub takes updates again"
        )
        for subscriber in self.subscribers:
            assert subscriber.ended.wait(2 * PATIENCE), f"{subscriber.name} gets everything to the end"
        log = max((subscriber.received for subscriber in self.subscribers if subscriber.topic == "news"), key=len)
        place = {id: number for number, id in enumerate(log)}
        assert len(place) == len(log), "nothing twice"
        for publisher in self.publishers:
            places = [place.get(id) for id in publisher.acknowledged]
            assert None not in places, f"lost: {[id for id in publisher.acknowledged if id not in place][:5]}"
            assert places == sorted(places), "each publisher's order is kept"
        for subscriber in self.subscribers:
            wanted = [id for id in log if subscriber.topic == "news" or id.startswith("p0:")]
            assert subscriber.received == wanted, f"{subscriber.name} sees the same in the same order"
            assert subscriber.losses == [], "no loss is told, as there was none"
        return len(place)
