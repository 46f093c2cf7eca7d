"""The hub with its log on disk: what outlives it, at any depth, however it ends, and what it does on a full disk."""

from __future__ import annotations

import http.client
import itertools
import os
import random
import subprocess
import threading
import time
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest

import hubs
from clients import HUB_PATH, PATIENCE, Request
from cluster import PUBLISH, SUBSCRIBE
from waiting import wait_until


class Durable:
    """A hub process over one directory, as often as it is started."""

    def __init__(self, directory: Path, *options: str, log: str = os.devnull) -> None:
        self.directory, self.options, self.log = directory, options, log
        self.start()

    def start(self) -> None:
        transport = ["--transport", f"durable://{self.directory}"]
        self.hub = hubs.HubProcess([*hubs.petasos(), "--compat", *transport, *self.options], self.log)
        self.url = self.hub.url

    def kill(self) -> None:
        if not self.hub.process.stdout.closed:
            self.hub.close()

    def publish(self, id: str, topic: str = "a", data: str = "data") -> int:
        form = [("topic", topic), ("id", id), ("data", data), ("private", "on")]
        return Request("POST", self.url, PUBLISH, form).status


@pytest.fixture
def start(stack, tmp_path):
    def start(*options: str, directory: Path = tmp_path / "log", log: str = os.devnull) -> Durable:
        hub = Durable(directory, *options, log=log)
        stack.callback(hub.kill)
        return hub

    return start


class Publisher(threading.Thread):
    """Publishes numbered updates over one connection until the hub is gone or there are enough."""

    def __init__(self, url: str, name: str, count: int | None = None) -> None:
        super().__init__(daemon=True)
        self.connection = http.client.HTTPConnection(url.split("/")[2], timeout=PATIENCE)
        self.name, self.count = name, count
        self.acknowledged: list[str] = []

    def run(self) -> None:
        headers = {**PUBLISH, "Content-Type": "application/x-www-form-urlencoded"}
        try:
            for number in itertools.count() if self.count is None else range(self.count):
                id = f"{self.name}-{number}"
                body = urlencode([("topic", "a"), ("id", id), ("data", f"data of {id} " + "x" * 300)])
                self.connection.request("POST", HUB_PATH, body, headers)
                answer = self.connection.getresponse()
                assert answer.read().decode() == id
                self.acknowledged.append(id)
        except (OSError, http.client.HTTPException):
            pass
        finally:
            self.connection.close()


def are_acknowledged(publishers: list[Publisher], count: int) -> bool:
    return sum(len(publisher.acknowledged) for publisher in publishers) >= count


