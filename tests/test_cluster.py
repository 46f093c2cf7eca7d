"""Two and three nodes on one log, while nodes and log are killed, paused, started again and cut off."""

from __future__ import annotations

import http.client
import itertools
import os
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from clients import HUB_PATH, Request
from cluster import PUBLISH, SUBSCRIBE, Node, Trial
from engines import ENGINES, Engine
from servers import needs
from waiting import wait_until


@pytest.fixture
def seed() -> int:
    """What a test chooses by chance follows from it. Printed if the test fails; CLUSTER_SEED=n repeats the choices."""
    seed = int(os.environ.get("CLUSTER_SEED", time.time_ns() % 10**6))
    print(f"CLUSTER_SEED={seed}")  # noqa: T201 (pytest shows it for a test that has failed)
    return seed


Start = Callable[[int], list[Node]]


def starter(url: str, stack: ExitStack) -> Start:
    def start(count: int) -> list[Node]:
        nodes = []
        for _ in range(count):
            nodes.append(Node(url))
            stack.callback(nodes[-1].close)
        return nodes

    return start


@pytest.fixture
def start(engine, stack) -> Start:
    return starter(engine.url, stack)


@pytest.fixture(params=[*ENGINES, 0, 1, 2], ids=[*ENGINES, "host", "host 1", "host 2"])
def start_anywhere(request, stack, tmp_path_factory, host_logs) -> Start:
    """Starts nodes on a log in a store, or on one that they share without a store. There the node that was started
    first leads, which is another one of those that a test has."""
    if isinstance(request.param, int):
        start = starter(f"host://{host_logs}", stack)

        def start_and_turn(count: int) -> list[Node]:
            nodes = start(count)
            return nodes[request.param :] + nodes[: request.param]

        return start_and_turn
    engine = ENGINES[request.param](tmp_path_factory.mktemp(request.param))
    stack.callback(engine.close)
    return starter(engine.url, stack)


def ready(nodes: list[Node], expected: bool = True) -> None:
    wait_until(lambda: all(node.is_ready() == expected for node in nodes), f"ready: {expected}")


def test_nodes_that_die_pause_and_come_back_are_one_hub(start_anywhere, seed, open_stream):
    nodes = start_anywhere(3)
    trial = Trial(nodes, seed)
    trial.run_for(200)
    nodes[1].kill()
    trial.run_for(100)
    nodes[1].start()
    trial.run_for(100)
    visitor = open_stream(f"{nodes[2].url}?topic=room", SUBSCRIBE)
    visitor.first_bytes()
    wait_until(lambda: len(nodes[0].subscriptions("room")) == 1, "its subscriber is known")
    nodes[2].pause()
    wait_until(lambda: nodes[0].subscriptions("room") == [], "its lease ends")
    nodes[2].resume()
    trial.run_for(200)
    assert trial.finish() >= 600


def test_what_a_stopping_node_refuses_is_not_in_the_log(start_anywhere, open_stream):
    """A publisher goes on at the next node with what the first has refused: in the log already, it would be doubled."""
    nodes = start_anywhere(2)
    answers: dict[str, int] = {}

    def publish(publisher: int) -> None:
        # Fewer than what the history keeps.
        for number in range(50):
            name = f"{publisher}-{number}"
            try:
                answers[name] = Request("POST", nodes[0].url, PUBLISH, [("topic", "a"), ("id", name)]).status
            except (OSError, http.client.HTTPException):
                return

    publishers = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
    for each in publishers:
        each.start()
    wait_until(lambda: len(answers) >= 100, "publishing goes on")
    nodes[0].process.terminate()
    for each in publishers:
        each.join()
    assert Request("POST", nodes[1].url, PUBLISH, [("topic", "a"), ("id", "end")]).status == 200
    stream = open_stream(f"{nodes[1].url}?topic=a&lastEventID=earliest", SUBSCRIBE)
    kept = set(iter(lambda: stream.event()["id"], "end"))
    assert kept >= {name for name, status in answers.items() if status == 200}
    assert kept.isdisjoint({name for name, status in answers.items() if status != 200})


def test_a_log_that_is_stopped_killed_and_paused_loses_nothing(start, engine: Engine, seed, open_stream):
    nodes = start(2)
    trial = Trial(nodes, seed)
    streams = [open_stream(f"{each.url}?topic=quiet", SUBSCRIBE) for each in nodes]
    trial.run_for(200)
    for end in (engine.stop, engine.kill):
        end()
        ready(nodes, False)
        assert all(Request("GET", each.url.replace(HUB_PATH, "/healthz")).status == 200 for each in nodes)
        engine.start()
        ready(nodes)
        trial.run_for(100)
    engine.pause()
    ready(nodes, False)
    engine.resume()
    ready(nodes)
    trial.run_for(100)
    assert trial.finish() >= 500
    # These have been open all the time.
    assert Request("POST", nodes[0].url, PUBLISH, [("topic", "quiet"), ("data", "still here")]).status == 200
    for stream in streams:
        assert stream.event()["data"] == "still here"


