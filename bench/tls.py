"""What TLS costs a hub: memory of a stream, processor time of a connection and of a delivery.

    python bench/tls.py target/release/petasos --streams 200 --idle 4000

Hubs with TLS and without take turns. Only their own processor time and memory count. The program ``openssl``
makes a certificate.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from drain import HUB_PATH, KEY, token

TICKS = os.sysconf("SC_CLK_TCK")
TOGETHER = 50


class Hub:
    """A process of the hub."""

    def __init__(self, binary: str, certificate: Path | None) -> None:
        command = [binary, "--listen", "127.0.0.1:0", "--admin-listen", "off", "--anonymous"]
        command += ["--publisher-key", KEY, "--compat"]
        self.context = None
        if certificate is not None:
            command += ["--tls-cert", str(certificate / "cert.pem"), "--tls-key", str(certificate / "key.pem")]
            self.context = ssl.create_default_context(cafile=str(certificate / "cert.pem"))
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline().rpartition(HUB_PATH)[0].rpartition(":")[2])

    @property
    def seconds(self) -> float:
        """The processor time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    @property
    def kib(self) -> int:
        """The memory that it has."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0])

    def close(self) -> None:
        self.process.kill()
        self.process.wait()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        name = None if self.context is None else "localhost"
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self.context, server_hostname=name)


class Streams:
    """Subscribers of one hub, and what they have received."""

    def __init__(self, hub: Hub) -> None:
        self.hub, self.deliveries = hub, 0
        self.tasks: list[asyncio.Task[None]] = []

    async def open(self, count: int) -> None:
        for _ in range(0, count, TOGETHER):
            await asyncio.gather(*(self.subscribe() for _ in range(TOGETHER)))

    async def subscribe(self) -> None:
        reader, writer = await self.hub.connect()
        writer.write(f"GET {HUB_PATH}?topic=a HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in head, head
        self.tasks.append(asyncio.create_task(self.read(reader, writer)))

    async def read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            self.deliveries += line.startswith(b"data: ")

    def close(self) -> None:
        for task in self.tasks:
            task.cancel()


async def publish(hub: Hub, rate: float, seconds: float) -> int:
    """The number of updates that were published."""
    reader, writer = await hub.connect()
    body = "topic=a&data=" + "x" * 200
    head = f"POST {HUB_PATH} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token()}\r\n"
    head += f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
    began, count = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        writer.write((head + body).encode())
        await reader.readuntil(b"urn:uuid:")
        count += 1
        await asyncio.sleep(max(0, began + count / rate - time.monotonic()))
    return count


async def idle(hub: Hub, count: int) -> str:
    """The cost of streams on which nothing happens."""
    memory, seconds, streams = hub.kib, hub.seconds, Streams(hub)
    await streams.open(count)
    used, took = (hub.kib - memory) / count, (hub.seconds - seconds) / count
    streams.close()
    return f"{used:.2f} KiB a stream, {took * 1e6:.0f} us a connection"


async def busy(hub: Hub, arguments: argparse.Namespace) -> float:
    """Microseconds of a delivery."""
    streams = Streams(hub)
    await streams.open(arguments.streams)
    seconds = hub.seconds
    updates = await publish(hub, arguments.rate, arguments.seconds)
    while streams.deliveries < updates * arguments.streams:
        await asyncio.sleep(0.01)
    used = hub.seconds - seconds
    streams.close()
    return used / streams.deliveries * 1e6


def certificate(directory: Path, *key: str) -> None:
    """Makes cert.pem and key.pem for localhost; ``key`` is what openssl calls its kind."""
    make = ["openssl", "req", "-x509", "-nodes"]
    make += ["-newkey", *(key or ("ec", "-pkeyopt", "ec_paramgen_curve:P-256"))]
    make += ["-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj", "/CN=localhost"]
    make += ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(make, cwd=directory, check=True, capture_output=True)
    (directory / "key.pem").chmod(0o600)


def parser(description: str | None, *, streams: int, seconds: float, rounds: int) -> argparse.ArgumentParser:
    """What all measurements of this kind are told, with its defaults."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--streams", type=int, default=streams, help="that receive updates")
    parser.add_argument("--rate", type=float, default=50, help="updates a second")
    parser.add_argument("--seconds", type=float, default=seconds, help="of each round")
    parser.add_argument("--rounds", type=int, default=rounds)
    return parser


async def compare(starts: dict[str, Callable[[], Hub]], arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Prints what idle streams cost each of them, and returns the microseconds of a delivery in each round."""
    times: dict[str, list[float]] = {kind: [] for kind in starts}
    for round in range(arguments.rounds + 1):
        for kind, start in starts.items():
            hub = start()
            try:
                if round == 0:
                    print(f"{kind:9} {await idle(hub, arguments.idle)}", flush=True)
                    continue
                times[kind].append(await busy(hub, arguments))
                print(f"{kind:9} {times[kind][-1]:.2f} us a delivery", flush=True)
            finally:
                hub.close()
    return times


async def main() -> None:
    options = parser(__doc__, streams=200, seconds=6, rounds=5)
    options.add_argument("--idle", type=int, default=4_000, help="streams on which nothing happens")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        certificate(directory)
        starts = {
            "plain": lambda: Hub(arguments.binary, None),
            "TLS": lambda: Hub(arguments.binary, directory),
        }
        times = await compare(starts, arguments)
        plain, tls = median(times["plain"]), median(times["TLS"])
        print(f"medians: {plain:.2f} and {tls:.2f} us a delivery, {tls / plain:.2f} times")


if __name__ == "__main__":
    asyncio.run(main())
