"""The cursor of a page: what is published between rendering the page and opening its stream is not lost."""

import socket
import threading
import time

import pytest
from flask import Flask, Response, render_template_string

from flask_mercure_sse import MercureSSE, fresh
from ports import Port


def make(**settings):
    app = Flask("cursors")
    app.config["SECRET_KEY"] = "k" * 32
    return app, MercureSSE(app, **settings)


def answer(*fields, status=200, body=b""):
    head = "".join(f"{field}\r\n" for field in (f"HTTP/1.1 {status} X", *fields, f"Content-Length: {len(body)}"))
    return f"{head}Connection: close\r\n\r\n".encode() + body


def test_an_embedded_hub_in_memory_knows_its_newest_id():
    _, mercure = make(hub=True, hub_transport="memory:")
    assert mercure.last_event_id() == "earliest"
    mercure.publish("a", "1")
    newest = mercure.publish("b", "2")
    assert mercure.last_event_id() == newest


@pytest.mark.parametrize("transport", [None, "durable"])
def test_what_a_process_has_published_is_known_at_once_whatever_the_log(transport, tmp_path):
    url = transport and f"{transport}://{tmp_path}/log"
    _, mercure = make(hub=True, hub_transport=url, hub_subscriptions=False)
    for _ in range(20):
        published = mercure.publish("a", "b")
        assert mercure.last_event_id() == published
    mercure.hub.stop()


def test_a_request_keeps_the_first_id_that_it_reads(app, mercure):
    mercure.publish("a", "b", id="urn:x:1")
    with app.app_context():
        for number in (1, 2):
            with app.test_request_context():
                first = mercure.last_event_id()
                mercure.publish("a", "b", id=f"urn:x:{number + 1}")
                assert (mercure.last_event_id(), first) == (f"urn:x:{number}", f"urn:x:{number}")
                assert mercure.hub_url("a", last_event_id="now").endswith(f"&lastEventID=urn%3Ax%3A{number}")
        assert mercure.last_event_id() == "urn:x:3"


@pytest.mark.parametrize(("protocol", "name"), [("0.x", "lastEventID"), ("1.0", "last_event_id")])
def test_each_dialect_has_its_parameter(protocol, name):
    _, mercure = make(hub_url="https://hub.example/.well-known/mercure", protocol=protocol)
    assert mercure.hub_url("a", last_event_id="é &#").endswith(f"=a&{name}=%C3%A9%20%26%23")
    assert mercure.hub_url("a", last_event_id="earliest").endswith(f"=a&{name}=earliest")
    assert name not in mercure.hub_url("a")


@pytest.mark.parametrize("wrong", ["a\nb", "\0", 7])
def test_what_is_no_id_is_refused(wrong, mercure):
    with pytest.raises(ValueError, match="last_event_id: write the id"):
        mercure.hub_url("a", last_event_id=wrong)


def test_what_is_published_while_a_page_loads_arrives(app, mercure, serve, open_stream, send):
    serving = serve(app)

    @app.get("/page")
    def page():
        cursor = mercure.last_event_id()
        mercure.publish("a", "while the page reads its data")
        url = render_template_string("{{ mercure_hub_url('a', last_event_id=cursor) }}", cursor=cursor)
        mercure.publish("a", "after the page was rendered")
        return Response(url)

    mercure.publish("a", "before")
    stream = open_stream(send("GET", f"{serving}/page").body.decode())
    mercure.publish("a", "live")
    received = [stream.event()["data"] for _ in range(3)]
    assert received == ["while the page reads its data", "after the page was rendered", "live"]


def test_a_late_page_gets_everything_that_is_kept(app, mercure, hub_url, open_stream):
    mercure.publish("job", "50 %")
    mercure.publish("job", "100 %")
    with app.test_request_context(base_url=hub_url.removesuffix("/.well-known/mercure")):
        stream = open_stream(mercure.hub_url("job", last_event_id="earliest"))
    assert [stream.event()["data"] for _ in range(2)] == ["50 %", "100 %"]


