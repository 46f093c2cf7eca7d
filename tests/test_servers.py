"""The embedded hub under the servers that Flask applications run on, each as a real process."""

import signal
import socket
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from clients import PATIENCE
from greenlets import PATCHED
from programs import Program

APPLICATION = """
import threading

from flask import Flask, request
from flask_mercure_sse import MercureSSE, subscriber_connected, subscriber_disconnected
from werkzeug.local import LocalProxy

app = Flask(__name__)
app.config.update(SECRET_KEY="k" * 32, MERCURE_HUB=True, MERCURE_HUB_ALLOW_PUBLISH=True)
mercure = MercureSSE(app)
mercure.publish("topic", "the engine runs in the master before it forks")
seen = []


@subscriber_connected.connect_via(app)
def connected(app, topic, **extra):
    seen.append("+" + topic)


@subscriber_disconnected.connect_via(app)
def disconnected(app, topic, **extra):
    seen.append("-" + topic)


evaluated = []
proxy = LocalProxy(lambda: evaluated.append("evaluated") or evaluated)


@app.get("/evaluated")
def what_was_evaluated():
    return " ".join(evaluated)


@app.get("/traffic")
def traffic():
    def publish():
        while True:
            mercure.publish("topic", "more")
            pause.wait(0.05)

    pause = threading.Event()
    threading.Thread(target=publish, daemon=True).start()
    return ""


@app.get("/publish")
def publish():
    return mercure.publish("topic", "message")


@app.get("/connected")
def is_connected():
    return str(mercure.is_connected("topic"))


@app.get("/seen")
def what_was_seen():
    return " ".join(seen)


@app.after_request
def keep(response):
    # A stream that the application has changed is carried by the server.
    if "kept" in request.args:
        response.headers["Content-Encoding"] = "identity"
    return response


if __name__ == "__main__":
    import sys

    if sys.argv[1] == "waitress":
        from waitress.server import create_server

        server = create_server(app, listen="127.0.0.1:0", threads=8, channel_request_lookahead=1)
        print(f"Listening at: http://127.0.0.1:{server.effective_port} ", file=sys.stderr, flush=True)
        server.run()
    else:
        app.run("127.0.0.1", 0, threaded=sys.argv[1] != "one at a time", debug=sys.argv[1] == "reloader")
"""

GUNICORN = ["-m", "gunicorn", "--bind", "127.0.0.1:0", "served:app", "--graceful-timeout", "3600"]
READY = r"(?:Listening at:|Running on) (http://[0-9.:]+)"
GTHREAD = [*GUNICORN, "--worker-class", "gthread", "--threads", "8"]
GEVENT = [*GUNICORN, "--worker-class", "gevent"]


@pytest.fixture
def start(stack, tmp_path):
    def start(*command):
        process = Program(tmp_path, APPLICATION, list(command), READY)
        stack.callback(process.close)
        return process

    return start


@pytest.mark.parametrize(
    "command",
    [
        [*GTHREAD],
        [*GTHREAD, "--preload"],
        [*GEVENT],
        [*GEVENT, "--preload"],
        ["served.py", "threads"],
        ["served.py", "reloader"],
        ["served.py", "waitress"],
    ],
    ids=["gthread", "gthread, preloaded", "gevent", "gevent, preloaded", "Werkzeug", "its reloader", "waitress"],
)
@pytest.mark.parametrize("query", ["topic=topic", "topic=topic&kept=1"], ids=["passed", "carried by the server"])
def test_streams_publishing_leaving_and_signals_work(query, command, start, open_stream, send, wait_until):
    url = start(*command).ready
    streams = [open_stream(f"{url}/.well-known/mercure?{query}") for _ in range(4)]
    assert all(stream.opens() for stream in streams)
    published = send("GET", url + "/publish").body.decode()
    assert [stream.event() for stream in streams] == [{"id": published, "data": "message"}] * 4
    assert send("GET", url + "/connected").body == b"True"
    for stream in streams:
        stream.close()
    wait_until(lambda: send("GET", url + "/connected").body == b"False")
    wait_until(lambda: send("GET", url + "/seen").body == b"+topic +topic +topic +topic -topic -topic -topic -topic")


@pytest.mark.parametrize("command", [[*GUNICORN], ["served.py", "one at a time"]], ids=["gunicorn sync", "Werkzeug"])
def test_a_server_that_a_stream_would_block_refuses_it_and_says_what_to_do(command, start, send):
    server = start(*command)
    refused = send("GET", server.ready + "/.well-known/mercure?topic=topic&kept=1")
    assert refused.status == 503
    assert b"run the hub on its own" in refused.body
    assert "refuses a subscriber" in server.wait_for("(.*one request at a time.*)")
    assert send("GET", server.ready + "/publish").status == 200


