"""examples/progress.py and the guide's other ways: a Celery worker publishes, and a page of the server receives."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

import hubs
from clients import PATIENCE, Request
from servers import ServerProcess

EXAMPLE = hubs.ROOT / "examples"


@pytest.fixture
def start(stack, tmp_path):
    """Starts a process of the example; all of a test have one folder of tasks, and one hub."""

    def start(*command, ready):
        variables = [
            f"CELERY_FOLDER={tmp_path}/tasks",
            "STEP_SECONDS=0",
        ]
        process = ServerProcess(["env", *variables, sys.executable, "-m", *command], ready, cwd=EXAMPLE)
        stack.callback(process.kill)
        return process

    return start


@pytest.mark.parametrize("pool", ["solo", "prefork"])
def test_the_page_shows_how_far_the_worker_has_come(start, open_stream, pool):
    server = start("flask", "--app", "progress", "run", "--port", "0", ready="Running on")
    url = re.search(r"Running on (http://[0-9.:]+)", "".join(server.lines))[1]
    quick = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "info"]
    start("celery", "--app", "progress.celery", "worker", "--pool", pool, "--concurrency", "1", *quick, ready=" ready.")
    assert b"Export everything" in Request("GET", f"{url}/").body
    started = Request("POST", f"{url}/jobs")
    assert started.status == 303
    page = Request("GET", url + started.headers["Location"]).body.decode()
    stream_url = json.loads(re.search(r'subscribe\((".*?"),', page)[1])
    assert stream_url.startswith(url)
    stream = open_stream(stream_url)
    percents = [json.loads(stream.event()["data"])["percent"] for _ in range(21)]
    assert percents == list(range(0, 101, 5))
    late = open_stream(stream_url)
    assert [json.loads(late.event()["data"])["percent"] for _ in range(21)] == percents, "a page that comes late"


def test_a_script_of_the_application_publishes_to_the_pages_of_the_server(start, open_stream, tmp_path):
    server = start("flask", "--app", "progress", "run", "--port", "0", ready="Running on")
    url = re.search(r"Running on (http://[0-9.:]+)", "".join(server.lines))[1]
    stream = open_stream(f"{url}/.well-known/mercure?topic=/jobs/7")
    assert stream.opens()
    code = "from progress import export; export('7')"
    environment = {
        **os.environ,
        "CELERY_FOLDER": f"{tmp_path}/tasks",
        "STEP_SECONDS": "0",
    }
    command = [sys.executable, "-c", code]
    ran = subprocess.run(
        command, cwd=EXAMPLE, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(stream.event()["data"]) == {"percent": 0}