def publish_many(hub: Durable, count: int, publishers: int = 9) -> None:
    threads = [Publisher(hub.url, f"p{number}", count // publishers) for number in range(publishers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(6 * PATIENCE)
    assert sum(len(thread.acknowledged) for thread in threads) == count // publishers * publishers


def received(stream, count: int) -> list[str]:
    ids = []
    for _ in range(count):
        event = stream.event()
        assert event["data"].startswith(f"data of {event['id']} ")
        ids.append(event["id"])
    return ids


def test_everything_is_replayed_at_any_depth_after_the_hub_was_killed(start, open_stream):
    hub = start("--history", "20000")
    publish_many(hub, 10_008)
    log = received(open_stream(f"{hub.url}?topic=a&lastEventID=earliest", SUBSCRIBE), 10_008)
    hub.kill()
    hub.start()
    for place in (0, 1, 5_000, 10_000, 10_006):
        stream = open_stream(f"{hub.url}?topic=a&lastEventID={log[place]}", SUBSCRIBE)
        assert stream.headers["Last-Event-ID"] == log[place]
        assert received(stream, 10_007 - place) == log[place + 1 :]
    stream = open_stream(f"{hub.url}?topic=a&lastEventID={log[-1]}", SUBSCRIBE)
    assert hub.publish("live") == 200
    assert stream.event()["id"] == "live"


def test_what_was_acknowledged_is_there_after_every_crash(start, open_stream):
    """CRASH_ROUNDS times; the transport's own tests kill 500 times what appends without HTTP."""
    seed = int(os.environ.get("CRASH_SEED", time.time_ns() % 10**6))
    choices = random.Random(seed)
    hub = start("--history", "1000000")
    expected: list[str] = []
    cursor = "earliest"
    for crash in range(int(os.environ.get("CRASH_ROUNDS", "100"))):
        publishers = [Publisher(hub.url, f"{crash}-{number}") for number in range(4)]
        for publisher in publishers:
            publisher.start()
        # An accident comes at any time: while some number of updates was being acknowledged.
        wait_until(partial(are_acknowledged, publishers, choices.randrange(1, 40)), "updates are acknowledged")
        hub.kill()
        for publisher in publishers:
            publisher.join(PATIENCE)
        hub.start()
        assert hub.publish(f"marker-{crash}", data=f"data of marker-{crash} ") == 200
        stream = open_stream(f"{hub.url}?topic=a&lastEventID={cursor}", SUBSCRIBE)
        found: list[str] = []
        while not found or found[-1] != f"marker-{crash}":
            found += received(stream, 1)
        assert len(set(found)) == len(found), f"CRASH_SEED={seed}: nothing twice"
        for publisher in publishers:
            own = [id for id in found if id.startswith(f"{publisher.name}-")]
            # One more may be there whose answer was lost.
            assert own[: len(publisher.acknowledged)] == publisher.acknowledged, f"CRASH_SEED={seed}"
            assert len(own) <= len(publisher.acknowledged) + 1
        expected += found
        cursor = found[-1]
    again = open_stream(f"{hub.url}?topic=a&lastEventID=earliest", SUBSCRIBE)
    assert received(again, len(expected)) == expected, f"CRASH_SEED={seed}: the order stays"


def test_who_was_subscribed_to_a_hub_that_crashed_has_ended(start, open_stream):
    hub = start()
    visitor = open_stream(f"{hub.url}?topic=room", SUBSCRIBE)
    visitor.first_bytes()
    events = f"{HUB_PATH}/subscriptions{{/topic}}{{/subscriber}}"
    watcher = open_stream(f"{hub.url}?topic={quote(events)}&lastEventID=earliest", SUBSCRIBE)
    while '"topic":"room"' not in watcher.event()["data"]:
        pass
    hub.kill()
    hub.start()
    watcher = open_stream(f"{hub.url}?topic={quote(events)}&lastEventID=earliest", SUBSCRIBE)
    told = []
    while len(told) < 2:
        event = watcher.event()
        if '"topic":"room"' in event["data"]:
            told.append('"active":true' in event["data"])
    assert told == [True, False]


def test_a_second_hub_on_the_same_directory_says_what_to_do(start):
    hub = start()
    command = [*hubs.petasos(), "--transport", f"durable://{hub.directory}"]
    second = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert second.returncode == 1
    assert str(hub.directory) in second.stderr
    assert "another process" in second.stderr


@pytest.fixture
def small_disk(stack, tmp_path) -> Path:
    if os.getuid() != 0:
        pytest.skip("mounting a small file system needs root")
    directory = tmp_path / "disk"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(directory)], check=True)
    stack.callback(subprocess.run, ["umount", "--lazy", str(directory)], check=True)
    return directory


# The log of the process is often on the disk that is full.
@pytest.mark.parametrize("log", [os.devnull, "/dev/full"])
def test_a_full_disk_answers_507_and_streams_go_on(log, start, small_disk, open_stream):
    filler = small_disk / "filler"
    hub = start("--history", "1000000", directory=small_disk / "log", log=log)
    stream = open_stream(f"{hub.url}?topic=a", SUBSCRIBE)
    stream.first_bytes()
    with filler.open("wb") as file:
        try:
            while True:
                file.write(b"x" * 65536)
                file.flush()
        except OSError:
            pass
    acknowledged, status = [], 200
    while status == 200:
        assert len(acknowledged) < 10_000, "the disk is full"
        id = f"{len(acknowledged)}"
        status = hub.publish(id, data="x" * 20_000)
        if status == 200:
            acknowledged.append(id)
    assert status == 507
    assert [stream.event()["id"] for _ in acknowledged] == acknowledged
    replay = open_stream(f"{hub.url}?topic=a&lastEventID=earliest", SUBSCRIBE)
    assert [replay.event()["id"] for _ in acknowledged] == acknowledged
    filler.unlink()
    answers = []
    wait_until(lambda: answers.append(hub.publish("room")) or answers[-1] == 200, "it goes on by itself")
    assert set(answers) <= {200, 507}
    assert stream.event()["id"] == "room"
    assert replay.event()["id"] == "room"
