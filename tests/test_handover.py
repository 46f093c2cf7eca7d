"""Streams that leave the WSGI server: real servers of each kind pass their clients to the embedded hub."""

import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import sys
import tempfile
import time
from http.client import HTTPResponse, IncompleteRead
from pathlib import Path

import pytest
from werkzeug.http import is_hop_by_hop_header as is_hop_by_hop
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import EnvironBuilder

from clients import HUB_PATH, PATIENCE, Stream
from greenlets import PATCHED
from ports import Port
from programs import Program
from proxies import certificate
from servers import ServerProcess

APPLICATION = """
import os
import signal
import sys
import threading

from flask import Flask, Response, request, session
from flask_mercure_sse import MercureSSE

class CustomResponse(Response):
    pass


app = Flask(__name__)
app.response_class = CustomResponse
app.config.from_prefixed_env()
app.config.update(SECRET_KEY="k" * 32, MERCURE_HUB=True, MERCURE_HUB_ALLOW_PUBLISH=True)
mercure = MercureSSE(app)


@app.before_request
def visit():
    session["visited"] = "yes"


@app.after_request
def decorate(response):
    response.headers["X-After"] = "the application"
    response.headers["Access-Control-Allow-Origin"] = "https://example.com"
    response.set_cookie("first", "1")
    then = request.args.get("then")
    if then == "encoding":
        response.headers["Content-Encoding"] = "identity"
    elif then == "status":
        response.status_code = 203
    elif then == "wrapped":
        response.response = (part for part in response.response)
    elif then == "replaced":
        return Response("another answer")
    elif then == "fields":
        response.headers["X-Field"] = "x" * 62_000
    elif then == "moved":
        return Response(response.response, mimetype="text/event-stream")
    return response


@app.get("/")
def index():
    return "an ordinary answer"


@app.get("/publish")
def publish():
    return mercure.publish("topic", "message")


@app.get("/connected")
def is_connected():
    return str(mercure.is_connected("topic"))


waiting, going = threading.Event(), threading.Event()


@app.get("/wait")
def wait():
    waiting.set()
    while not os.path.exists("go"):
        going.wait(0.01)
    return "at last"


@app.get("/waits")
def waits():
    return str(waiting.wait(60))


@app.get("/fork")
def fork():
    if os.fork() == 0:
        signal.pause()
        os._exit(0)
    return ""


@app.get("/process")
def process():
    return str(os.getpid())


if __name__ == "__main__":
    kind, address = sys.argv[1:]
    if kind == "pywsgi":
        import socket

        from gevent import socket as sockets
        from gevent.pywsgi import WSGIServer

        if address.startswith("/"):
            listener = sockets.socket(socket.AF_UNIX)
            listener.bind(address)
            listener.listen()
        else:
            listener = ("127.0.0.1", 0)
        server = WSGIServer(listener, app)
        server.start()
        print(f"Listening at: http://127.0.0.1:{server.server_port} ", flush=True)
        server.serve_forever()
    elif kind == "waitress":
        from waitress.server import create_server

        server = create_server(app, listen="127.0.0.1:0", threads=8)
        print(f"Listening at: http://127.0.0.1:{server.effective_port} ", flush=True)
        server.run()
    else:
        host = "unix://" + address if address.startswith("/") else "127.0.0.1"
        app.run(host, 0, threaded=kind != "one at a time", debug=kind == "reloader")
"""

