"""Real stores for the hub's log, each in a process of its own on a free port: to stop, kill, pause and start again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from clients import PATIENCE

POSTGRES = Path("/usr/lib/postgresql/15/bin")
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
"""PostgreSQL does not run as root."""


class Engine:
    """A server whose command is made of a directory, a host and a port."""

    stop_signal = signal.SIGTERM

    def __init__(self, directory: Path, host: str = "127.0.0.1") -> None:
        self.directory, self.host = directory, host
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            self.port = taken.getsockname()[1]
        self.prepare()
        self.start()

    @property
    def url(self) -> str:
        """As ``--transport``."""
        raise NotImplementedError

    def prepare(self) -> None:
        """What has to be done once before it can start."""

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        self.process = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while not self.answers():
            assert self.process.poll() is None, f"{self.command()[0]} ended"
            assert time.monotonic() < deadline, f"{self.command()[0]} does not start"
            time.sleep(0.01)

    def answers(self) -> bool:
        return listens(self.host, self.port)

    def pause(self) -> None:
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def signal(self, number: int) -> None:
        """To all of its processes."""
        for process in [self.process.pid, *_children(self.process.pid)]:
            # One that serves a client may end at any time.
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def stop(self) -> None:
        """As an operator does; in the end it has written everything."""
        self.process.send_signal(self.stop_signal)
        self.process.wait(PATIENCE)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.resume()
            self.kill()


class Redis(Engine):
    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}"

    def command(self) -> list[str]:
        return [
            *("redis-server", "--bind", self.host, "--port", str(self.port), "--dir", str(self.directory)),
            *("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--protected-mode", "no"),
        ]


class Nats(Engine):
    @property
    def url(self) -> str:
        return f"nats://{self.host}:{self.port}"

    def prepare(self) -> None:
        store = f'jetstream {{ store_dir: "{self.directory / "store"}" }}'
        (self.directory / "nats.conf").write_text(f'listen: "{self.host}:{self.port}"\n{store}\n')

    def command(self) -> list[str]:
        return ["nats-server", "--config", str(self.directory / "nats.conf")]


class Postgres(Engine):
    # It would wait for its clients on SIGTERM.
    stop_signal = signal.SIGINT

    @property
    def url(self) -> str:
        return f"postgres://petasos@{self.host}:{self.port}/postgres"

    def prepare(self) -> None:
        self.as_user = NOBODY if os.getuid() == 0 else []
        if self.as_user:
            # The directories above belong to whoever runs the tests.
            for directory in [self.directory, *self.directory.parents]:
                if directory.stat().st_uid == os.getuid() and directory != Path("/"):
                    directory.chmod(directory.stat().st_mode | 0o711)
            shutil.chown(self.directory, 65534, 65534)
        data = ["--pgdata", str(self.directory / "data")]
        initdb = [str(POSTGRES / "initdb"), *data, "--username=petasos", "--auth=trust", "--no-sync"]
        subprocess.run([*self.as_user, *initdb], check=True, stdout=subprocess.DEVNULL, cwd=self.directory)
        with (self.directory / "data" / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 0.0.0.0/0 trust\n")

    def command(self) -> list[str]:
        options = ["-c", "unix_socket_directories=", "-c", f"listen_addresses={self.host}", "-c", f"port={self.port}"]
        return [*self.as_user, str(POSTGRES / "postgres"), "-D", str(self.directory / "data"), *options]

    def answers(self) -> bool:
        command = [str(POSTGRES / "pg_isready"), "--host", self.host, "--port", str(self.port), "--quiet"]
        return subprocess.run(command).returncode == 0


ENGINES: dict[str, Callable[..., Engine]] = {"redis": Redis, "nats": Nats, "postgres": Postgres}


def listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def _children(parent: int) -> list[int]:
    path = Path(f"/proc/{parent}/task/{parent}/children")
    try:
        children = [int(child) for child in path.read_text().split()]
    except OSError:
        return []
    return [*children, *(grandchild for child in children for grandchild in _children(child))]
