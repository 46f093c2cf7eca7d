"""The code in docs/ runs as it stands, page by page, one block after the other, in any mode of the application."""

import json
import re
import subprocess
import sys

import pytest
from apscheduler.events import EVENT_SCHEDULER_STARTED
from jinja2 import DictLoader

from clients import PATIENCE, Request
from documents import Document, calls_at_import, pages, post_all

TEMPLATES = {"_message.html": "<p>{{ message.text }}</p>", "_item.html": "<li>{{ item }}</li>"}


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the code of a page, in an empty folder; returns the names that it makes."""
    monkeypatch.chdir(tmp_path)
    for name in ("SECRET_KEY", "MERCURE_SUBSCRIBER_SECRET_KEY", "MERCURE_PUBLISHER_SECRET_KEY"):
        monkeypatch.setenv(name, "at least 32 random bytes, please")

    def run(name):
        # Debug mode would hide that a page needs a setting in a worker of gunicorn or Celery, or in a script.
        monkeypatch.setenv("FLASK_DEBUG", "0")
        names = {"__name__": "guide"}
        for block in Document(name).blocks("python"):
            if not block.startswith("# test_"):
                exec(block, names)
                if "app" in names:
                    names["app"].jinja_loader = DictLoader(TEMPLATES)
        return names

    return run


@pytest.fixture
def published(mercure_subscriber):
    """What a page has published on topics, a number of updates."""

    def published(names, topics, count):
        return mercure_subscriber(topics, mercure=names["mercure"], last_event_id="earliest").received(count)

    return published


@pytest.mark.parametrize("name", [page.name for page in pages() if page.blocks("python")])
def test_the_code_of_a_page_runs(name, run):
    assert run(name)


PUBLISHES = re.compile(r"(publish|apublish|publish_many|commit)$|\.(turbo|datastar)\.")


@pytest.mark.parametrize("name", [page.name for page in pages() if page.blocks("python")])
def test_no_page_publishes_while_its_module_is_imported(name):
    """Each worker imports it, and each start again."""
    calls = [call for block in Document(name).blocks("python") for call in calls_at_import(block)]
    # The pages on testing are no modules of an application.
    assert name == "how-to/testing" or [call for call in calls if PUBLISHES.search(call)] == []


def test_what_the_examples_publish_arrives(run, published):
    names = run("how-to/publish")
    post_all(names["app"])
    assert names["app"].test_client().put("/books/7").status_code == 204
    first, second, *others = published(names, ["/books/{id}", "/books"], 6)
    assert first.json() == {"title": "Walden"}
    assert (second.id, second.type, second.json()) == ("urn:uuid:my-own", "book", {"title": "Walden"})
    assert [event.data for event in others] == [
        '{"title": "Walden"}',
        "sold out",
        '{"title": "Cape Cod"}',
        '{"title": "Walden"}',
    ]


def test_an_update_is_published_with_its_commit_and_a_new_row_with_its_id(run, published):
    names = run("how-to/sqlalchemy")
    post_all(names["app"])
    events = published(names, ["/books", "/authors/{id}", "/authors"], 3)
    assert [event.json() for event in events] == [{"title": "Walden"}, {"name": "Thoreau"}, {"new": 1}]


def test_changes_of_the_model_of_the_example_are_published(run, published):
    names = run("how-to/models")
    post_all(names["app"])
    events = published(names, "/articles/{id}", 3)
    assert [(event.type, event.json()) for event in events] == [
        ("insert", {"id": 1, "title": "Walking"}),
        ("update", {"id": 1, "title": "Walking, 1862"}),
        ("delete", {"id": 1}),
    ]


def test_the_typed_event_of_the_example_is_published(run, published):
    names = run("how-to/typed-events")
    post_all(names["app"])
    first, second = published(names, "/orders/7", 2)
    assert (first.type, first.json()) == (second.type, second.json()) == ("order-paid", json.loads(second.data))


def test_what_is_published_in_the_background_arrives(run, published):
    names = run("how-to/background")
    assert names["app"].test_client().post("/books").status_code == 202
    assert published(names, "/books", 1)[0].json() == {"title": "Walden"}


def test_an_error_of_the_hub_is_answered(run, monkeypatch):
    names = run("how-to/errors")

    @names["app"].get("/fails")
    def fails():
        names["mercure"].publish("/.well-known/mercure/subscriptions", "reserved")

    answer = names["app"].test_client().get("/fails")
    assert (answer.status_code, answer.json) == (502, {"error": "Saved, but not everybody knows yet."})


def test_jobs_and_commands_of_the_guide_publish(run, mercure_subscriber):
    names = run("how-to/celery")
    reader = mercure_subscriber(["/jobs/{job}", "/clock", "/news"], mercure=names["mercure"])
    names["export"].apply(args=["7"])
    assert [event.json()["percent"] for event in reader.received(5)] == [0, 25, 50, 75, 100]
    # RQ calls the function by its name in a module. This one has none.
    names["queue"].enqueue = lambda function, *arguments: function(*arguments)
    assert names["app"].test_client().post("/reports/8").status_code == 202
    assert reader.received(6)[-1].json() == {"percent": 100}
    scheduler, runner = names["scheduler"], names["app"].test_cli_runner()
    scheduler.get_jobs()[0].func()
    runner.invoke(args=["announce"])
    assert [event.data for event in reader.received(8)[-2:]] == ["a minute has passed", "maintenance at noon"]
    scheduler.add_listener(lambda event: scheduler.shutdown(wait=False), EVENT_SCHEDULER_STARTED)
    assert runner.invoke(args=["schedule"]).exit_code == 0


def test_a_view_of_the_guide_starts_the_task_and_shows_its_page(run):
    names = run("how-to/celery")
    started = []
    names["export"].delay = started.append
    names["app"].jinja_loader = DictLoader({"export.html": Document("how-to/celery").blocks("html")[0]})
    page = names["app"].test_client().post("/exports", follow_redirects=True)
    assert f"%2Fjobs%2F{started[0]}&lastEventID=earliest" in page.text


def test_the_page_of_the_example_misses_nothing(run, serve, open_stream):
    names = run("how-to/lose-nothing")
    page = Request("GET", f"{serve(names['app'])}/books")
    names["mercure"].publish("/books/1", "while the page loads")
    assert open_stream(json.loads(page.body)["hub"]).event()["data"] == "while the page loads"


def test_the_views_of_the_examples_answer(run, mercure_subscriber):
    names = run("how-to/publish")
    reader = mercure_subscriber("/books/5", mercure=names["mercure"])
    published = names["app"].test_client().post("/books/5").json["id"]
    assert reader.received(1)[0].id == published
    assert 'rel="mercure"' in run("how-to/discovery")["app"].test_client().get("/books/5").headers["Link"]


def test_a_private_update_reaches_its_user_until_the_logout(run, serve, open_stream):
    names = run("how-to/private-updates")
    names["app"].jinja_loader = DictLoader({"inbox.html": Document("how-to/private-updates").blocks("html")[0]})
    client = names["app"].test_client()
    assert client.get("/inbox").status_code == 403
    with client.session_transaction() as session:
        session["user"] = 7
    page = client.get("/inbox")
    (query,) = re.findall(r'subscribe\("[^?]*\?(.*?)"\)', page.text)
    cookie = page.headers["Set-Cookie"].partition(";")[0]
    stream = open_stream(f"{serve(names['app'])}/.well-known/mercure?{query}", {"Cookie": cookie})
    assert stream.opens()
    assert client.post("/greet/8").status_code == 204
    assert client.post("/greet/7").status_code == 204
    assert stream.event()["data"] == '{"text": "for you"}'
    assert any("mercureAuthorization=;" in each for each in client.post("/logout").headers.getlist("Set-Cookie"))
    assert client.get("/inbox").status_code == 403


def test_the_cookie_follows_the_login_of_the_example(run):
    client = run("how-to/flask-login")["app"].test_client()
    refused = client.get("/_mercure/token")
    assert refused.status_code == 401
    assert "mercureAuthorization=;" in refused.headers["Set-Cookie"]
    assert any("mercureAuthorization=ey" in each for each in client.post("/login/7").headers.getlist("Set-Cookie"))
    renewed = client.get("/_mercure/token")
    assert (renewed.status_code, renewed.headers["Cache-Control"]) == (204, "no-store")
    assert any("mercureAuthorization=;" in each for each in client.post("/logout").headers.getlist("Set-Cookie"))


def test_the_guard_of_the_example_leaves_the_hub_alone(run):
    client = run("how-to/csrf")["app"].test_client()
    assert client.get("/page").status_code == 302
    assert client.get("/static/a").status_code == 404
    assert client.get("/.well-known/mercure?topic=/a").status_code == 401, "no token: no public update either"
    assert client.post("/.well-known/mercure").status_code == 405, "and no CSRF token is asked for"


def test_members_and_signals_of_the_example(run, serve, open_stream, capsys, wait_until):
    names = run("how-to/presence")
    url = serve(names["app"])
    client, cookie, _ = member_of_the_example(names)
    open_stream(f"{url}/.well-known/mercure?topic=/rooms/lobby", {"Cookie": cookie}).first_bytes()
    wait_until(lambda: "{'user_id': 7} reads /rooms/lobby" in capsys.readouterr().out)
    assert client.get("/rooms/lobby/members").json == [{"user_id": 7}]
    assert client.get("/rooms/staff/members").status_code == client.get("/rooms/staff").status_code == 403


def member_of_the_example(names):
    """A member of the lobby, the cookie for its hub, and its page of the lobby."""
    names["app"].jinja_loader = DictLoader({"room.html": Document("how-to/presence").blocks("html")[0]})
    client = names["app"].test_client()
    with client.session_transaction() as session:
        session.update(user=7, rooms=["lobby"])
    page = client.get("/rooms/lobby")
    return client, page.headers["Set-Cookie"].partition(";")[0], page.text


def test_the_page_of_the_example_hears_who_comes(run, serve, open_stream):
    names = run("how-to/presence")
    url = serve(names["app"])
    _, cookie, page = member_of_the_example(names)
    (query,) = re.findall(r'EventSource\("[^?]*\?(.*?)"\)', page)
    assert "authorization=" not in query
    stream = open_stream(f"{url}/.well-known/mercure?{query}", {"Cookie": cookie})
    event = stream.event()
    assert f'addEventListener("{event["event"]}"' in page
    assert json.loads(event["data"])["active"] is True
    assert json.loads(event["data"])["payload"] == {"user_id": 7}


def test_a_command_of_the_example_receives(run):
    result = run("how-to/receive-in-python")["app"].test_cli_runner().invoke(args=["listen"])
    assert "message Walden" in result.output


def test_a_host_that_the_example_does_not_name_is_refused(run):
    client = run("how-to/hosts")["app"].test_client()
    hub = "/.well-known/mercure/subscriptions"
    assert client.get(hub, base_url="http://a.example.com").status_code != 400
    assert client.get(hub, base_url="http://other.example").status_code == 400


def test_the_tests_of_the_guide_pass(tmp_path):
    (tmp_path / "app.py").write_text(Document("start").blocks("python")[0])
    for name in ("test_books.py", "test_app.py"):
        (tmp_path / name).write_text(Document("how-to/testing").block("python", f"# {name}\n"))
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=2 * PATIENCE, check=False)
    assert ran.returncode == 0, ran.stdout