GUNICORN = ["-m", "gunicorn", "served:app", "--graceful-timeout", "3600", "--access-logfile", "-", "--bind"]
UWSGI = shutil.which("uwsgi", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")

UWSGI_OPTIONS = ["--master", "--die-on-term", "--module", "served:app"]
RUN = "import runpy; sys.argv[:2] = ['served.py']; runpy.run_path('served.py', run_name='__main__')"

LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
TLS = "127.0.0.1:0,hub.crt,hub.key"
COMMANDS = {
    "gunicorn sync": [*GUNICORN, "{gunicorn}"],
    "gunicorn gthread": [*GUNICORN, "{gunicorn}", "--worker-class", "gthread", "--threads", "2"],
    "gunicorn gevent": [*GUNICORN, "{gunicorn}", "--worker-class", "gevent"],
    "gunicorn gevent_pywsgi": [*GUNICORN, "{gunicorn}", "--worker-class", "gevent_pywsgi"],
    "Werkzeug": ["served.py", "threads", "{path}"],
    "Werkzeug, one at a time": ["served.py", "one at a time", "{path}"],
    "Werkzeug, reloader": ["served.py", "reloader", "{path}"],
    "pywsgi": ["served.py", "pywsgi", "{path}"],
    "pywsgi, patched": ["-c", PATCHED + RUN, "gevent", "pywsgi", "{path}"],
    "uWSGI, its protocol": [UWSGI or "uwsgi", "--socket", "{uwsgi}", "--virtualenv", sys.prefix, *UWSGI_OPTIONS],
    "uWSGI with TLS": [UWSGI or "uwsgi", "--https-socket", TLS, "--virtualenv", sys.prefix, *UWSGI_OPTIONS],
    "waitress": ["served.py", "waitress", ""],
    "limited": ["-c", LIMITED, *GUNICORN, "{gunicorn}"],
    "uWSGI": [UWSGI or "uwsgi", "--http-socket", "{uwsgi}", "--virtualenv", sys.prefix, *UWSGI_OPTIONS],
}
SERVERS = [name for name in COMMANDS if name not in ("waitress", "limited", "uWSGI, its protocol", "uWSGI with TLS")]
"""Those that show the sockets of their clients."""

READY = {
    "TCP": r"(?:Listening at: http://|Running on http://|bound to TCP address )([0-9.]+:\d+)",
    "TLS": r"(?:Listening at: https://|bound to TCP address )([0-9.]+:\d+)",
    "Unix": r"(Listening at:|Running on unix|bound to UNIX address)",
}


class Server(Program):
    """One of the servers above, on a socket of TCP or on a Unix socket."""

    def __init__(self, directory, name, family="TCP", *options):
        command, self.opened = COMMANDS[name], []
        if name.startswith("uWSGI") and UWSGI is None:
            pytest.skip("uWSGI is not installed")
        path = str(directory / "socket")
        is_unix = family == "Unix"
        addresses = {
            "gunicorn": f"unix:{path}" if is_unix else "127.0.0.1:0",
            "uwsgi": path if is_unix else "127.0.0.1:0",
            "path": path if is_unix else "",
        }
        command = [part if "\n" in part else part.format(**addresses) for part in command]
        super().__init__(directory, APPLICATION, [*command, *options], READY[family])
        self.is_uwsgi = name.startswith("uWSGI")
        if is_unix:
            self.address = path
        else:
            host, _, port = self.ready.partition(":")
            self.address = (host, int(port))

    def connect(self):
        connection = socket.socket(socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET)
        self.opened.append(connection)
        connection.settimeout(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                connection.connect(self.address)
                return connection
            except (FileNotFoundError, ConnectionRefusedError):
                assert time.monotonic() < deadline, "the server does not listen"
                os.sched_yield()

    def stream(self, query="topic=topic", **options):
        self.opened.append(Subscriber(self.connect(), f"{HUB_PATH}?{query}", **options))
        return self.opened[-1]

    def close(self):
        for each in reversed(self.opened):
            each.close()
        super().close()

    def get(self, path):
        with contextlib.closing(Subscriber(self.connect(), path)) as answer:
            return answer.response.read().decode()

    def worker(self):
        return int(self.get("/process"))


class Subscriber(Stream):
    """A client on a socket, with the version of HTTP that it is told."""

    def __init__(self, connection, target, version="1.1", method="GET", body=b"", headers=(), more=b""):
        self.connection, self.response = connection, HTTPResponse(connection, method=method)
        lines = [f"{method} {target} HTTP/{version}", "Host: localhost", *headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body + more)
        self.response.begin()
        self.status, self.headers = self.response.status, self.response.headers

    def rest(self):
        """Everything until the end. Raises IncompleteRead if that is not the end of the stream, but of the connection
        alone."""
        return self.response.read()


@pytest.fixture
def serve(stack, tmp_path):
    def serve(*arguments):
        server = Server(tmp_path, *arguments)
        stack.callback(server.close)
        return server

    return serve


def descriptors(process):
    """The numbers of the descriptors that a process has open."""
    return sorted(int(entry.name) for entry in Path(f"/proc/{process}/fd").iterdir())


@pytest.mark.parametrize("family", ["TCP", "Unix"])
@pytest.mark.parametrize("name", SERVERS)
def test_a_stream_leaves_the_server_with_everything_that_the_application_has_added(name, family, serve, wait_until):
    server = serve(name, family)
    for version in ("1.0", "1.1"):
        with contextlib.closing(server.stream(version=version)) as stream:
            assert stream.status == 200
            is_chunked = version == "1.1" and not server.is_uwsgi
            assert stream.response.chunked == is_chunked
            assert stream.headers["X-After"] == "the application"
            assert stream.headers["Access-Control-Allow-Origin"] == "https://example.com"
            assert [each.partition("=")[0] for each in stream.headers.get_all("Set-Cookie")] == ["first", "session"]
            assert stream.headers.get_all("Content-Type") == ["text/event-stream"]
            assert stream.headers.get_all("Connection") == ["close"]
            assert len(stream.headers.get_all("Date")) == 1
            assert "Content-Length" not in stream.headers
            assert stream.opens()
            # The hub has the socket, and select() in the application goes on with low numbers.
            assert descriptors(server.worker())[-1] >= 1024
            published = server.get("/publish")
            assert stream.event() == {"id": published, "data": "message"}
            assert server.get("/connected") == "True"
        wait_until(lambda: server.get("/connected") == "False")
    server.close()
    assert not re.search("Traceback|[Ee]rror|WARNING.*mercure", server.whole_log()), server.whole_log()


BLOCKED = ["gunicorn sync", "Werkzeug, one at a time", "pywsgi", "uWSGI"]
"""Servers that serve one request at a time."""


@pytest.mark.parametrize(
    ("name", "count"), [(name, 50) for name in SERVERS if "reloader" not in name] + [(BLOCKED[0], 200)]
)
def test_a_server_goes_on_while_streams_are_open(name, count, serve):
    server = serve(name)
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(contextlib.closing(server.stream())) for _ in range(count)]
        assert all(stream.opens() for stream in streams)
        assert server.get("/") == "an ordinary answer"
        published = server.get("/publish")
        assert [stream.event()["id"] for stream in streams] == [published] * count


@pytest.mark.parametrize(
    "name", ["gunicorn sync", "gunicorn gthread", "gunicorn gevent", "pywsgi", "uWSGI", "Werkzeug"]
)
def test_no_descriptor_is_left_behind(name, serve, wait_until):
    server = serve(name)
    worker = server.worker()
    # What the engine and the server open once is open after the first stream.
    with contextlib.closing(server.stream()) as stream:
        assert stream.opens()
    wait_until(lambda: server.get("/connected") == "False")
    wait_until(lambda: descriptors(worker)[-1] < 1024)
    before = len(descriptors(worker))
    versions = ["1.0", "1.1"] * 25
    for _ in range(10):
        streams = [server.stream(version=version) for version in versions]
        # The hub sees by itself that the clients of the last round have left, and may need a moment for it.
        wait_until(lambda: sum(number >= 1024 for number in descriptors(worker)) == len(versions))
        for stream in streams:
            stream.close()
    wait_until(lambda: len(descriptors(worker)) <= before)
    assert descriptors(worker)[-1] < 1024


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gunicorn sync", []),
        ("gunicorn gthread", []),
        ("gunicorn gevent", []),
        ("gunicorn sync", ["--preload", "--workers", "1"]),
        ("uWSGI", []),
        ("uWSGI", ["--lazy-apps", "--enable-threads"]),
    ],
)
def test_a_worker_that_is_told_to_end_ends_its_streams_after_what_there_is(name, options, serve):
    server = serve(name, "TCP", *options)
    streams = [server.stream(version=version) for version in ("1.0", "1.1")]
    server.get("/publish")
    if server.is_uwsgi:
        # A worker of uWSGI that is still busy with that request ends without its exit functions, and cuts its streams.
        for stream in streams:
            assert stream.event()["data"] == "message"
    server.process.send_signal(signal.SIGTERM)
    for stream in streams:
        # The end of a chunked answer, and not only of its connection.
        rest = stream.rest()
        assert server.is_uwsgi or b"data: message\n" in rest
    # It does not wait for the graceful timeout.
    assert server.process.wait(PATIENCE) == 0
    for stream in streams:
        stream.close()