def test_the_newer_cursor_of_a_browser_that_comes_back_wins(app, mercure, hub_url, open_stream):
    ids = [mercure.publish("a", str(number)) for number in range(4)]
    with app.test_request_context(base_url=hub_url.removesuffix("/.well-known/mercure")):
        url = mercure.hub_url("a", last_event_id=ids[0])
    stream = open_stream(url, {"Last-Event-ID": ids[2]})
    mercure.publish("a", "live")
    assert [stream.event()["data"] for _ in range(2)] == ["3", "live"]


class TestSetting:
    """MERCURE_LAST_EVENT_ID_IN_URLS"""

    def test_templates_have_the_id_from_before_the_view(self):
        app, mercure = make(hub=True, last_event_id_in_urls=True)

        @app.get("/")
        def page():
            mercure.publish("a", "between", id="urn:x:2")
            urls = "{{ mercure_hub_url('a') }} {{ mercure_authentified_hub_url('a') }} "
            return render_template_string(urls + "{{ mercure_hub_url('a', last_event_id=None) }}")

        mercure.publish("a", "before", id="urn:x:1")
        with_id, with_token, without = app.test_client().get("/").get_data(as_text=True).split(" ")
        assert with_id.endswith("&lastEventID=urn%3Ax%3A1")
        assert with_token.endswith("&lastEventID=urn%3Ax%3A1")
        assert "lastEventID" not in without
        with app.test_request_context():
            assert "lastEventID" not in mercure.hub_url("a"), "in Python, an argument asks for it"

    def test_without_it_they_have_none(self, app, mercure):
        with app.test_request_context():
            assert "lastEventID" not in render_template_string("{{ mercure_hub_url('a') }}")

    def test_a_hub_elsewhere_is_not_asked_for_static_files(self):
        with Port() as port:
            app, mercure = make(hub_url=f"http://{port}/.well-known/mercure", last_event_id_in_urls=True)
            app.test_client().get("/static/nothing.css")
            assert mercure.state.elsewhere._failed_at == float("-inf")
            app.test_client().get("/nothing")
            assert mercure.state.elsewhere._failed_at == float("-inf")


def test_a_hub_that_cannot_start_costs_no_page(tmp_path, caplog):
    (tmp_path / "log").write_text("no directory")
    app, mercure = make(hub=True, hub_transport=f"durable://{tmp_path}/log")
    for _ in range(2):
        with app.test_request_context():
            assert "lastEventID" not in mercure.hub_url("a", last_event_id="now")
    assert len([record for record in caplog.records if "lack the newest event id" in record.message]) == 1


