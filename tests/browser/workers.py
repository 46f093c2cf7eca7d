"""An application with an embedded hub under gunicorn, whose workers can be replaced."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from clients import Request
from hubs import ROOT
from servers import children

APPLICATION = """
from flask import Flask, render_template_string, request
from flask_mercure_sse import MercureSSE

from browser.pages import PAGES, TOPIC

app = Flask(__name__)
app.config.update(SECRET_KEY="k" * 32, MERCURE_HUB=True, MERCURE_HUB_RETRY_INTERVAL=0.1)
mercure = MercureSSE(app)


@app.get("/page")
def page():
    return render_template_string(PAGES["EventSource"], url=mercure.hub_url([TOPIC]))


@app.post("/publish/<text>")
def publish(text):
    return mercure.publish(TOPIC, text)
"""


class Gunicorn:
    """Serves the application above."""

    def __init__(self, directory: Path, workers: int, environment: dict[str, str], *options: str) -> None:
        (directory / "served.py").write_text(APPLICATION)
        options = options or ("--bind", "127.0.0.1:0", "--worker-class", "gthread", "--threads", "20")
        command = ["gunicorn", *options, "--workers", str(workers), "--graceful-timeout", "30", "served:app"]
        path = os.pathsep.join([str(directory), str(ROOT / "tests")])
        self.workers = workers
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": path, **environment},
            start_new_session=True,
        )
        self.url = self.wait_for(r"Listening at: ([^ ]+)")
        """Where it listens; whoever puts a proxy in front changes it."""

    def wait_for(self, pattern: str) -> str:
        """The first group of the next line of the log with this pattern."""
        assert self.process.stderr is not None
        lines = []
        for line in self.process.stderr:
            lines.append(line)
            if match := re.search(pattern, line):
                return match[1]
        pytest.fail(f"{pattern!r} never came: {''.join(lines)}")

    def replace_workers(self) -> None:
        """Returns when the old ones have ended."""
        self.process.send_signal(signal.SIGHUP)
        for _ in range(self.workers):
            self.wait_for(r"(Worker exiting)")

    def kill_worker(self, number: int) -> None:
        """One of them, at once. Its place is taken by another."""
        os.kill(sorted(children(self.process.pid))[number], signal.SIGKILL)

    def try_to_publish(self, text: str) -> bool:
        try:
            return Request("POST", f"{self.url}/publish/{text}").status == 200
        except (OSError, http.client.HTTPException):
            return False

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()