def test_streams_end_though_a_forked_process_has_inherited_their_sockets(serve):
    server = serve("gunicorn sync")
    streams = [server.stream(version=version) for version in ("1.0", "1.1")]
    server.get("/fork")
    published = server.get("/publish")
    server.process.send_signal(signal.SIGTERM)
    for stream in streams:
        assert published.encode() in stream.rest()


@pytest.mark.parametrize("name", ["gunicorn gthread", "gunicorn gevent"])
def test_a_worker_that_finishes_a_long_request_has_ended_its_streams(name, serve, tmp_path):
    server = serve(name)
    long = server.connect()
    long.sendall(b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert server.get("/waits") == "True"
    streams = [server.stream(version=version) for version in ("1.0", "1.1")]
    published = server.get("/publish")
    server.process.send_signal(signal.SIGTERM)
    for stream in streams:
        assert published.encode() in stream.rest()
    (tmp_path / "go").touch()
    with contextlib.closing(HTTPResponse(long)) as answer:
        answer.begin()
        assert answer.read() == b"at last"
    assert server.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("name", ["gunicorn sync", "gunicorn gthread", "gunicorn gevent"])
@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGABRT])
def test_a_worker_that_is_stopped_at_once_ends_its_streams_too(name, number, serve):
    server = serve(name)
    with contextlib.closing(server.stream()) as stream:
        server.get("/publish")
        # SIGABRT is what gunicorn sends to a worker that does not answer in time.
        os.kill(server.worker(), number)
        assert b"data: message\n" in stream.rest()
    with contextlib.closing(server.stream()) as again:
        assert again.opens()