class TestHubElsewhere:
    def test_it_is_asked_without_a_subscription_and_with_few_rights(self, fake_hub, token):
        received = []
        app, mercure = make(hub_url=fake_hub(answer("Mercure-Last-Event-ID: urn:x:1"), received=received))
        with app.test_request_context():
            assert mercure.last_event_id() == "urn:x:1"
        head = received[0].decode()
        assert head.startswith("HEAD /.well-known/mercure?topic=")
        assert "\r\nLast-Event-ID: \r\n" in head
        jwt = next(line for line in head.split("\r\n") if line.startswith("Authorization: Bearer "))[22:]
        (granted,) = token.claims(jwt, "k" * 32)["mercure"]["subscribe"]
        assert granted.startswith("/.well-known/mercure/subscriptions/flask-mercure-sse")

    def test_its_answer_is_used_again_for_a_moment(self, fake_hub, monkeypatch):
        answers = [answer(f"Mercure-Last-Event-ID: urn:x:{number}") for number in range(2)]
        _, mercure = make(hub_url=fake_hub(*answers))
        assert [mercure.last_event_id() for _ in range(3)] == ["urn:x:0"] * 3
        monkeypatch.setattr(fresh, "FRESH_SECONDS", 0)
        assert mercure.last_event_id() == "urn:x:1"

    def test_a_key_that_is_not_the_hubs_does_not_matter_where_everybody_is_let_in(self, fake_hub):
        received = []
        answers = [answer(status=401), answer("Last-Event-ID: urn:x:1"), answer("Last-Event-ID: urn:x:2")]
        _, mercure = make(hub_url=fake_hub(*answers, received=received))
        assert mercure.last_event_id() == "urn:x:1"
        assert [b"Authorization" in each for each in received] == [True, False]
        mercure.state.elsewhere._asked_at = float("-inf")
        assert mercure.last_event_id() == "urn:x:2", "the way that has worked is tried first"

    @pytest.mark.parametrize(
        ("fields", "document"),
        [
            ((), '{"lastEventID": "urn:x:\\"é\\\\", "subscriptions": []}'),
            ((), '{"last_event_id": "urn:x:\\"é\\\\", "subscriptions": []}'),
            (('Link: </x>; rel="mercure"; last-event-id="urn:x:\\"é\\\\"; type="x"',), '{"subscriptions": []}'),
        ],
    )
    def test_the_list_of_subscriptions_says_it_where_a_head_does_not(self, fields, document, fake_hub):
        listed = answer(*fields, body=document.encode())
        _, mercure = make(hub_url=fake_hub(answer(), answer(), listed))
        assert mercure.last_event_id() == 'urn:x:"é\\'

    def test_a_hub_that_takes_a_blank_cursor_for_a_lost_one_is_asked_for_its_list(self, fake_hub):
        document = b'{"last_event_id": "urn:x:1", "subscriptions": []}'
        unknown = answer("Mercure-Last-Event-ID: earliest")
        _, mercure = make(hub_url=fake_hub(unknown, unknown, answer(body=document)))
        assert mercure.last_event_id() == "urn:x:1"

    @pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"lastEventID": 7}', b'{"lastEventID": "a\\nb"}'])
    def test_a_hub_that_says_nothing_useful_is_logged_once_and_left_alone(self, body, fake_hub, caplog):
        received = []
        app, mercure = make(hub_url=fake_hub(*[answer(body=body)] * 3, received=received))
        for _ in range(3):
            with app.test_request_context():
                assert mercure.last_event_id() is None
                assert "lastEventID" not in mercure.hub_url("a", last_event_id="now")
        (record,) = caplog.records
        assert "URLs of pages lack the newest event id" in record.message
        assert len(received) == 3

    def test_a_hub_that_does_not_answer_costs_a_short_time_and_once(self, caplog):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            app, mercure = make(hub_url=f"http://127.0.0.1:{listener.getsockname()[1]}/.well-known/mercure")
            began = time.monotonic()
            for _ in range(10):
                with app.test_request_context():
                    assert "lastEventID" not in mercure.hub_url("a", last_event_id="now")
            assert time.monotonic() - began < 3, "not ten times half a second"
            assert len(caplog.records) == 1
            listener.settimeout(0.1)
            listener.accept()[0].close()
            with pytest.raises(TimeoutError):
                listener.accept()

    def test_it_is_asked_again_later(self, fake_hub, monkeypatch):
        _, mercure = make(hub_url=fake_hub(*[answer()] * 3, answer("Last-Event-ID: urn:x:1")))
        assert mercure.last_event_id() is None
        monkeypatch.setattr(fresh, "PAUSE_SECONDS", 0)
        assert mercure.last_event_id() == "urn:x:1"

    def test_many_threads_ask_once(self, fake_hub):
        received = []
        _, mercure = make(hub_url=fake_hub(*[answer("Last-Event-ID: urn:x:1")] * 9, received=received))
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(mercure.last_event_id())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (answers, len(received)) == (["urn:x:1"] * 8, 1)
