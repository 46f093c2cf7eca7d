"""Real stores for the hub's log, each a process: to stop, kill, pause and start again on the same port."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from ports import Port
from servers import ServerProcess, needs

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
"""PostgreSQL does not run as root."""


class Engine:
    """A server whose command is made of a directory, a host and a port."""

    stop_signal = signal.SIGTERM
    ready: str
    """The line that it writes when it accepts connections."""

    def __init__(self, directory: Path, host: str = "127.0.0.1") -> None:
        self.directory, self.host = directory, host
        self.held = Port(host)
        self.port = self.held.number
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.held.close()
            raise

    @property
    def url(self) -> str:
        """As ``--transport``."""
        raise NotImplementedError

    def prepare(self) -> None:
        """What has to be done once before it can start."""

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        self.server = ServerProcess(self.command(), self.ready)

    def pause(self) -> None:
        self.server.pause()

    def resume(self) -> None:
        self.server.send(signal.SIGCONT)

    def stop(self) -> None:
        self.server.stop(self.stop_signal)

    def kill(self) -> None:
        self.server.kill()

    def close(self) -> None:
        self.kill()
        self.held.close()


class Redis(Engine):
    ready = "eady to accept connections"

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}"

    def command(self) -> list[str]:
        return [
            *("redis-server", "--bind", self.host, "--port", str(self.port), "--dir", str(self.directory)),
            *("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--protected-mode", "no"),
        ]


class Nats(Engine):
    ready = "Server is ready"

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
    ready = "ready to accept connections"

    @property
    def url(self) -> str:
        return f"postgres://petasos@{self.host}:{self.port}/postgres"

    def __init__(self, directory: Path, host: str = "127.0.0.1") -> None:
        self.as_user = NOBODY if os.getuid() == 0 else []
        self.own: tempfile.TemporaryDirectory[str] | None = None
        if self.as_user:
            # Not below a directory of pytest: every pytest that starts on this machine closes that to other users.
            self.own = tempfile.TemporaryDirectory(prefix="petasos-postgres-")
            directory = Path(self.own.name)
            shutil.chown(directory, 65534, 65534)
        super().__init__(directory, host)

    def prepare(self) -> None:
        data = ["--pgdata", str(self.directory / "data")]
        initdb = [postgres("initdb"), *data, "--username=petasos", "--auth=trust", "--no-sync", "--no-locale"]
        subprocess.run([*self.as_user, *initdb], check=True, stdout=subprocess.DEVNULL, cwd=self.directory)
        with (self.directory / "data" / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 0.0.0.0/0 trust\n")

    def command(self) -> list[str]:
        options = ["-c", "unix_socket_directories=", "-c", f"listen_addresses={self.host}", "-c", f"port={self.port}"]
        return [*self.as_user, postgres("postgres"), "-D", str(self.directory / "data"), *options]

    def close(self) -> None:
        super().close()
        if self.own is not None:
            self.own.cleanup()


def postgres(program: str) -> str:
    """Where Debian puts it, or on the path."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), reverse=True)
    return str(found[0]) if found else needs(program)


ENGINES: dict[str, Callable[..., Engine]] = {"redis": Redis, "nats": Nats, "postgres": Postgres}