@pytest.mark.parametrize("name", ["gunicorn sync", "gunicorn gthread", "gunicorn gevent", "uWSGI"])
def test_a_worker_that_is_recycled_ends_its_streams(name, serve):
    # uWSGI would let a worker live for a minute at least.
    more = ["--min-worker-lifetime", "0"] if name == "uWSGI" else []
    server = serve(name, "TCP", "--max-requests", "3", *more)
    with contextlib.closing(server.stream()) as stream:
        for _ in range(2):
            server.get("/publish")
        assert stream.rest().count(b"data: message\n") == 2
    with contextlib.closing(server.stream()) as again:
        assert again.opens()


def test_a_worker_that_is_killed_cuts_its_streams_and_subscribers_come_back_to_another(serve):
    server = serve("gunicorn sync")
    worker = server.worker()
    with contextlib.closing(server.stream()) as stream:
        assert stream.opens()
        os.kill(worker, signal.SIGKILL)
        with pytest.raises((IncompleteRead, ConnectionResetError)):
            stream.rest()
    with contextlib.closing(server.stream()) as again:
        assert again.opens()
    assert server.worker() != worker


def test_the_log_of_the_server_has_the_request(serve):
    server = serve("gunicorn sync")
    with contextlib.closing(server.stream()) as stream:
        assert stream.opens()
        assert server.wait_for(r'"GET /\.well-known/mercure\?topic=topic HTTP/1\.1" (\d+)') == "200"


