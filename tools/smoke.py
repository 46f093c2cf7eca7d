"""Has one update delivered by an installed package, and starts its programs: ``python tools/smoke.py``.

It runs where a wheel was installed and nothing else is there."""

from __future__ import annotations

import subprocess
import sys

from flask import Flask

import flask_mercure_sse
from flask_mercure_sse import MercureSSE
from flask_mercure_sse.testing import HubForTests, subscriber


def main() -> int:
    with HubForTests() as hub:
        app = Flask("smoke")
        app.config.update(hub.config)
        mercure = MercureSSE(app)
        with subscriber(mercure, "/books/{id}") as reader:
            mercure.publish("/books/1", "Walden")
            [event] = reader.received(1, within=30)
    if event.data != "Walden":
        print(f"the update came as {event.data!r}", file=sys.stderr)
        return 1
    for command in (["-m", "flask_mercure_sse.server", "--help"], ["-m", "flask", "mercure", "--help"]):
        subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, check=True)
    python = ".".join(map(str, sys.version_info[:3]))
    print(f"flask-mercure-sse {flask_mercure_sse.__version__} delivers on Python {python}, {sys.platform}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
