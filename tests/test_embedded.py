"""The hub inside a Flask application, over Werkzeug's threaded server."""

import http.client
import os
import socket
import threading
import uuid

import pytest
from flask import Flask, redirect, request, url_for
from flask_wtf import CSRFProtect
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from clients import HUB_PATH, PATIENCE, SECRET
from flask_mercure_sse import InvalidUpdateError, MercureSSE, mercure_publish


def test_an_update_published_anywhere_reaches_a_subscriber(mercure, hub_url, open_stream, subscribe_url):
    stream = open_stream(subscribe_url(hub_url, "topic"))
    assert stream.status == 200
    assert stream.headers["Content-Type"].startswith("text/event-stream")
    assert stream.opens(), "the stream opens before there is an update"
    published = mercure.publish("topic", "message")
    assert stream.event() == {"id": published, "data": "message"}


def test_publish_passes_every_field(mercure, hub_url, open_stream, subscribe_url):
    stream = open_stream(subscribe_url(hub_url, "alternate"))
    assert mercure.publish(["canonical", "alternate"], "a\nb\r\nc", id="urn:1", type="price", retry=1500) == "urn:1"
    assert stream.event() == {"event": "price", "id": "urn:1", "retry": "1500", "data": "a\nb\nc"}


@pytest.mark.parametrize(
    ("data", "received"),
    [
        ("text", "text"),
        (b"bytes \xc3\xa9", "bytes é"),
        ({"price": 7}, '{"price": 7}'),
        ([1, None], "[1, null]"),
        (None, ""),
        ("", ""),
        (uuid.UUID(int=7), '"00000000-0000-0000-0000-000000000007"'),
        ("line\u2028separator\x0band\x0cmore", "line\u2028separator\x0band\x0cmore"),
    ],
)
def test_data_arrives_as_it_was_meant(data, received, mercure, hub_url, open_stream, subscribe_url):
    stream = open_stream(subscribe_url(hub_url, "topic"))
    mercure.publish("topic", data)
    assert stream.event()["data"] == received


@pytest.mark.parametrize("selector", ["/books/1", "/books/{id}", "*"])
def test_selectors_select(selector, mercure, hub_url, open_stream, subscribe_url):
    stream = open_stream(subscribe_url(hub_url, selector))
    mercure.publish("/books/1", "x")
    assert stream.event()["data"] == "x"


def test_private_updates_need_a_token(mercure, hub_url, open_stream, subscribe_url):
    stranger = open_stream(subscribe_url(hub_url, "topic"))
    jwt = mercure.create_subscription_jwt("topic")
    by_query = open_stream(subscribe_url(hub_url, "topic", authorization=jwt))
    by_cookie = open_stream(subscribe_url(hub_url, "topic"), {"Cookie": f"mercureAuthorization={jwt}"})
    by_header = open_stream(subscribe_url(hub_url, "topic"), {"Authorization": f"Bearer {jwt}"})
    mercure.publish("topic", "secret", private=True)
    mercure.publish("topic", "open")
    for stream in (by_query, by_cookie, by_header):
        assert [stream.event()["data"] for _ in range(2)] == ["secret", "open"]
    assert stranger.event()["data"] == "open"


def test_a_reconnection_gets_all_that_it_missed_and_goes_on(mercure, hub_url, open_stream, subscribe_url):
    ids = [mercure.publish("topic", str(number)) for number in range(60)]
    stream = open_stream(subscribe_url(hub_url, "topic"), {"Last-Event-ID": ids[9]})
    assert stream.headers["Last-Event-ID"] == ids[9]
    mercure.publish("topic", "live")
    assert [stream.event()["data"] for _ in range(51)] == [str(number) for number in range(10, 60)] + ["live"]


