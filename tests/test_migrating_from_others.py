"""The code in the pages about other libraries runs: what stands after "After" does what stood there before."""

import re

import pytest
from jinja2 import DictLoader

from clients import Request
from documents import Document

PAGES = {name: Document(f"how-to/from-{name}") for name in ("flask-sse", "flask-socketio", "django-eventstream")}


@pytest.fixture
def run(serve, token):
    """Runs the code for one library; returns its names and its URL."""

    def start(name):
        names = {"__name__": "moved"}
        (code,) = PAGES[name].blocks("python")
        exec(code, names)
        names["app"].jinja_loader = DictLoader({"room.html": "a room", "greetings.html": "greetings"})
        return names, serve(names["app"])

    return start


def page_url(names, library):
    """The URL of the stream in the page of a library, as the application renders it."""
    snippet = PAGES[library].blocks("html")[0]
    (expression,) = re.findall(r'new EventSource\("(\{\{.*?\}\})"\)', snippet)
    with names["app"].test_request_context():
        rendered = names["app"].jinja_env.from_string(expression).render(user=7, room="lobby")
    return rendered.partition("?")[2]


@pytest.mark.parametrize("page", PAGES.values(), ids=list(PAGES))
def test_every_library_has_code_before_and_after(page):
    before, _, after = page.text.partition("\n## After\n")
    assert "\n## Before\n" in before
    assert "```py\n" in before
    assert "```python\n" in after


def test_flask_sse(run, open_stream):
    names, url = run("flask-sse")
    hub = f"{url}/.well-known/mercure?{page_url(names, 'flask-sse')}"
    client = names["app"].test_client()
    assert client.get("/greetings").status_code == 403
    with client.session_transaction() as session:
        session["user"] = 7
    cookie = client.get("/greetings").headers["Set-Cookie"].partition(";")[0]
    stream = open_stream(hub, {"Cookie": cookie})
    assert stream.opens()
    assert Request("POST", f"{url}/greet/8").status == 200
    assert Request("POST", f"{url}/greet/7").status == 200
    event = stream.event()
    assert (event["event"], event["data"]) == ("greeting", '{"text": "hello"}')


def test_flask_socketio(run, open_stream, capsys, wait_until):
    names, url = run("flask-socketio")
    client = names["app"].test_client()
    assert client.get("/rooms/lobby").status_code == 403
    assert client.post("/rooms/lobby/messages", json={"text": "hello"}).status_code == 403
    with client.session_transaction() as session:
        session.update(user="Ada", rooms=["lobby", "staff"])
    hub = f"{url}/.well-known/mercure?{page_url(names, 'flask-socketio')}"
    stranger = open_stream(hub)
    assert stranger.opens()
    cookie = client.get("/rooms/lobby").headers["Set-Cookie"].partition(";")[0]
    # The page sends before its stream is open.
    assert client.post("/rooms/staff/messages", json={"text": "not here"}).status_code == 204
    assert client.post("/rooms/lobby/messages", json={"text": "hello"}).status_code == 204
    stream = open_stream(hub, {"Cookie": cookie})
    event = stream.event()
    assert (event["event"], event["data"]) == ("message", '{"from": "Ada", "text": "hello"}')
    names["mercure"].publish("/rooms/lobby", "for all")
    assert stranger.event()["data"] == "for all", "nothing private before"
    stream.close()
    wait_until(lambda: "somebody has left /rooms/lobby" in capsys.readouterr().out)


def test_django_eventstream(run, open_stream):
    names, url = run("django-eventstream")
    client = names["app"].test_client()
    assert client.get("/rooms/lobby").status_code == 403
    with client.session_transaction() as session:
        session["user"] = 7
    assert client.get("/rooms/staff").status_code == 403
    cookie = client.get("/rooms/lobby").headers["Set-Cookie"].partition(";")[0]
    stream = open_stream(f"{url}/.well-known/mercure?topic=/rooms/lobby&topic=/rooms/staff", {"Cookie": cookie})
    assert stream.opens()
    assert Request("POST", f"{url}/rooms/staff").status == 204
    assert Request("POST", f"{url}/rooms/lobby").status == 204
    assert stream.event()["data"] == '{"text": "hello"}'
    names["mercure"].publish("/rooms/lobby", "end", private=True)
    assert stream.event()["data"] == "end", "nothing of the other room before"
