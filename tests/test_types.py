"""The types of the compiled module are those that its stub says."""

import subprocess
import sys
from pathlib import Path

CACHE = Path(__file__).parent.parent / ".build" / "mypy"
"""What mypy has found out about Flask and others, for the next run."""


def test_the_stub_and_the_compiled_module_agree(tmp_path):
    command = [sys.executable, "-m", "mypy.stubtest", "flask_mercure_sse._native"]
    # In a directory of its own: beside the sources, the checker would find the package twice.
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stdout


APPLICATION = """
from collections.abc import Sequence
from dataclasses import dataclass

from blinker import Signal
from flask import Flask, make_response, redirect
from flask.wrappers import Response as FlaskResponse
from werkzeug.wrappers import Response

from flask_mercure_sse import MercureSSE

mercure = MercureSSE(Flask(__name__))


def login() -> Response:
    return mercure.set_authz_cookie(redirect("/"), topics=["/users/7"])


def logout() -> FlaskResponse:
    return mercure.delete_authz_cookie(mercure.add_link(make_response("Bye.")))


@mercure.payload_getter
def payload(topics: Sequence[str]) -> dict[str, int]:
    return {"user": 7}


@mercure.user_topics
def topics_of_the_user() -> list[str] | None:
    return ["/users/7"]


@mercure.event("order-paid")
@dataclass
class OrderPaid:
    total: int


@mercure.broadcasts(topic="/books/{id}", data=("id",), on=("insert",))
class Book:
    def __init__(self, id: int) -> None:
        self.id = id


mercure.broadcasts(Book, topic=lambda book: "/books", data={"delete": ("id",)}, on=("delete",))
mercure.publish(Book(id=7), OrderPaid(total=7))
mercure.publish_signal(Signal(), topic="a")
mercure.publish("a", retry="5")


async def publish() -> str:
    return await mercure.apublish("a", "b", private=True)
"""


def test_an_application_with_strict_types_passes(tmp_path):
    (tmp_path / "application.py").write_text(APPLICATION)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(CACHE), "application.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stdout