def test_of_several_cursors_the_newest_counts_and_a_blank_one_is_answered(
    mercure, hub_url, open_stream, send, subscribe_url
):
    ids = [mercure.publish("topic", str(number)) for number in range(3)]
    # HEAD subscribes nobody: a subscription event would be the last in the log.
    for parameters, headers in (
        ({"lastEventID": ""}, {}),
        ({"last_event_id": ""}, {}),
        ({}, {"Last-Event-ID": ""}),
    ):
        head = send("HEAD", subscribe_url(hub_url, "topic", **parameters), headers)
        assert head.headers["Last-Event-ID"] == head.headers["Mercure-Last-Event-ID"] == ids[2]
    stream = open_stream(subscribe_url(hub_url, "topic", lastEventID=ids[0], lastEventId=ids[1]))
    assert stream.headers["Last-Event-ID"] == ids[1]
    assert stream.event() == {"id": ids[2], "data": "2"}


def test_a_stream_opens_with_one_line_and_no_proxy_may_change_it(hub_url, mercure, open_stream, subscribe_url):
    stream = open_stream(subscribe_url(hub_url, "topic"))
    assert {"no-store", "no-transform"} <= {each.strip() for each in stream.headers["Cache-Control"].split(",")}
    assert stream.headers["X-Accel-Buffering"] == "no"
    mercure.publish("topic", "x", id="urn:x:1")
    assert stream.opens()
    lines = [stream.response.readline() for _ in range(3)]
    assert lines == [b"id: urn:x:1\n", b"data: x\n", b"\n"]


