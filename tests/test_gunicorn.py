"""The embedded hub under gunicorn: one worker with threads, the engine started before the fork."""

import os
import subprocess
import sys

import pytest

APPLICATION = """
from flask import Flask
from flask_mercure_sse import MercureSSE

app = Flask(__name__)
app.config.update(SECRET_KEY="k" * 32, MERCURE_HUB=True)
mercure = MercureSSE(app)
mercure.publish("topic", "the engine runs in the master before it forks")


@app.get("/publish")
def publish():
    return mercure.publish("topic", "message")


@app.get("/connected")
def connected():
    return str(mercure.is_connected("topic"))
"""


@pytest.fixture
def gunicorn(stack, tmp_path):
    """Its URL, serving the application above."""
    (tmp_path / "served.py").write_text(APPLICATION)
    options = ["--preload", "--worker-class", "gthread", "--threads", "8", "--graceful-timeout", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", *options, "served:app"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "default"},
    )
    stack.callback(process.communicate)
    stack.callback(process.terminate)
    for line in process.stderr:
        if "Listening at: " in line:
            return line.split("Listening at: ")[1].split()[0]
    pytest.fail("gunicorn did not start")


def test_streams_publishing_and_leaving_work(gunicorn, open_stream, send, wait_until):
    stream = open_stream(gunicorn + "/.well-known/mercure?topic=topic")
    assert stream.first_bytes() == b":\n"
    published = send("GET", gunicorn + "/publish").body.decode()
    assert stream.event() == {"id": published, "data": "message"}
    assert send("GET", gunicorn + "/connected").body == b"True"
    stream.close()
    wait_until(lambda: send("GET", gunicorn + "/connected").body == b"False")