@pytest.mark.parametrize("name", ["gunicorn sync", "gunicorn gthread", "gunicorn gevent"])
@pytest.mark.parametrize("then", ["encoding", "status", "wrapped", "fields", "moved"])
def test_a_stream_that_the_application_has_changed_is_carried_by_the_server_or_refused(name, then, serve):
    server = serve(name)
    with contextlib.closing(server.stream(f"topic=topic&then={then}")) as stream:
        if name != "gunicorn sync":
            assert stream.status == (203 if then == "status" else 200)
            assert stream.opens()
            server.get("/publish")
            assert stream.event()["data"] == "message"
        elif then == "moved":
            # The application has another answer, which iterates over the stream.
            assert stream.rest() == b""
        else:
            assert stream.status == 503
            assert b"gunicorn serves one request at a time" in stream.rest()
    assert server.get("/") == "an ordinary answer"


def test_another_answer_of_the_application_takes_the_place_of_the_stream(serve, wait_until):
    server = serve("gunicorn sync")
    with contextlib.closing(server.stream("topic=topic&then=replaced")) as answer:
        assert answer.rest() == b"another answer"
    wait_until(lambda: server.get("/connected") == "False")


@pytest.mark.parametrize("name", ["gunicorn sync", "gunicorn gthread", "gunicorn gevent", "pywsgi", "Werkzeug"])
def test_whatever_else_a_client_sends_harms_nothing(name, serve):
    server = serve(name)
    query = {"method": "QUERY", "body": b"topic=topic", "headers": ["Content-Type: application/x-www-form-urlencoded"]}
    for options in (
        {"more": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"},
        {"more": b"x" * 4_000},
        {"body": b"x" * 4_000},
        {"headers": ["Connection: keep-alive"]},
        query,
        {**query, "headers": [*query["headers"], "Expect: 100-continue"]},
    ):
        target = "" if options.get("method") == "QUERY" else "topic=topic"
        with contextlib.closing(server.stream(target, **options)) as stream:
            assert stream.status == 200, options
            assert descriptors(server.worker())[-1] >= 1024
            published = server.get("/publish")
            assert stream.event()["id"] == published, options
    with contextlib.closing(server.stream(method="HEAD")) as head:
        assert (head.status, head.rest()) == (200, b"")
    server.close()
    assert not re.search("Traceback|[Ee]rror", server.whole_log()), server.whole_log()


@pytest.mark.parametrize("name", ["gunicorn gthread", "gunicorn gevent", "gunicorn sync", "uWSGI with TLS"])
def test_a_server_that_encrypts_carries_its_streams_itself_and_says_so_once(name, serve, tmp_path):
    public, private = certificate(tmp_path)
    is_uwsgi, is_blocked = name.startswith("uWSGI"), name == "gunicorn sync"
    files = ["--threads", "4"] if is_uwsgi else ["--certfile", str(public), "--keyfile", str(private)]
    server = serve(name, "TLS", *files)
    context = ssl.create_default_context(cafile=str(public))
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            connection = context.wrap_socket(server.connect(), server_hostname="localhost")
            stream = stack.enter_context(contextlib.closing(Subscriber(connection, f"{HUB_PATH}?topic=topic")))
            if is_blocked:
                assert stream.status == 503
            else:
                assert stream.opens()
    server.close()
    assert server.whole_log().count("encrypts the connection (TLS): each stream of the embedded") == (not is_blocked)


def test_a_server_that_does_not_show_its_sockets_carries_its_streams_itself_and_says_so_once(serve):
    server = serve("waitress")
    with contextlib.closing(server.stream()) as stream, contextlib.closing(server.stream()) as other:
        assert stream.opens()
        assert other.opens()
    server.close()
    assert server.whole_log().count("waitress does not show the socket of a client: each stream") == 1


def test_the_limit_of_open_files_is_raised_for_the_first_stream_and_bounds_the_streams(serve, stack):
    server = serve("limited")
    limits = Path(f"/proc/{server.worker()}/limits")

    def limit():
        return re.search(r"Max open files +(\d+) +(\d+)", limits.read_text()).groups()

    server.get("/publish")
    assert limit() == ("100", "300")
    streams = [stack.enter_context(contextlib.closing(server.stream()))]
    assert limit() == ("300", "300")
    while streams[-1].status == 200:
        streams.append(stack.enter_context(contextlib.closing(server.stream())))
    assert streams[-1].status == 429
    assert 60 < len(streams) < 150
    assert server.get("/") == "an ordinary answer"


def test_the_reloader_ends_streams(serve, tmp_path):
    server = serve("Werkzeug, reloader")
    with contextlib.closing(server.stream()) as stream:
        server.get("/publish")
        (tmp_path / "served.py").write_text(APPLICATION + "\n")
        assert b"data: message\n" in stream.rest()


@pytest.mark.parametrize("name", ["gunicorn gthread", "gunicorn gevent", "pywsgi"])
def test_a_stream_follows_another_request_on_its_connection(name, serve):
    server = serve(name)
    with contextlib.closing(server.connect()) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        first = HTTPResponse(connection)
        first.begin()
        assert first.read() == b"an ordinary answer"
        assert not first.will_close
        stream = Subscriber(connection, f"{HUB_PATH}?topic=topic")
        published = server.get("/publish")
        assert stream.event()["id"] == published
        # The server waits for nothing on the connection that it has no more.
        assert server.get("/connected") == "True"


@pytest.mark.parametrize("name", ["gunicorn gevent", "gunicorn gthread", "pywsgi"])
def test_what_clients_send_on_their_streams_keeps_no_loop_busy(name, serve, monkeypatch):
    monkeypatch.setenv("FLASK_MERCURE_HUB_KEEPALIVE_INTERVAL", "1")
    server = serve(name)
    # The server waits for the request, so that its loop knows the socket.
    connections = [server.connect() for _ in range(1 if "gthread" in name else 5)]
    server.get("/")
    with contextlib.ExitStack() as stack:
        for connection in connections:
            stream = Subscriber(connection, f"{HUB_PATH}?topic=topic")
            stack.callback(stream.close)
            assert stream.opens()
        for connection in connections:
            connection.sendall(b"unasked")
            connection.shutdown(socket.SHUT_WR)
        worker = server.worker()
        before = ticks(worker)
        # Half a second at least, in which a busy loop would take all of a processor.
        with contextlib.closing(server.stream()) as silent:
            assert silent.opens()
            assert [silent.first_bytes() for _ in range(2)] == [b":\n"] * 2
        assert ticks(worker) - before < 0.3 * os.sysconf("SC_CLK_TCK")


def ticks(process):
    """What a process has had of the processor, in ticks of the system."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


@pytest.fixture
def open_directory():
    """A directory that nginx may enter, whose workers have a user of their own."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


@pytest.fixture
def nginx(stack, tmp_path):
    def start(socket, passes):
        """nginx in front of a Unix socket; returns where it listens."""
        port = stack.enter_context(Port())
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "".join(f"{kind}_temp_path {kind};" for kind in kinds)
        configuration = f"""
            daemon off; pid nginx.pid; error_log stderr notice; events {{}}
            http {{ access_log off; {paths} server {{ listen {port}; location / {{ {passes} }} }} }}
        """
        (tmp_path / "nginx.conf").write_text(configuration.replace("SOCKET", f"unix:{socket}"))
        command = ["nginx", "-p", str(tmp_path), "-c", "nginx.conf", "-e", "stderr"]
        stack.callback(ServerProcess(command, "start worker process").kill)
        return ("127.0.0.1", port.number)

    return start


HTTP = "proxy_pass http://SOCKET:; proxy_http_version 1.1; proxy_buffering off; proxy_set_header Connection '';"
UWSGI_PARAMETERS = """
    uwsgi_pass SOCKET; uwsgi_buffering off; uwsgi_param QUERY_STRING $query_string;
    uwsgi_param REQUEST_METHOD $request_method; uwsgi_param CONTENT_TYPE $content_type;
    uwsgi_param CONTENT_LENGTH $content_length; uwsgi_param REQUEST_URI $request_uri;
    uwsgi_param PATH_INFO $document_uri; uwsgi_param SERVER_PROTOCOL $server_protocol;
    uwsgi_param SERVER_NAME $server_name; uwsgi_param SERVER_PORT $server_port; uwsgi_param HTTP_HOST $host;
"""


@pytest.mark.parametrize(
    ("name", "options", "passes"),
    [
        ("gunicorn sync", [], HTTP),
        ("gunicorn gevent", [], HTTP),
        ("gunicorn sync", ["--protocol", "uwsgi"], UWSGI_PARAMETERS),
        ("uWSGI", ["--chmod-socket=666"], HTTP),
        ("uWSGI, its protocol", ["--chmod-socket=666"], UWSGI_PARAMETERS),
    ],
    ids=["gunicorn sync", "gunicorn gevent", "gunicorn with the protocol of uWSGI", "uWSGI with HTTP", "uWSGI"],
)
def test_streams_reach_subscribers_through_nginx(name, options, passes, stack, open_directory, nginx, wait_until):
    server = Server(open_directory, name, "Unix", *options)
    stack.callback(server.close)
    worker = server.process.pid
    server.address = nginx(server.address, passes)
    for version in ("1.0", "1.1"):
        streams = [server.stream(version=version) for _ in range(20)]
        assert server.get("/") == "an ordinary answer"
        published = server.get("/publish")
        for stream in streams:
            assert stream.headers["X-After"] == "the application"
            assert stream.opens()
            assert stream.event() == {"id": published, "data": "message"}
            stream.close()
        wait_until(lambda: server.get("/connected") == "False")
    with contextlib.closing(server.stream()) as stream:
        os.kill(worker, signal.SIGTERM)
        assert stream.rest().startswith(b"retry: ")


def test_a_middleware_around_the_application_sees_an_empty_answer(app, mercure, stack):
    seen = []

    def run(application, environ):
        """As a server does, with the rules of PEP 3333 checked."""
        status = []
        parts = application(environ, lambda *answer: status.append(answer))
        with contextlib.closing(parts):
            seen.append((status[0][0], dict(status[0][1]), b"".join(parts)))

    client, at_server = socket.socketpair()
    stack.callback(client.close)
    stack.callback(at_server.close)
    # As under gevent: no read of the server may block it.
    at_server.setblocking(False)
    closed = []

    @app.after_request
    def watch(response):
        response.call_on_close(lambda: closed.append("closed"))
        return response

    environ = EnvironBuilder(path=HUB_PATH, query_string="topic=topic").get_environ()
    environ |= {"SERVER_SOFTWARE": "Werkzeug", "werkzeug.socket": at_server, "SERVER_PROTOCOL": "HTTP/1.1"}
    run(ProxyFix(app), environ)
    (status, headers, body), *_ = seen
    assert (status, body, closed) == ("200 OK", b"", ["closed"])
    assert headers["Content-Length"] == "0"
    assert not any(is_hop_by_hop(name) for name in headers)
    # The server has another socket now, and reads an end.
    at_server.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    assert at_server.recv(100) == b""
    assert not os.get_blocking(at_server.fileno())
    client.settimeout(PATIENCE)
    response = HTTPResponse(client)
    response.begin()
    assert response.readline().startswith(b"retry: ")
    mercure.publish("topic", "message")
    assert [response.readline() for _ in range(2)][1] == b"data: message\n"


@pytest.mark.parametrize(
    "unusual",
    [
        {"SERVER_PROTOCOL": "HTTP/2.0"},
        {"werkzeug.socket": None},
        {"werkzeug.socket": "text"},
        {"werkzeug.socket": socket.socket(socket.AF_INET, socket.SOCK_DGRAM)},
    ],
    ids=["HTTP/2", "no socket", "something else", "datagrams"],
)
def test_what_cannot_be_passed_is_carried_by_the_server(unusual, app, mercure, stack, caplog):
    client, at_server = socket.socketpair()
    stack.callback(client.close)
    stack.callback(at_server.close)
    environ = EnvironBuilder(path=HUB_PATH, query_string="topic=topic").get_environ()
    environ |= {"SERVER_SOFTWARE": "Server/1", "werkzeug.socket": at_server, "SERVER_PROTOCOL": "HTTP/1.1"}
    parts = app({**environ, **unusual}, lambda *_: None)
    with contextlib.closing(parts):
        assert next(iter(parts)).startswith(b"retry: ")
