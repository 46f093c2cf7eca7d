"""The log's server, the nodes and the cables between them, and how each fault is inflicted and ended."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from cable import Cable
from engines import ENGINES, Engine
from torture.nodes import Node, Shims
from torture.plan import NODES, Fault
from torture.traffic import ANSWER_SECONDS, Publisher, Subscriber

LEASE = "lease=2s"
CLOCK_SECONDS = 3600
"""How far a wall clock jumps, forwards or backwards."""
Heal = Callable[[], None]


def nothing() -> None:
    """How a fault ends that is over at once."""


class Stage:
    def __init__(self, log: str, binary: str, directory: Path) -> None:
        self.log = log
        self.stack = ExitStack()
        # Not below the other files: the path of a Unix socket must be short, and PostgreSQL runs as another user.
        self.own = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="torture-")))
        self.engine: Engine | None = None
        self.links: list[Cable] = []
        self.downs = 0
        self.publishers: list[Publisher] = []
        self.subscribers: list[Subscriber] = []
        try:
            self.shims = Shims(self.own) if shutil.which("cc") else None
            if log in ENGINES:
                store = self.own / "store"
                store.mkdir()
                self.engine = ENGINES[log](store)
                self.stack.callback(self.engine.close)
            self.nodes = [self._node(number, binary, directory) for number in range(NODES[log])]
        except BaseException:
            self.stack.close()
            raise

    def _node(self, number: int, binary: str, directory: Path) -> Node:
        disk = self.own / "log" if self.log in ("durable", "host") else None
        node = Node(
            name=f"node-{number}",
            binary=binary,
            transport=self._transport(),
            directory=directory,
            sockets=self.own,
            shims=self.shims,
            is_replaceable=self.log not in ("memory", "durable"),
            disk_directory=disk,
        )
        self.stack.callback(node.close)
        return node

    def _transport(self) -> str:
        if self.engine is not None:
            # A way of its own for each node.
            link = Cable(f"{self.engine.host}:{self.engine.port}")
            self.stack.callback(link.close)
            self.links.append(link)
            url = self.engine.url.replace(f"{self.engine.host}:{self.engine.port}", link.address)
            return f"{url}?{LEASE}&timeout=2s"
        if self.log == "memory":
            return "memory:"
        return f"{self.log}://{self.own / 'log'}?{LEASE}&timeout={'10s' if self.log == 'host' else '2s'}"

    def urls(self) -> list[str]:
        """Of the nodes, through their cables."""
        return [node.url for node in self.nodes]

    def direct_urls(self) -> list[str]:
        return [node.direct_url for node in self.nodes]

    def look(self) -> None:
        for node in self.nodes:
            node.look()

    def problems(self) -> list[str]:
        found = [problem for node in self.nodes for problem in node.problems]
        for node in self.nodes:
            if "panicked at" in node.log.read_text(errors="replace"):
                found.append(f"{node.name} has panicked")
        return found

    def inflict(self, fault: Fault) -> Heal | None:
        """Lets a fault begin, and returns how it ends. None: it cannot happen now, or not on this machine."""
        node = self.nodes[fault.target]
        match fault.kind:
            case "node killed":
                node.kill()
                return node.up
            case "node stopped":
                node.stop()
                return node.up
            case "node paused":
                return self._paused(node)
            case "node replaced":
                return nothing if node.replace() else None
            case "settings reloaded":
                node.signal(signal.SIGHUP)
                return nothing
            case "clients cut off":
                node.cable.cut()
                return node.cable.mend
            case "clients' bytes held":
                node.cable.hold()
                return node.cable.release
            case "subscriber reads nothing":
                subscriber = self.subscribers[int(fault.at * 1000) % len(self.subscribers)]
                subscriber.reads.clear()
                return subscriber.reads.set
            case "burst of updates":
                for publisher in self.publishers:
                    publisher.hurries.set()
                return self._calm
            case "clock jumps":
                return self._jump(node, CLOCK_SECONDS if int(fault.at * 1000) % 2 else -CLOCK_SECONDS)
            case "disk full":
                return self._disk("full 0")
            case "disk hangs":
                return self._disk("hang 0")
            case "way to the store cut":
                self.links[fault.target].cut()
                return self.links[fault.target].mend
            case "bytes to the store held":
                self.links[fault.target].hold()
                return self.links[fault.target].release
            case _:
                assert self.engine is not None
                return self._store(self.engine, fault.kind)

    def _paused(self, node: Node) -> Heal | None:
        paused = node.living()
        if not paused:
            return None
        for life in paused:
            life.process.send_signal(signal.SIGSTOP)

        def resume() -> None:
            for life in paused:
                life.process.send_signal(signal.SIGCONT)

        return resume

    def _calm(self) -> None:
        for publisher in self.publishers:
            publisher.hurries.clear()

    def _jump(self, node: Node, seconds: int) -> Heal | None:
        if self.shims is None:
            return None
        node.jump(seconds)
        return partial(node.jump, 0)

    def _disk(self, order: str) -> Heal | None:
        if self.shims is None:
            return None

        def say(order: str) -> None:
            for node in self.nodes:
                node.order(order)

        say(order)
        return partial(say, "")

    def _store(self, engine: Engine, kind: str) -> Heal:
        if kind == "store paused":
            engine.pause()
            return engine.resume
        if self.downs == 0:
            if kind == "store killed":
                engine.kill()
            else:
                engine.resume()
                engine.stop()
        self.downs += 1
        return self._store_up

    def _store_up(self) -> None:
        self.downs -= 1
        if self.downs == 0:
            assert self.engine is not None
            self.engine.start()

    def close(self) -> None:
        for publisher in self.publishers:
            publisher.close()
        for subscriber in self.subscribers:
            subscriber.close()
        self.stack.close()
        # Without servers, whatever they wait for ends.
        for thread in [*self.publishers, *self.subscribers]:
            thread.join(ANSWER_SECONDS)


def binary_of(root: Path) -> str:
    """The newest petasos that was built here, or that PETASOS names."""
    named = os.environ.get("PETASOS")
    if named:
        return named
    target = Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
    built = [path for path in target.glob("*/petasos") if os.access(path, os.X_OK)]
    if not built:
        raise SystemExit("there is no petasos: cargo build --profile quick -p petasos")
    return str(max(built, key=lambda path: path.stat().st_mtime))