def test_subscriptions_of_a_node_that_dies_end_within_its_lease(start_anywhere, open_stream):
    nodes = start_anywhere(3)
    watcher = open_stream(
        f"{nodes[0].url}?topic=/.well-known/mercure/subscriptions{{/topic}}{{/subscriber}}", SUBSCRIBE
    )
    watcher.first_bytes()
    streams = {}
    for number, each in enumerate(nodes):
        streams[number] = open_stream(f"{each.url}?topic=room", SUBSCRIBE)
        streams[number].first_bytes()
    wait_until(lambda: all(len(each.subscriptions("room")) == 3 for each in nodes), "all are known")
    nodes[1].kill()
    told: list[tuple[str, bool]] = []
    while sum(not active for _, active in told) < 1:
        event = watcher.event()
        if '"topic":"room"' in event["data"]:
            told.append((event["data"].split('"subscriber":"')[1].split('"')[0], '"active":true' in event["data"]))
    assert all(len(each.subscriptions("room")) == 2 for each in (nodes[0], nodes[2]))
    nodes[2].process.terminate()
    event = watcher.event()
    assert '"active":false' in event["data"], "told once, and nothing between"
    assert '"topic":"room"' in event["data"]
    assert (len({subscriber for subscriber, _ in told}), len(told)) == (3, 4)


def test_a_log_that_is_lost_is_announced(start, engine: Engine, open_stream):
    nodes = start(2)
    stream = open_stream(f"{nodes[1].url}?topic=a", SUBSCRIBE)
    stream.first_bytes()
    assert Request("POST", nodes[0].url, PUBLISH, [("topic", "a"), ("id", "before")]).status == 200
    assert stream.event()["id"] == "before"
    wipe(engine)
    with pytest.raises(EOFError):
        stream.event()
    ready(nodes)
    for each in nodes:
        again = open_stream(f"{each.url}?topic=a&lastEventID=before", SUBSCRIBE)
        assert again.headers["Last-Event-ID"] == "earliest"
    stream = open_stream(f"{nodes[1].url}?topic=a", SUBSCRIBE)
    stream.first_bytes()
    assert Request("POST", nodes[0].url, PUBLISH, [("topic", "a"), ("id", "after")]).status == 200
    assert stream.event()["id"] == "after"


def wipe(engine: Engine) -> None:
    """Starts it again with nothing in it."""
    engine.kill()
    subprocess.run(["rm", "-rf", *map(str, engine.directory.iterdir())], check=True)
    engine.prepare()
    engine.start()


@pytest.fixture
def namespace(stack) -> Namespace:
    if os.getuid() != 0:
        pytest.skip("network namespaces need root")
    needs("ip")
    return Namespace(stack)


class Namespace:
    """A network namespace with two links: one to the log, which can be cut, and one to the clients."""

    numbers = itertools.count()

    def __init__(self, stack) -> None:
        # Links vanish some time after their namespace: no name is used twice.
        self.name = f"petasos{os.getpid()}n{next(self.numbers)}"
        number = os.getpid() % 200 + 20
        self.engine_host, self.host = f"10.{number}.99.1", f"10.{number}.78.2"
        self.inside = ["ip", "netns", "exec", self.name]
        run(f"ip netns add {self.name}")
        stack.callback(run, f"ip netns del {self.name}")
        run(f"ip addr add {self.engine_host}/32 dev lo")
        stack.callback(run, f"ip addr del {self.engine_host}/32 dev lo")
        # A link's name has at most 15 characters.
        self.links = [f"{kind}{self.name.removeprefix('petasos')}" for kind in ("l", "c")]
        for link, subnet in zip(self.links, (f"10.{number}.77", f"10.{number}.78"), strict=True):
            run(f"ip link add {link} type veth peer name inside netns {self.name}")
            stack.callback(run, f"ip link del {link}")
            run(f"ip addr add {subnet}.1/30 dev {link}")
            run(f"ip link set {link} up")
            # Its name is free for the next one then.
            run(f"ip -n {self.name} link set inside name {link}")
            run(f"ip -n {self.name} addr add {subnet}.2/30 dev {link}")
            run(f"ip -n {self.name} link set {link} up")
        run(f"ip -n {self.name} link set lo up")
        run(f"ip -n {self.name} route add {self.engine_host} via 10.{number}.77.1")

    def cut(self) -> None:
        """What is sent to the log vanishes, and nobody is told."""
        run(f"ip link set {self.links[0]} down")

    def mend(self) -> None:
        run(f"ip link set {self.links[0]} up")


def run(command: str) -> None:
    subprocess.run(command.split(), check=True)


@pytest.mark.parametrize("make", ENGINES.values(), ids=list(ENGINES))
def test_a_node_that_is_cut_off_from_the_log_refuses_and_comes_back(make, namespace, stack, tmp_path, seed):
    engine = make(tmp_path, host=namespace.engine_host)
    stack.callback(engine.close)
    near = Node(engine.url)
    stack.callback(near.close)
    far = Node(engine.url, namespace.host, namespace.inside)
    stack.callback(far.close)
    trial = Trial([near, far], seed)
    trial.run_for(100)
    namespace.cut()
    ready([far], False)
    assert near.is_ready()
    refused = Request("POST", far.url, PUBLISH, [("topic", "other")])
    assert (refused.status, refused.headers["retry-after"]) == (503, "5")
    namespace.mend()
    ready([near, far])
    trial.run_for(100)
    assert trial.finish() >= 200