@pytest.mark.parametrize("command", [GTHREAD, GEVENT], ids=["gthread", "gevent"])
def test_a_worker_that_ends_lets_its_streams_go(command, start, open_stream):
    server = start(*command)
    stream = open_stream(server.ready + "/.well-known/mercure?topic=topic&kept=1")
    assert stream.opens()
    server.process.send_signal(signal.SIGTERM)
    with pytest.raises(EOFError):
        stream.event()
    assert server.process.wait(PATIENCE) == 0, "it does not wait for the graceful timeout"


@pytest.mark.parametrize("command", [GTHREAD, GEVENT], ids=["gthread", "gevent"])
def test_a_worker_that_ends_lets_streams_with_traffic_go(command, start, open_stream, send):
    server = start(*command)
    stream = open_stream(server.ready + "/.well-known/mercure?topic=topic&kept=1")
    assert send("GET", server.ready + "/traffic").status == 200
    assert stream.event()["data"] == "more"
    assert send("GET", server.ready + "/evaluated").body == b"", "a stream looks for its worker, and runs no other code"
    server.process.send_signal(signal.SIGTERM)
    with pytest.raises(EOFError):
        list(iter(stream.event, None))
    assert server.process.wait(PATIENCE) == 0, "it does not wait for the graceful timeout"


@pytest.mark.parametrize("command", [GTHREAD, GEVENT], ids=["gthread", "gevent"])
def test_a_worker_that_is_recycled_ends_its_streams_cleanly(command, start, open_stream, send):
    server = start(*command, "--max-requests", "3")
    stream = open_stream(server.ready + "/.well-known/mercure?topic=topic&kept=1")
    assert stream.opens()
    for _ in range(2):
        send("GET", server.ready + "/publish")
    assert [stream.event()["data"] for _ in range(2)] == ["message", "message"]
    with pytest.raises(EOFError):
        stream.event()
    # The browser comes back and finds another worker.
    again = open_stream(server.ready + "/.well-known/mercure?topic=topic")
    assert again.opens()


@pytest.mark.parametrize("command", [GTHREAD, GEVENT, ["served.py", "waitress"]], ids=["gthread", "gevent", "waitress"])
def test_a_form_that_is_cut_is_not_published(command, start, open_stream, send, token):
    url = start(*command).ready
    stream = open_stream(url + "/.well-known/mercure?topic=topic")
    address = urlsplit(url)
    form = b"topic=topic&data=hidden&private=on"
    authorization = token.bearer(publish=["*"], key="k" * 32)["Authorization"]
    head = f"POST /.well-known/mercure HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\nConnection: close\r\n"
    head += "Content-Type: application/x-www-form-urlencoded\r\n"
    for framing, body in (
        (f"Content-Length: {len(form)}", form[:-11]),
        ("Transfer-Encoding: chunked", b"%x\r\n%s" % (len(form), form[:-11])),
        ("Transfer-Encoding: chunked", b"%x\r\n%s\r\n" % (len(form) - 11, form[:-11])),
    ):
        with socket.create_connection((address.hostname, address.port), PATIENCE) as connection:
            connection.sendall(f"{head}{framing}\r\n\r\n".encode() + body)
            connection.shutdown(socket.SHUT_WR)
            # Some servers do not answer a client that has gone.
            with connection.makefile("rb") as answer:
                assert b" 200 " not in answer.readline(), framing
    send("GET", url + "/publish")
    assert stream.event()["data"] == "message"


GREENLETS = (
    PATCHED
    + """
import socket, threading
from flask import Flask
from flask_mercure_sse import HubTimeoutError, MercureSSE

listener = socket.create_server(("127.0.0.1", 0))
url = f"http://127.0.0.1:{listener.getsockname()[1]}/.well-known/mercure"
mercure = MercureSSE(Flask("greenlets"), hub_url=url, publisher_jwt="j.w.t", read_timeout=float(sys.argv[2]))


def hub():
    # A greenlet of this thread: it answers only if publishing lets it.
    connection, _ = listener.accept()
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nid")
    connection.close()


answering = threading.Thread(target=hub, daemon=True)
answering.start()
print(mercure.publish("a", "b"))
answering.join()
mercure = MercureSSE(Flask("impatient"), hub_url=url, publisher_jwt="j.w.t", read_timeout=0.5)
try:
    mercure.publish("a", "b")
except HubTimeoutError:
    print("timed out")
"""
)


@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_other_greenlets_go_on_while_a_hub_does_not_answer(library):
    ran = subprocess.run(
        [sys.executable, "-c", GREENLETS, library, str(PATIENCE)],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert ran.stdout == "id\ntimed out\n", ran.stderr
