"""The code in docs/flask.md runs as it stands, one block after the other, in an application in debug mode."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from clients import PATIENCE, Request

GUIDE = Path(__file__).parent.parent / "docs" / "flask.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def block(part):
    (found,) = (block for block in BLOCKS if part in block)
    return found


@pytest.fixture
def guide(monkeypatch):
    """The names that the first block makes, with the embedded hub on."""
    monkeypatch.setenv("FLASK_DEBUG", "1")
    monkeypatch.setenv("SECRET_KEY", "at least 32 random bytes, please")
    names = {"__name__": "guide"}
    exec(BLOCKS[0], names)
    return names


def test_all_blocks_run(guide, capsys):
    for each in BLOCKS[1:]:
        if not each.startswith("# test_"):
            exec(each, guide)
    assert "message Walden" in capsys.readouterr().out


def test_jobs_and_commands_of_the_guide_publish(guide, mercure_subscriber):
    for part in ("from celery import", "BackgroundScheduler"):
        exec(block(part), guide)
    reader = mercure_subscriber(["/jobs/{job}", "/clock", "/news"], mercure=guide["mercure"])
    guide["export"].apply(args=["7"])
    assert [event.json()["percent"] for event in reader.received(5)] == [0, 25, 50, 75, 100]
    # RQ calls the function by its name in a module. This one has none.
    guide["queue"].enqueue = lambda function, *arguments: function(*arguments)
    assert guide["app"].test_client().post("/exports/8").status_code == 202
    assert reader.received(10)[-1].json() == {"percent": 100}
    guide["scheduler"].get_jobs()[0].func()
    guide["app"].test_cli_runner().invoke(args=["announce"])
    assert [event.data for event in reader.received(12)[-2:]] == ["a minute has passed", "maintenance at noon"]


def test_what_the_examples_publish_arrives(guide, mercure_subscriber):
    reader = mercure_subscriber(["/books/{id}", "/books"], mercure=guide["mercure"])
    for part in ("urn:uuid:my-own", "class Book", "publish_many", "create table books"):
        exec(block(part), guide)
    first, *others = reader.received(6)
    assert (first.id, first.type, first.json()) == ("urn:uuid:my-own", "book", {"title": "Walden"})
    assert [event.data for event in others] == [
        '{"title": "Walden"}',
        '{"title": "Walden"}',
        "sold out",
        '{"title": "Cape Cod"}',
        '{"title": "Walden"}',
    ]


def test_the_row_of_the_example_is_published_with_its_id(guide, mercure_subscriber):
    reader = mercure_subscriber(["/authors/{id}", "/authors"], mercure=guide["mercure"])
    exec(block("create table books"), guide)
    exec(block("class Author"), guide)
    assert [event.json() for event in reader.received(2)] == [{"name": "Thoreau"}, {"new": 1}]


def test_the_typed_event_of_the_example_is_published(guide, mercure_subscriber):
    reader = mercure_subscriber("/orders/7", mercure=guide["mercure"])
    exec(block("class OrderPaid"), guide)
    first, second = reader.received(2)
    assert (first.type, first.json()) == (second.type, second.json()) == ("order-paid", json.loads(second.data))


def test_changes_of_the_model_of_the_example_are_published(guide, mercure_subscriber):
    reader = mercure_subscriber("/articles/{id}", mercure=guide["mercure"])
    for part in ("create table books", "class Author", "class Article"):
        exec(block(part), guide)
    assert [(event.type, event.json()) for event in reader.received(3)] == [
        ("insert", {"id": 1, "title": "Walking"}),
        ("update", {"id": 1, "title": "Walking, 1862"}),
        ("delete", {"id": 1}),
    ]


def test_the_page_of_the_example_misses_nothing(guide, serve, open_stream):
    exec(block("def books()"), guide)
    url = serve(guide["app"])
    page = Request("GET", f"{url}/books")
    guide["mercure"].publish("/books/1", "while the page loads")
    assert open_stream(json.loads(page.body)["hub"]).event()["data"] == "while the page loads"


def test_the_views_of_the_examples_answer(guide, mercure_subscriber):
    for part in ("class Book", "async def change", "def inbox", "def book(id)", "hub_failed"):
        exec(block(part), guide)
    client, reader = guide["app"].test_client(), mercure_subscriber("/books/5", mercure=guide["mercure"])
    published = client.post("/books/5").json["id"]
    assert reader.received(1)[0].id == published
    assert "mercureAuthorization=ey" in client.get("/inbox/7").headers["Set-Cookie"]
    assert "mercureAuthorization=;" in client.post("/logout").headers["Set-Cookie"]
    assert 'rel="mercure"' in client.get("/books/5").headers["Link"]


def test_the_cookie_of_the_example_is_that_of_whoever_is_logged_in(guide):
    for part in ("mercure.user_topics", "def want_login"):
        exec(block(part), guide)
    client = guide["app"].test_client()
    refused = client.get("/_mercure/token")
    assert refused.status_code == 401, "the script looks for it, and a redirection would hide it"
    assert "mercureAuthorization=;" in refused.headers["Set-Cookie"]
    assert client.get("/static/a").status_code == 404
    with client.session_transaction() as session:
        session["user"] = 7
    renewed = client.get("/_mercure/token")
    assert (renewed.status_code, renewed.headers["Cache-Control"]) == (204, "no-store")
    assert "mercureAuthorization=ey" in renewed.headers["Set-Cookie"]
    assert client.get("/.well-known/mercure").status_code == 400, "the guard leaves the hub alone"


def test_the_signal_of_the_example_is_sent(guide, mercure_subscriber, serve, open_stream, capsys, wait_until):
    exec(block("subscriber_connected"), guide)
    open_stream(serve(guide["app"]) + "/.well-known/mercure?topic=/books/1")
    wait_until(lambda: "None reads /books/1" in capsys.readouterr().out)


def test_the_test_of_the_guide_passes(tmp_path):
    imports = "from flask import Flask\nfrom flask_mercure_sse import MercureSSE\n"
    (tmp_path / "test_books.py").write_text(imports + block("test_a_new_title_is_announced"))
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=2 * PATIENCE, check=False)
    assert ran.returncode == 0, ran.stdout
