"""What HTTP/2 over TLS costs when the hub has it, when a proxy in front has it, and with the reference hub.

    python bench/http2_others.py target/release/petasos --reference .build/reference/v0

- own: the hub with HTTP/2 and TLS of its own
- nginx, Caddy: a proxy with both, and the hub behind it with neither; one worker of nginx
- reference: the reference hub with those of Go's HTTP server, which are also Caddy's

Prints for each the memory of an idle connection with one stream and that of each further stream, and the processor
time of a delivery to connections with one stream and to those with thirty. Memory and time are those of the proxy and
the hub together. ``tls_others.py`` says what must be installed. It takes some three minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

from http2 import MANY, busy, idle
from tls import Hub, certificate, parser
from tls_others import fronts


async def memory(start: Callable[[], Hub], connections: int) -> str:
    found = []
    for streams in (1, MANY):
        hub = start()
        try:
            found.append(await idle(hub, "h2", connections, streams))
        finally:
            hub.close()
    one, many = found
    return f"{one:.1f} KiB a connection with one stream, {(many - one) / (MANY - 1):.2f} KiB each further stream"


async def main() -> None:
    options = parser(__doc__, streams=210, seconds=5, rounds=3)
    options.add_argument("--reference", help="the reference hub of protocol 0.x")
    options.add_argument("--connections", type=int, default=200, help="on which nothing happens")
    arguments: argparse.Namespace = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        certificate(directory)
        starts = {kind: start for kind, start in fronts(arguments, directory, http2=True).items() if kind != "plain"}
        for kind, start in starts.items():
            print(f"{kind:9} {await memory(start, arguments.connections)}", flush=True)
        times: dict[tuple[str, int], list[float]] = {(kind, streams): [] for streams in (1, MANY) for kind in starts}
        for _ in range(arguments.rounds):
            for (kind, streams), found in times.items():
                hub = starts[kind]()
                try:
                    found.append(await busy(hub, "h2", streams, arguments))
                finally:
                    hub.close()
        for (kind, streams), found in times.items():
            spread = f"{min(found):.1f} to {max(found):.1f}"
            print(f"{kind:9} {streams} a connection: {median(found):.1f} us a delivery ({spread})")


if __name__ == "__main__":
    asyncio.run(main())
