"""The process around the hub, Python's own: whatever its standard streams, its signals and its limits are, it serves
and it ends."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import hubs
from clients import HUB_PATH, PATIENCE, Request, Stream, Token
from cluster import PUBLISH
from engines import Engine

KEY = "a key of these tests, of at least 32 bytes"
DRAIN_SECONDS = 5
SECRETS = ["--publisher-secret", KEY, "--subscriber-secret", KEY]
PUBLISHER = Token.bearer(publish=["*"], key=KEY)
REFUSED = {"Authorization": "Bearer " + Token.sign({"mercure": {"publish": ["*"]}}, "another key")}
FORM = [("topic", "a"), ("data", "x")]


class Hub:
    """``python -m flask_mercure_sse.server`` with streams and limits of the test's choice."""

    def __init__(self, script: str = 'exec "$0" "$@"', options: tuple[str, ...] = (), **streams: Any) -> None:
        server = [sys.executable, "-m", "flask_mercure_sse.server", "--host", "127.0.0.1", "--port", "0"]
        command = ["sh", "-c", script, *server, *SECRETS, *options]
        environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **streams}
        self.process = subprocess.Popen(command, env=environment, **streams)

    @property
    def url(self) -> str:
        """Where it listens, as the system says it: it may have no way to say it itself."""
        deadline = time.monotonic() + PATIENCE
        while (port := _listening_port(self.process.pid)) is None:
            assert self.process.poll() is None, "it has ended"
            assert time.monotonic() < deadline, "it never listens"
            os.sched_yield()
        return f"http://127.0.0.1:{port}"

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ends it with a signal, in time; its exit code."""
        self.process.send_signal(number)
        return self.process.wait(DRAIN_SECONDS + 2)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def _listening_port(process: int) -> int | None:
    try:
        links = [os.readlink(entry) for entry in Path(f"/proc/{process}/fd").iterdir()]
        rows = [line.split() for line in Path(f"/proc/{process}/net/tcp").read_text().splitlines()[1:]]
    except FileNotFoundError:
        return None
    ports = [row[1].split(":")[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in links]
    return int(ports[0], 16) if ports else None


@pytest.fixture
def start(stack: ExitStack) -> Callable[..., Hub]:
    def start(*args: Any, **kwargs: Any) -> Hub:
        hub = Hub(*args, **kwargs)
        stack.callback(hub.close)
        return hub

    return start


def full_device(stack: ExitStack) -> int:
    device = os.open("/dev/full", os.O_WRONLY)
    stack.callback(os.close, device)
    return device


def abandoned_pipe(stack: ExitStack) -> int:
    reader, writer = os.pipe()
    os.close(reader)
    stack.callback(os.close, writer)
    return writer


def unread_pipe(stack: ExitStack) -> int:
    reader, writer = os.pipe()
    stack.callback(os.close, reader)
    stack.callback(os.close, writer)
    return writer


def full_pipe(stack: ExitStack) -> int:
    writer = unread_pipe(stack)
    flags = fcntl.fcntl(writer, fcntl.F_GETFL)
    fcntl.fcntl(writer, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"\n" * 4096)
    fcntl.fcntl(writer, fcntl.F_SETFL, flags)
    return writer


@pytest.fixture(params=[full_device, abandoned_pipe, unread_pipe, full_pipe, None])
def broken(request: pytest.FixtureRequest, stack: ExitStack) -> int | None:
    """A stream that takes nothing, or nothing more at some time. None: it is closed."""
    return None if request.param is None else request.param(stack)


def refuse(url: str, count: int) -> None:
    """Has so many tokens refused, each of which is a line of the log."""
    head = {**REFUSED, "Host": "x", "Content-Type": "application/x-www-form-urlencoded", "Content-Length": "7"}
    lines = [f"POST {HUB_PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
    # In one packet: an answer that comes before the body has been sent ends the connection.
    request = ("\r\n".join(lines) + "\r\n\r\ntopic=a").encode()
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=PATIENCE) as connection:
        for _ in range(count):
            connection.sendall(request)
            with http.client.HTTPResponse(connection) as answer:
                answer.begin()
                answer.read()
                assert answer.status == 401


def assert_it_serves(url: str) -> None:
    assert Request("GET", url + "/healthz").status == 200
    stream = Stream(url + HUB_PATH + "?topic=a")
    stream.first_bytes()
    assert Request("POST", url + HUB_PATH, PUBLISHER, FORM).status == 200
    assert stream.event()["data"] == "x"
    stream.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_log_that_cannot_be_written_stops_no_request_and_no_end(number, broken, start):
    closed = 'exec "$0" "$@" 2>&-'
    hub = start(closed) if broken is None else start(stderr=broken)
    url = hub.url
    refuse(url, 1_000)
    assert_it_serves(url)
    assert hub.stop(number) == 0


def test_output_that_cannot_be_written_stops_no_server(broken, start):
    hub = start('exec "$0" "$@" >&-') if broken is None else start(stdout=broken)
    assert_it_serves(hub.url)
    assert hub.stop() == 0


def test_a_server_without_any_standard_stream_sends_no_log_to_its_clients(start):
    hub = start('exec "$0" "$@" <&- >&- 2>&-', ("--debug",))
    url = hub.url
    streams = [os.readlink(f"/proc/{hub.process.pid}/fd/{number}") for number in range(3)]
    assert streams == ["/dev/null"] * 3
    refuse(url, 10)
    assert_it_serves(url)
    assert hub.stop() == 0


def test_a_reader_that_takes_the_first_line_only_stops_no_server(start, stack):
    reader, writer = os.pipe()
    hub = start(stdout=writer)
    os.close(writer)
    with subprocess.Popen(["head", "-n", "1"], stdin=reader, stdout=subprocess.PIPE, text=True) as head:
        os.close(reader)
        assert head.communicate()[0].startswith("Publisher JWT: ")
    assert_it_serves(hub.url)
    assert hub.stop() == 0


def test_ctrl_c_at_a_terminal_ends_the_hub_without_a_drain(stack, open_stream):
    controller, terminal = pty.openpty()
    stack.callback(os.close, controller)

    def take_terminal() -> None:
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    hub = subprocess.Popen(
        [*hubs.petasos(drain_delay="1h", drain="1h"), "--compat"],
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    stack.callback(lambda: (hub.kill(), hub.communicate()))
    os.close(terminal)
    assert hub.stdout is not None
    url = "http://" + hub.stdout.readline().split("/")[2] + HUB_PATH
    stream = open_stream(url + "?topic=a")
    stream.first_bytes()
    os.write(controller, b"\x03")
    with pytest.raises(EOFError):
        stream.event()
    assert hub.wait(5) == 0


@pytest.mark.parametrize("drain_seconds", [0, 1])
def test_a_store_that_does_not_answer_delays_no_end(drain_seconds, engine, stack):
    hub = hubs.HubProcess([*hubs.petasos(drain=f"{drain_seconds}s"), "--compat", "--transport", engine.url])
    stack.callback(hub.close)
    _end_beside_a_paused_store(engine, hub.url, PUBLISH, hub.process, drain_seconds)


def test_a_store_that_does_not_answer_delays_no_end_of_the_server_either(engine, start):
    hub = start(options=("--transport", engine.url))
    _end_beside_a_paused_store(engine, hub.url + HUB_PATH, PUBLISHER, hub.process, DRAIN_SECONDS)


def _end_beside_a_paused_store(
    engine: Engine, url: str, publisher: dict[str, str], process: subprocess.Popen[Any], drain_seconds: int
) -> None:
    stream = Stream(url + "?topic=a")
    stream.first_bytes()
    engine.pause()
    connection = http.client.HTTPConnection(url.split("/")[2], timeout=PATIENCE)
    headers = {**publisher, "Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", HUB_PATH, "topic=a", headers)
    process.send_signal(signal.SIGTERM)
    assert process.wait(drain_seconds + 2) == 0
    connection.close()
    with pytest.raises(EOFError):
        stream.event()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_start_that_hangs_is_ended_by_a_signal(number, start):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(PATIENCE)
        hub = start(options=("--transport", f"redis://127.0.0.1:{silent.getsockname()[1]}"))
        connection, _ = silent.accept()
        with connection:
            assert hub.stop(number) == 0


def test_the_second_signal_ends_the_process_at_once(start):
    hub = start()
    url = hub.url
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=PATIENCE) as client:
        stream = Stream(url + HUB_PATH + "?topic=a")
        stream.first_bytes()
        # A request whose body never comes.
        fields = {**PUBLISHER, "Host": "x", "Content-Type": "application/x-www-form-urlencoded"}
        fields |= {"Content-Length": "7", "Expect": "100-continue"}
        lines = [f"POST {HUB_PATH} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        client.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        assert client.recv(65536).startswith(b"HTTP/1.1 100 ")
        hub.process.send_signal(signal.SIGTERM)
        with pytest.raises(EOFError):
            stream.event()
        begun = time.monotonic()
        assert hub.stop(signal.SIGINT) == 128 + signal.SIGINT
        assert time.monotonic() - begun < DRAIN_SECONDS / 2


def test_the_server_raises_its_limit_of_open_files_and_says_what_that_allows(start, stack):
    reader, writer = os.pipe()
    stack.callback(os.close, reader)
    hub = start('ulimit -S -n 100 && ulimit -H -n 4000 && exec "$0" "$@"', stderr=writer)
    os.close(writer)
    assert re.search(r"Max open files +4000 +4000 ", _limits(hub))
    # What stands before it may come by itself.
    log = ""
    while "LimitNOFILE" not in log:
        part = os.read(reader, 65536).decode()
        assert part, log
        log += part
    assert "ulimit -n" in log
    assert hub.stop() == 0


def _limits(hub: Hub) -> str:
    """Once it serves."""
    assert hub.url
    return Path(f"/proc/{hub.process.pid}/limits").read_text()


EMBEDDED = """
    import os, socket, sys
    from flask_mercure_sse._native import Hub

    hub = Hub(publisher_key="a key of these tests, of at least 32 bytes")

    def ask(request):
        with socket.socket(fileno=hub.connect()) as connection:
            connection.setblocking(True)
            connection.sendall(request)
            return connection.recv(12).decode()

    refused = (
        "POST /.well-known/mercure HTTP/1.0\\r\\nAuthorization: Bearer REFUSED\\r\\n"
        "Content-Type: application/x-www-form-urlencoded\\r\\nContent-Length: 7\\r\\n\\r\\ntopic=a"
    ).replace("REFUSED", os.environ["REFUSED"]).encode()