def test_a_burst_from_many_threads_arrives_whole(mercure, hub_url, open_stream, subscribe_url):
    streams = [open_stream(subscribe_url(hub_url, "topic")) for _ in range(5)]
    threads = [
        threading.Thread(target=lambda n=n: [mercure.publish("topic", f"{n}-{i}") for i in range(100)])
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everything = {f"{n}-{i}" for n in range(8) for i in range(100)}
    orders = [[stream.event()["data"] for _ in range(800)] for stream in streams]
    assert set(orders[0]) == everything
    assert all(order == orders[0] for order in orders), "everyone sees one order"


def test_a_client_that_leaves_is_noticed_without_a_write(mercure, hub_url, open_stream, subscribe_url, wait_until):
    stream = open_stream(subscribe_url(hub_url, "topic"))
    assert mercure.is_connected("topic")
    stream.close()
    wait_until(lambda: not mercure.is_connected("topic"))


def test_publishing_over_http_is_refused_unless_it_is_allowed(app, mercure, hub_url, send, token, serve):
    form = [("topic", "topic"), ("data", "x")]
    assert send("POST", hub_url, token.bearer(publish=["*"]), form).status == 405
    other = Flask("other")
    other.config["SECRET_KEY"] = app.config["SECRET_KEY"]
    MercureSSE(other, hub=True, hub_allow_publish=True)
    url = serve(other) + "/.well-known/mercure"
    assert send("POST", url, token.bearer(publish=["topic"]), form).status == 200
    assert send("POST", url, token.bearer(publish=["elsewhere"]), form).status == 403
    assert send("POST", url, None, form).status == 401
    assert send("POST", url, token.bearer(publish=["*"]), [("data", "x")]).status == 400
    refused = send("POST", url, token.bearer(publish=["*"]), [("topic", "a"), ("data", "x" * 2_000_000)])
    assert refused.status == 413


def test_a_chunked_body_is_passed_on(app, serve):
    other = Flask("other")
    other.config["SECRET_KEY"] = app.config["SECRET_KEY"]
    mercure = MercureSSE(other, hub=True, hub_allow_publish=True)
    jwt = mercure.create_jwt("publisher_secret_key", publish=["*"])
    connection = http.client.HTTPConnection(serve(other).removeprefix("http://"), timeout=PATIENCE)
    headers = {"Authorization": f"Bearer {jwt}", "Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/.well-known/mercure", iter([b"topic=a", b"&id=7"]), headers, encode_chunked=True)
    response = connection.getresponse()
    assert (response.status, response.read()) == (200, b"7")
    connection.close()


def test_an_early_refusal_arrives_whatever_the_body(mercure, hub_url, send):
    for size in (100, 70_000, 900_000, 3_000_000):
        answer = send("POST", hub_url, None, b"x" * size)
        assert (answer.status, answer.headers["Content-Type"]) == (405, "application/problem+json")
    for _ in range(30):
        assert send("PUT", hub_url, None, b"x" * 200_000).status == 405


def test_encoded_slashes_and_question_marks_of_a_topic_reach_the_hub(mercure, hub_url, open_stream, subscribe_url):
    topic = "a/b?c=é%2F#d"
    open_stream(subscribe_url(hub_url, topic))
    assert [each["topic"] for each in mercure.get_subscriptions(topic)["subscriptions"]] == [topic]


def test_a_server_that_decodes_paths_loses_no_more_than_slashes(app, mercure):
    mercure.publish("topic", "x")
    jwt = mercure.create_subscription_jwt(["*"])
    headers = {"Authorization": f"Bearer {jwt}"}
    answer = app.test_client().get(
        "/.well-known/mercure/subscriptions/%E6%97%A5%3Fa",
        headers=headers,
        environ_overrides={"REQUEST_URI": "", "RAW_URI": ""},
    )
    assert answer.status_code == 200
    assert answer.json["id"] == "/.well-known/mercure/subscriptions/%E6%97%A5%3Fa"


def test_bad_requests_get_the_hubs_explanation(hub_url, send):
    answer = send("GET", hub_url)
    assert answer.status == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert b'send at least one \\"match\\" or' in answer.body
    assert send("GET", hub_url + "?topic=%00").status == 400
    assert send("DELETE", hub_url).status == 405
    assert send("GET", hub_url + "/nonsense").status == 404


def test_head_answers_without_a_body_and_without_a_subscriber(mercure, hub_url, send):
    answer = send("HEAD", hub_url + "?topic=a")
    assert (answer.status, answer.body) == (200, b"")
    assert not mercure.is_connected("a")


def test_streams_do_not_hold_up_the_interpreter_or_each_other(mercure, hub_url, open_stream, subscribe_url):
    streams = [open_stream(subscribe_url(hub_url, f"topic{number}")) for number in range(30)]
    for number, stream in enumerate(streams):
        mercure.publish(f"topic{number}", str(number))
        assert stream.event()["data"] == str(number)


@pytest.mark.parametrize(
    ("kwargs", "explanation"),
    [
        ({"topic": "*"}, "wildcard"),
        ({"topic": "/.well-known/mercure/subscriptions/x"}, "namespace"),
        ({"topic": "a\nb"}, "U\\+000A"),
        ({"topic": []}, "no topic"),
        ({"topic": "a", "id": "x\ndata: forged"}, "U\\+000A"),
        ({"topic": "a", "id": "#1"}, '"id"'),
        ({"topic": "a", "type": "x\revent: forged"}, "U\\+000D"),
        ({"topic": "a", "retry": "soon"}, '"retry"'),
        ({"topic": "a", "retry": -1}, '"retry"'),
        ({"topic": "a", "data": b"\xff"}, "UTF-8"),
        ({"topic": "a", "data": "\ud800"}, "UTF-8"),
        ({"topic": "a", "data": "x" * 1_100_000}, "limit"),
    ],
)
def test_an_invalid_update_is_refused_and_publishes_nothing(
    kwargs, explanation, mercure, hub_url, open_stream, subscribe_url
):
    stream = open_stream(subscribe_url(hub_url, "*"))
    with pytest.raises(InvalidUpdateError, match=explanation):
        mercure.publish(**kwargs)
    mercure.publish("next", "only this")
    assert stream.event()["data"] == "only this"


def test_debug_and_testing_may_be_set_after_the_extension_is_made(serve, open_stream, subscribe_url):
    app = Flask("late")
    mercure = MercureSSE(app)
    assert mercure.hub is None
    app.config["SECRET_KEY"] = "set late, too"
    app.testing = True
    stream = open_stream(subscribe_url(serve(app) + "/.well-known/mercure", "topic"))
    mercure.publish("topic", "x")
    assert stream.event()["data"] == "x"
    assert mercure.is_connected("topic")


def test_an_application_with_another_hub_serves_none(send, serve):
    app = Flask("production")
    MercureSSE(app)
    assert send("GET", serve(app) + "/.well-known/mercure?topic=a").status == 404


def test_two_applications_of_one_extension_have_two_hubs(serve, open_stream, subscribe_url):
    first, second, mercure = Flask("first"), Flask("second"), MercureSSE()
    for app in (first, second):
        app.debug = True
        mercure.init_app(app)
    streams = [open_stream(subscribe_url(serve(app) + "/.well-known/mercure", "topic")) for app in (first, second)]
    for app in (first, second):
        with app.app_context():
            mercure_publish("topic", app.name)
    assert [stream.event()["data"] for stream in streams] == ["first", "second"]


def test_a_child_process_has_a_hub_of_its_own(mercure, hub_url):
    mercure.publish("topic", "the engine of the parent runs")
    reader, writer = socket.socketpair()
    # A child of a threaded process may do little; publishing is what a forked worker does.
    child = os.fork()
    if child == 0:
        os.write(writer.fileno(), mercure.publish("topic", "x", id="of the child").encode())
        os._exit(0)
    with reader, writer:
        reader.settimeout(PATIENCE)
        assert reader.recv(100) == b"of the child"
    assert os.waitpid(child, 0)[1] == 0
    assert mercure.publish("topic", "x", id="of the parent") == "of the parent"


def test_where_no_hub_is_embedded_the_application_has_its_paths_for_itself(send, serve):
    app = Flask("routes")
    mercure = MercureSSE(app)

    @app.get("/<path:path>")
    def anything(path):
        return f"caught {path}"

    url = serve(app) + "/.well-known/mercure"
    for path in ("", "/subscriptions"):
        assert send("GET", url + path).body == f"caught .well-known/mercure{path}".encode()
    assert send("POST", url).status == 405
    app.testing = True
    assert send("GET", url).status == 400, "the hub wants a topic"
    with app.test_request_context():
        for endpoint in ("subscribe", "publish"):
            assert url_for(f"mercure_hub.{endpoint}") == "/.well-known/mercure"
    app.testing = False
    with app.test_request_context():
        assert url_for("mercure_hub.subscribe") == "/.well-known/mercure"
    assert mercure.hub is None


@pytest.mark.parametrize("reads", ["form", "data", "nothing"])
def test_a_form_that_was_read_before_is_published_all_the_same(reads, app, token, mercure_subscriber):
    mercure = MercureSSE(app, hub_allow_publish=True)

    @app.before_request
    def protect():
        if reads == "form":
            assert request.form["topic"] == "a"
        elif reads == "data":
            request.get_data()

    subscriber = mercure_subscriber("a", mercure=mercure)
    sent = app.test_client().post(
        "/.well-known/mercure",
        data={"topic": ["a", "b"], "data": "é & \n"},
        headers=token.bearer(publish=["*"]),
    )
    assert sent.status_code == 200
    assert subscriber.received(1)[0].data == "é & \n"


@pytest.mark.parametrize(("prefix", "is_passed_on"), [("", False), ("/app", True), ("/app", False)])
def test_encoded_slashes_of_topics_survive_a_mount(prefix, is_passed_on, app, mercure, serve, send):
    if is_passed_on:
        app.wsgi_app = DispatcherMiddleware(Flask("root").wsgi_app, {prefix: app.wsgi_app})
    elif prefix:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)
    jwt = mercure.create_subscription_jwt("*")
    headers = {"Authorization": f"Bearer {jwt}", "X-Forwarded-Prefix": prefix}
    path = f"{prefix if is_passed_on else ''}/.well-known/mercure/subscriptions/%2Fx%2F1"
    with mercure.subscribe("/x/1"):
        listed = send("GET", serve(app) + path, headers)
    assert listed.status == 200
    assert b'"topic":"/x/1"' in listed.body


