"""The errors of an embedded hub that fails: one for each cause, and 507 only for a full log."""

import inspect
import socket
import subprocess
import sys

import pytest
from flask import Flask

from flask_mercure_sse import (
    HubError,
    HubUnreachableError,
    InvalidUpdateError,
    MercureError,
    MercureSSE,
    _native,
    publishing,
)
from flask_mercure_sse.errors import is_away, may_pass

EVENT_SOURCE = {"Accept": "text/event-stream", "Cache-Control": "no-cache", "User-Agent": "Mozilla/5.0 (X11)"}

# The exception of the hub, what the application gets, its status, whether another attempt may succeed.
MEANINGS = {
    "InvalidUpdate": (InvalidUpdateError, None, False),
    "LogUnavailable": (HubError, 503, True),
    "LogFull": (HubError, 507, True),
    "NoRoom": (HubUnreachableError, None, True),
    "HubFailed": (HubError, 500, True),
    "HubStopped": (MercureError, None, False),
}
OTHERS = {
    "what the system refuses": (OSError(24, "Too many open files"), HubUnreachableError, None),
    "a connection": (ConnectionResetError("reset"), HubUnreachableError, None),
    "anything else": (RuntimeError("?"), HubError, 500),
}


def test_every_exception_of_the_compiled_module_has_its_meaning():
    exceptions = [name for name, each in inspect.getmembers(_native, inspect.isclass) if issubclass(each, Exception)]
    assert sorted(exceptions) == sorted(MEANINGS)


class Broken:
    """A hub on which everything fails."""

    def __init__(self, error):
        self.error = error

    def fail(self, **_):
        raise self.error

    publish = submit = connect = start = watch_subscriptions = fail


ERRORS = [
    *((getattr(_native, name)("reason"), kind, status) for name, (kind, status, _) in MEANINGS.items()),
    *OTHERS.values(),
]


@pytest.mark.parametrize(("error", "kind", "status"), ERRORS, ids=[*MEANINGS, *OTHERS])
def test_publishing_and_connecting_raise_what_it_means(error, kind, status, app, mercure, monkeypatch):
    monkeypatch.setattr(type(mercure.state.embedded), "hub", lambda _: Broken(error))
    with pytest.raises(MercureError) as publishing:
        mercure.publish("a", "b")
    assert (type(publishing.value), publishing.value.status) == (kind, status)
    if not isinstance(error, _native.InvalidUpdate):
        with pytest.raises(MercureError) as connecting:
            mercure.state.embedded.connect()
        assert (type(connecting.value), connecting.value.status) == (kind, status)
        assert app.test_client().get("/.well-known/mercure?topic=a").status_code == 503
        browser = app.test_client().get("/.well-known/mercure?topic=a", headers=EVENT_SOURCE)
        assert (browser.status_code, browser.mimetype) == (200, "text/event-stream"), "after a 503 it never comes back"
        retry, comment = browser.text.splitlines()
        assert 5_000 <= int(retry.removeprefix("retry: ")) <= 10_000
        assert comment.startswith(": ")


@pytest.mark.parametrize("name", MEANINGS)
def test_what_may_pass_is_tried_again(name, mercure, monkeypatch):
    monkeypatch.setattr(type(mercure.state.embedded), "hub", lambda _: Broken(getattr(_native, name)("reason")))
    with pytest.raises(MercureError) as raised:
        mercure.publish("a", "b")
    assert may_pass(raised.value) is MEANINGS[name][2]
    assert is_away(raised.value) is (name in ("LogUnavailable", "NoRoom"))


def outcome_of(answer):
    here, there = socket.socketpair()
    with there:
        there.sendall(answer)
    return publishing._outcome(here)


def test_an_outcome_that_was_waited_for_raises_the_same():
    assert outcome_of(b"ok urn:uuid:1") == "urn:uuid:1"
    for name in MEANINGS.keys() - {"InvalidUpdate"}:
        with pytest.raises(getattr(_native, name), match="the reason"):
            outcome_of(f"{name} the reason".encode())
    for nothing in (b"", b"Hub x", b"sign_token x"):
        with pytest.raises(HubError, match="did not say whether the update was published") as raised:
            outcome_of(nothing)
        assert raised.value.status is None


def test_a_hub_that_was_stopped_says_so_everywhere(mercure):
    mercure.publish("a", "b")
    mercure.hub.stop()
    for call in (lambda: mercure.publish("a", "b"), lambda: mercure.subscribe("a"), mercure.get_subscriptions):
        with pytest.raises(MercureError, match="has been stopped") as raised:
            call()
        assert type(raised.value) is MercureError


def test_a_log_that_cannot_be_used_is_a_failure_and_not_full(tmp_path):
    (tmp_path / "file").write_text("no directory")
    app = Flask("durable")
    mercure = MercureSSE(app, hub=True, hub_transport=f"durable://{tmp_path}/file/log")
    with pytest.raises(HubError) as raised:
        mercure.publish("a", "b")
    assert raised.value.status in (500, 503)


SCRIPT = """
import os, resource, sys, threading
from flask import Flask
from flask_mercure_sse import HubUnreachableError, MercureError, MercureSSE

app = Flask("exhausted")
mercure = MercureSSE(app, hub=True)
"""

FILES = (
    SCRIPT
    + """
last = os.open("/dev/null", os.O_RDONLY)
before = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (last + 1, before[1]))
for attempt in range(2):
    try:
        mercure.publish("a", "b")
    except HubUnreachableError as error:
        print(error.status, "raise the limit of open files" in str(error))
resource.setrlimit(resource.RLIMIT_NOFILE, before)
print(mercure.publish("a", "b", id="urn:x:1"))
resource.setrlimit(resource.RLIMIT_NOFILE, (last + 1, before[1]))
try:
    # Appending to a log in memory needs no file; a connection does.
    print(mercure.publish("a", "b", id="urn:x:2"))
    mercure.get_subscriptions()
except HubUnreachableError as error:
    print(error.status)
"""
)


def run(script):
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split("\n")[:-1]


def test_a_process_without_file_descriptors_has_no_room_and_is_well_again():
    assert run(FILES) == ["None True", "None True", "urn:x:1", "urn:x:2", "None"]


THREADS = (
    SCRIPT
    + """
have_begun, go, said = threading.Barrier(7), threading.Event(), []


def publish():
    have_begun.wait()
    go.wait()
    try:
        mercure.publish("a", "b")
        said.append("published")
    except HubUnreachableError as error:
        said.append("raise the limit of open files, of threads or of memory" in str(error))
    except BaseException as error:
        said.append(repr(error))


threads = [threading.Thread(target=publish) for _ in range(6)]
for thread in threads:
    thread.start()
# A thread that begins reserves memory and gives most of it back: what is used is only known after that.
have_begun.wait()
# Less than the stack of another thread takes.
before = resource.getrlimit(resource.RLIMIT_AS)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 1024 * 1024, before[1]))
go.set()
for thread in threads:
    thread.join(60)
resource.setrlimit(resource.RLIMIT_AS, before)
print(any(thread.is_alive() for thread in threads), len(said), said[0], {*said} - {True, "published"} or "")
print(mercure.publish("a", "b", id="urn:x:1"))
"""
)


def test_a_process_without_room_for_threads_tells_all_who_wait_and_is_well_again():
    # The last ones may find what the first have given back.
    assert run(THREADS) == ["False 6 True ", "urn:x:1"]
