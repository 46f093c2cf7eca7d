"""A hub process that is started again when it has ended, as a service manager does."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import hubs
from cable import Cable
from clients import HUB_PATH, Request
from ports import Port

RESTART_SECONDS = 0.3
"""How long the service manager waits before it starts a process again."""
DRAIN_SECONDS = 1
END_SECONDS = 30.0
"""A process that was told to end and has not ended by then is a breach."""
DISK = Path(__file__).parents[2] / "crates" / "transports" / "tests" / "kit" / "disk.c"
CLOCK = Path(__file__).with_name("clock.c")


class Shims:
    """Libraries between a node and its C library: a disk and a clock that go wrong when they are told to."""

    def __init__(self, directory: Path) -> None:
        self.libraries = []
        for source in (DISK, CLOCK):
            library = directory / f"{source.stem}.so"
            compile = ["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl", "-lpthread"]
            subprocess.run(compile, check=True)
            self.libraries.append(str(library))
        self.preload = ":".join(self.libraries)


@dataclass
class Life:
    """One process of a node."""

    process: subprocess.Popen[bytes]
    output: IO[bytes]
    told_to_end: float | None = None
    """When, if it was: then its end is no breach."""

    @property
    def serves(self) -> bool:
        """Whether it has said so, be it alive or not."""
        return os.pread(self.output.fileno(), 16, 0).startswith(b"Serving on")

    @property
    def has_ended(self) -> bool:
        return self.process.poll() is not None


@dataclass
class Node:
    """Always at the same port, behind a cable. ``url`` leads through it."""

    name: str
    binary: str
    transport: str
    directory: Path
    """For its log and its orders."""
    sockets: Path
    """A short path, for the socket by which it is replaced."""
    shims: Shims | None
    is_replaceable: bool
    """Whether a new process may take over from the old one while that runs."""
    disk_directory: Path | None = None
    problems: list[str] = field(default_factory=list)
    life: Life | None = None
    leaving: list[Life] = field(default_factory=list)
    successor: Life | None = None
    may_start_at: float = 0.0
    is_down: bool = False
    """It shall not be started yet."""
    ended_at: float | None = None
    """When the last process was found ended."""

    def __post_init__(self) -> None:
        self.port = Port()
        self.cable = Cable(f"http://{self.port}")
        self.url, self.direct_url = self.cable.url + HUB_PATH, f"http://{self.port}{HUB_PATH}"
        self.log = self.directory / f"{self.name}.log"
        self.orders = self.directory / f"{self.name}.orders"
        self.offset = self.directory / f"{self.name}.clock"
        self.jump(0)

    def command(self) -> list[str]:
        options = {
            "--listen": str(self.port),
            "--admin-listen": "off",
            "--public-url": hubs.RESOURCE,
            "--issuer": hubs.ISSUER,
            "--publisher-key": hubs.PUBLISHER,
            "--subscriber-key": hubs.SUBSCRIBER,
            "--drain-delay": "0",
            "--drain": f"{DRAIN_SECONDS}s",
            "--keep-alive": "1s",
            "--history": "200000",
            "--transport": self.transport,
        }
        if self.transport.startswith("host:"):
            options["--history-bytes"] = str(1 << 30)
        if self.is_replaceable:
            options["--takeover"] = str(self.sockets / f"{self.name}.takeover")
        return [self.binary, "--compat", *(part for pair in options.items() for part in pair)]

    def spawn(self) -> Life:
        environment = dict(os.environ)
        if self.shims is not None:
            environment |= {"LD_PRELOAD": self.shims.preload, "CLOCK_OFFSET": str(self.offset)}
            if self.disk_directory is not None:
                environment |= {"DISK_DIRECTORY": str(self.disk_directory), "DISK_ORDERS": str(self.orders)}
        output = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the process)
        with self.log.open("ab") as log:
            process = subprocess.Popen(self.command(), stdout=output, stderr=log, env=environment)
        return Life(process, output)

    def look(self) -> None:
        """Notices what has ended, and starts what shall run. To be called often."""
        now = time.monotonic()
        if self.successor is not None:
            self._look_at_successor(self.successor, now)
        if self.life is not None and self.life.has_ended:
            is_replaced = self.successor is not None and self.life.process.returncode == 0
            if self.life.told_to_end is None and self.life.serves and not is_replaced:
                self.problems.append(f"{self.name} has ended by itself with {self.life.process.returncode}")
            self.life.output.close()
            self.life, self.ended_at, self.may_start_at = None, now, now + RESTART_SECONDS
        for old in list(self.leaving):
            if old.has_ended:
                old.output.close()
                self.leaving.remove(old)
        for old in [*self.leaving, *([self.life] if self.life else [])]:
            if old.told_to_end is not None and now - old.told_to_end > END_SECONDS:
                self.problems.append(f"{self.name} does not end")
                old.process.kill()
                old.told_to_end = now
        if self.life is None and self.successor is None and not self.is_down and now >= self.may_start_at:
            self.life = self.spawn()

    def _look_at_successor(self, successor: Life, now: float) -> None:
        if successor.has_ended:
            # It could not start, and the old process goes on.
            successor.output.close()
            self.successor = None
        elif successor.serves:
            if self.life is not None:
                self.life.told_to_end = self.life.told_to_end or now
                self.leaving.append(self.life)
            self.life, self.successor = successor, None

    def kill(self) -> None:
        """All of its processes. It stays down until ``up``."""
        self.is_down = True
        for life in self.living():
            life.told_to_end = time.monotonic()
            life.process.kill()
            life.process.wait()

    def stop(self) -> None:
        """As a service manager does. It stays down until ``up``."""
        self.is_down = True
        for life in self.living():
            life.told_to_end = life.told_to_end or time.monotonic()
            life.process.send_signal(signal.SIGTERM)

    def up(self) -> None:
        self.is_down = False

    def replace(self) -> bool:
        """Starts a process that takes over from the one that runs. False: none runs, or one is being replaced."""
        if self.life is None or self.successor is not None or not self.life.serves or self.life.told_to_end is not None:
            return False
        self.successor = self.spawn()
        return True

    def signal(self, number: int) -> None:
        for life in self.living():
            life.process.send_signal(number)

    def jump(self, seconds: int) -> None:
        """Sets how far its wall clock is wrong."""
        if self.offset.exists():
            # In its place: the processes have mapped the file.
            with self.offset.open("r+b") as file:
                file.write(struct.pack("q", seconds))
        else:
            self.offset.write_bytes(struct.pack("q", seconds))

    def order(self, text: str) -> None:
        """Says how its disk goes wrong, in the words of disk.c; nothing: it works."""
        new = self.orders.with_suffix(".new")
        new.write_text(text)
        new.rename(self.orders)

    def is_settled(self) -> bool:
        """Whether one process runs and is ready."""
        if self.life is None or self.successor is not None or self.leaving or not self.life.serves:
            return False
        try:
            return Request("GET", self.direct_url.replace(HUB_PATH, "/readyz"), timeout=5).status == 200
        except OSError:
            return False

    def close(self) -> None:
        self.signal(signal.SIGCONT)
        self.kill()
        for life in (*self.leaving, self.life, self.successor):
            if life is not None:
                life.output.close()
        self.cable.close()
        self.port.close()

    def living(self) -> list[Life]:
        """Its processes: one, but while it is being replaced."""
        own = [*self.leaving, *(life for life in (self.life, self.successor) if life is not None)]
        return [life for life in own if not life.has_ended]
