"""Every client reports each message of its library to the test, as a line of JSON."""

import json
import sys

URL = sys.argv[1]

PAUSE = 0.2
"""Seconds before a client whose library does not do so itself connects again."""


def tell(data: str, id: str) -> None:
    try:
        message = json.loads(data)
    except ValueError:
        _write({"broken": data})
        return
    _write({"message": message, "id": id})
    if message.get("last"):
        sys.exit()


def _write(line: object) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