@pytest.mark.parametrize(
    ("server", "remedy"),
    [
        ({"SERVER_SOFTWARE": "gevent/24.1 Python/3.12"}, "monkey.patch_all()"),
        ({"uwsgi.version": b"2.0"}, "--enable-threads"),
    ],
)
def test_further_servers_that_a_stream_would_block_are_refused(server, remedy, app, mercure):
    refused = app.test_client().get(
        "/.well-known/mercure?topic=a", environ_overrides={"wsgi.multithread": False, **server}
    )
    assert refused.status_code == 503
    assert remedy in refused.text


class TestApplicationsThatGuardEveryRequest:
    """What stands in docs/how-to/csrf.md."""

    def test_a_login_that_every_request_wants_exempts_the_hub_by_its_blueprint(self, app, mercure, serve, open_stream):
        @app.before_request
        def want_login():
            if request.blueprint == "mercure_hub":
                return None
            return redirect("/login")

        url = serve(app)
        stream = open_stream(f"{url}{HUB_PATH}?topic=a")
        assert stream.status == 200
        mercure.publish("a", "b")
        assert stream.event()["data"] == "b"
        assert app.test_client().get("/page").status_code == 302

    def test_the_endpoints_are_those_of_the_documentation(self, app, mercure):
        app.config["MERCURE_HUB_ALLOW_PUBLISH"] = True
        seen = []
        app.before_request(lambda: seen.append(request.endpoint))
        client = app.test_client()
        client.options(HUB_PATH)
        client.post(HUB_PATH)
        client.get(HUB_PATH + "/subscriptions")
        client.get("/.well-known/oauth-protected-resource" + HUB_PATH)
        assert seen == [f"mercure_hub.{name}" for name in ("subscribe", "publish", "get_subscriptions", "metadata")]

    @pytest.mark.parametrize("first", ["the extension", "the protection"])
    def test_the_tokens_of_flask_wtf_are_not_asked_for_and_foreign_origins_are_refused(self, first, token):
        app = Flask("guarded")
        app.config.update(SECRET_KEY=SECRET, MERCURE_HUB=True, MERCURE_HUB_ALLOW_PUBLISH=True)
        for make in (MercureSSE, CSRFProtect) if first == "the extension" else (CSRFProtect, MercureSSE):
            make(app)
        app.add_url_rule("/form", view_func=lambda: "", methods=["POST"])
        client, form = app.test_client(use_cookies=False), {"topic": "a", "data": "b"}
        assert client.post("/form").status_code == 400, "the application's own forms are still protected"
        bearer = token.bearer(publish=["*"])
        assert client.post(HUB_PATH, data=form, headers=bearer).status_code == 200
        cookie = {"Cookie": f"mercureAuthorization={bearer['Authorization'].removeprefix('Bearer ')}"}
        own = {**cookie, "Origin": "http://localhost"}
        assert client.post(HUB_PATH, data=form, headers=own).status_code == 200
        for origin in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {}):
            assert client.post(HUB_PATH, data=form, headers={**cookie, **origin}).status_code == 403
        assert client.post("/form").status_code == 400


def test_several_processes_with_a_log_in_memory_each_are_warned_of_once(monkeypatch, caplog):
    from flask_mercure_sse import blueprint

    monkeypatch.setattr(blueprint, "_warned_in", {})
    app = Flask("memory")
    MercureSSE(app, hub=True, hub_transport="memory:")
    for _ in range(2):
        answer = app.test_client().get(HUB_PATH, environ_overrides={"wsgi.multiprocess": True})
        assert answer.status_code == 400
    (line,) = (record.getMessage() for record in caplog.records if "several processes" in record.getMessage())
    assert line.endswith("Remove MERCURE_HUB_TRANSPORT=memory:, and the processes share a log.")


def test_a_refusal_names_the_hub_as_pages_would(app, mercure):
    answer = app.test_client().get(HUB_PATH, base_url="https://example.com")
    assert answer.status_code == 400
    assert answer.headers["Link"] == '<https://example.com/.well-known/mercure>; rel="mercure"'
    strange = app.test_client().get(HUB_PATH, environ_overrides={"wsgi.url_scheme": "gopher"})
    assert (strange.status_code, strange.headers.get("Link")) == (400, None)