"""


def embedded(script: str, prefix: str = "", **streams: Any) -> subprocess.CompletedProcess[str]:
    """Runs a program that has a hub inside."""
    program = textwrap.dedent(EMBEDDED) + textwrap.dedent(script)
    environment = {**os.environ, "REFUSED": REFUSED["Authorization"].removeprefix("Bearer ")}
    command = ["sh", "-c", f'exec "$0" "$@" {prefix}', sys.executable, "-W", "ignore", "-c", program]
    return subprocess.run(command, env=environment, timeout=PATIENCE, check=False, text=True, **streams)


def test_an_embedded_hub_whose_log_cannot_be_written_serves_and_stops(broken):
    script = """
        for _ in range(1_000):
            assert ask(refused) == "HTTP/1.1 401" or ask(refused) == "HTTP/1.0 401"
        hub.publish("a", "x")
        hub.stop()
        print("done")
    """
    streams: dict[str, Any] = {"prefix": "2>&-"} if broken is None else {"stderr": broken}
    ran = embedded(script, stdout=subprocess.PIPE, **streams)
    assert (ran.returncode, ran.stdout) == (0, "done\n")


def test_the_last_lines_of_an_embedded_hub_are_written_before_its_process_ends():
    script = "assert ask(refused)[9:] == '401'"
    ran = embedded(script, stderr=subprocess.PIPE)
    assert ran.returncode == 0
    assert ran.stderr.count("a token was refused") == 1


def test_a_forked_process_logs_too_and_waits_for_nobody():
    # The parent's writer waits for a reader, with lines in its buffer, when its process is forked.
    script = """
        for _ in range(1_000):
            assert ask(refused)[9:] == "401"
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.dup2(writer, 2)
            assert ask(refused)[9:] == "401"
            hub.stop()
            sys.exit(0)
        os.close(writer)
        with open(reader) as log:
            lines = log.readlines()
        assert os.waitpid(child, 0)[1] == 0
        print(len([line for line in lines if "a token was refused" in line]))
    """
    reader, writer = os.pipe()
    try:
        ran = embedded(script, stdout=subprocess.PIPE, stderr=writer)
    finally:
        os.close(reader)
        os.close(writer)
    assert (ran.returncode, ran.stdout) == (0, "1\n")


def test_an_embedded_hub_leaves_the_limit_of_open_files_alone_and_room_for_its_application():
    script = """
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 4000))
        streams, status = [], b"200"
        while status == b"200":
            connection = socket.socket(fileno=hub.connect())
            connection.setblocking(True)
            connection.sendall(b"GET /.well-known/mercure?topic=a HTTP/1.0\\r\\n\\r\\n")
            streams.append(connection)
            status = connection.recv(12)[9:]
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (200, 4000)
        assert ask(refused)[9:] == "401"
        files = [open("/dev/null") for _ in range(20)]
        hub.publish("a", "x")
        print(status, len(streams) > 10)
    """
    ran = embedded(script, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert "Traceback" not in ran.stderr
    assert ran.stdout == "b'429' True\n"


def test_the_wsgi_application_starts_where_nobody_reads_what_it_prints(broken, tmp_path):
    command = [sys.executable, "-c", "import flask_mercure_sse.server.wsgi"]
    prefix = ">&-" if broken is None else ""
    streams: dict[str, Any] = {} if broken is None else {"stdout": broken}
    shell = ["sh", "-c", f'exec "$0" "$@" {prefix}', *command]
    ran = subprocess.run(shell, cwd=tmp_path, timeout=PATIENCE, check=False, stderr=subprocess.PIPE, **streams)
    assert (ran.returncode, ran.stderr) == (0, b"")
