"""Publishing on a hub elsewhere: what is sent, and what each failure is called."""

import contextlib
import json
import os
import re
import socket
import threading
from urllib.parse import parse_qsl

import pytest
from flask import Flask

from flask_mercure_sse import (
    ForbiddenTopicError,
    HubError,
    HubTimeoutError,
    HubUnreachableError,
    InvalidUpdateError,
    MercureError,
    MercureSSE,
    TokenRefusedError,
    settings,
)
from flask_mercure_sse.http import pool
from ports import Port


def answer(status, body=b"", content_type="text/plain"):
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


def make(hub_url, **settings):
    app = Flask("external")
    app.config["SECRET_KEY"] = "k" * 32
    return MercureSSE(app, hub_url=hub_url, **settings)


def test_publish_sends_the_form_with_the_token(fake_hub, token):
    received = []
    mercure = make(fake_hub(answer(200, b"urn:uuid:1"), received=received))
    assert mercure.publish(["a", "b"], {"x": "é"}, private=True, id="i", type="t", retry=5) == "urn:uuid:1"
    head, _, body = received[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /.well-known/mercure HTTP/1.1")
    jwt = next(line for line in head.decode().split("\r\n") if line.startswith("Authorization: Bearer "))[22:]
    assert token.claims(jwt, "k" * 32)["mercure"] == {"publish": ["*"]}
    fields = parse_qsl(body.decode(), keep_blank_values=True)
    data = json.dumps({"x": "é"})
    assert [fields[0], fields[1]] == [("topic", "a"), ("topic", "b")]
    assert json.loads(dict(fields)["data"]) == json.loads(data)
    assert {"private": "on", "id": "i", "type": "t", "retry": "5"}.items() <= dict(fields).items()


def test_the_given_token_and_hub_win_even_over_the_embedded_one(fake_hub, app, mercure):
    received = []
    url = fake_hub(answer(200, b"there"), received=received)
    assert mercure.publish("a", "b", jwt="given.jwt.x", hub_url=url) == "there"
    assert b"Authorization: Bearer given.jwt.x\r\n" in received[0]


PROBLEM = json.dumps({"type": "urn:x", "detail": "the hub's own words"}).encode()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, InvalidUpdateError),
        (401, TokenRefusedError),
        (403, ForbiddenTopicError),
        (413, InvalidUpdateError),
        (404, HubError),
        (500, HubError),
        (503, HubError),
        (302, HubError),
    ],
)
def test_each_status_has_its_error_with_the_hubs_own_words(status, error, fake_hub):
    mercure = make(
        fake_hub(answer(status, PROBLEM, "application/problem+json"), answer(status, b"<html>", "text/html"))
    )
    with pytest.raises(error, match="the hub's own words") as raised:
        mercure.publish("a", "the data")
    assert isinstance(raised.value, MercureError)
    assert "the data" not in str(raised.value)
    with pytest.raises(error, match=f"the hub answered {status}"):
        mercure.publish("a", "b")


@pytest.mark.parametrize(
    ("reply", "request_id"),
    [
        (answer(503, b'{"detail": "x", "instance": "urn:uuid:7"}', "application/problem+json"), "urn:uuid:7"),
        (answer(400, b"x", "text/plain\r\nX-Request-Id: 7"), "7"),
        (answer(400, b'{"detail": "x", "instance": 7}', "application/problem+json\r\nX-Request-Id: 8"), "8"),
        (answer(400, b"x", "text/plain\r\nX-Request-Id: \x1b[0m"), None),
        (answer(400, b"x", "text/plain\r\nX-Request-Id: " + "7" * 201), None),
        (answer(400, b"x"), None),
    ],
)
def test_an_exception_has_the_id_under_which_the_log_of_the_hub_has_the_request(reply, request_id, fake_hub):
    for call in (make(fake_hub(reply)).publish, make(fake_hub(reply)).get_subscriptions):
        with pytest.raises(MercureError) as raised:
            call("a")
        assert raised.value.request_id == request_id
        assert str(raised.value) == (f"x (request {request_id})" if request_id else "x")


@pytest.mark.parametrize("call", ["publish", "get_subscriptions", "subscribe"])
def test_an_answer_that_is_none_of_a_hub_has_an_id_too(call, fake_hub):
    mercure = make(fake_hub(answer(200, b"<html>", "text/html\r\nX-Request-Id: 7")))
    with pytest.raises(HubError, match=r"MERCURE_HUB_URL right\? \(request 7\)$") as raised:
        getattr(mercure, call)("a")
    assert (raised.value.status, raised.value.request_id) == (200, "7")


def test_every_refusal_of_the_hub_has_an_id(hub_url):
    with pytest.raises(HubError, match=r" \(request urn:uuid:[0-9a-f-]{36}\)$") as raised:
        make(hub_url).publish("a")
    assert raised.value.status == 405
    assert str(raised.value).endswith(f"(request {raised.value.request_id})")


@pytest.mark.parametrize("call", ["publish", "get_subscriptions", "subscribe"])
def test_a_refused_token_that_has_expired_is_called_so(call, fake_hub, token, monkeypatch):
    old = token.sign({"mercure": {"publish": ["*"]}, "exp": 1709208000}, "k" * 32)
    mercure = make(fake_hub(answer(401, b"refused")), publisher_jwt=old)
    monkeypatch.setattr(mercure.state.authorization, "sign", lambda *_: old)
    with pytest.raises(TokenRefusedError, match=r"^the token has expired at 2024-02-29T12:00:00\+00:00: refused$"):
        getattr(mercure, call)("a")


@pytest.mark.parametrize(
    ("typ", "claims", "cause"),
    [
        (
            "JWT",
            {"mercure": {"publish": ["*"]}},
            "the key is not the hub's, or the hub takes no tokens of protocol 0.x",
        ),
        ("JWT", {"mercure": {"publish": ["*"]}, "exp": 10**11}, "the key is not the hub's, or the hub takes no"),
        ("at+jwt", {"mercure": {}}, "the token has the claim of protocol 0.x, and the typ of 1.0 (at+jwt)"),
        ("at+jwt", {"authorization_details": []}, "the key, the issuer or the audience is not the hub's ("),
        ("JWT", {"authorization_details": []}, "the token has the claims of protocol 1.0, and its typ is not at+jwt"),
        ("JWT", {"exp": "soon"}, "the token has neither the claim of protocol 0.x"),
        ("JWT", {"exp": 10**30}, "the token has neither the claim of protocol 0.x"),
    ],
)
def test_a_refused_token_that_has_not_expired_has_its_likely_cause_named(typ, claims, cause, fake_hub, token):
    jwt = token.sign(claims, "k" * 32, {"alg": "HS256", "typ": typ})
    with pytest.raises(TokenRefusedError) as raised:
        make(fake_hub(answer(401, b"refused")), publisher_jwt=jwt).publish("a")
    assert str(raised.value).startswith(cause)
    assert str(raised.value).endswith(": refused")
    assert "expired" not in str(raised.value)


@pytest.mark.parametrize("jwt", ["x", "x.y", "W10.W10.x", "e30.W10", "..", "a.b.c"])
def test_a_refused_text_that_is_no_jwt_says_that_it_grants_nothing(jwt, fake_hub):
    with pytest.raises(TokenRefusedError, match=r"^the token has neither the claim of .*: refused$"):
        make(fake_hub(answer(401, b"refused")), publisher_jwt=jwt).publish("a")


REMEDY = (
    "no setting names a hub, so the one at {} is used: set MERCURE_HUB = True for the embedded hub, or MERCURE_HUB_URL"
)


def test_without_a_setting_the_error_says_how_to_name_a_hub(monkeypatch):
    with Port() as port:
        monkeypatch.setattr(settings, "STANDALONE_HUB_URL", f"http://{port}/.well-known/mercure")
        remedy = re.escape(f" ({REMEDY.format(port)})")
        with pytest.raises(MercureError, match=f"needs a token: set .*SECRET_KEY{remedy}$"):
            MercureSSE(Flask("new")).publish("a", "b")
        mercure = make(None)
        with pytest.raises(HubUnreachableError, match=rf"is MERCURE_HUB_URL right\?{remedy}$"):
            mercure.publish("a", "b")
        # The argument names one.
        with pytest.raises(HubUnreachableError, match=r"is MERCURE_HUB_URL right\?$"):
            mercure.publish("a", "b", hub_url=f"http://{port}/.well-known/mercure")


def test_with_a_setting_the_error_does_not_say_how_to_name_a_hub():
    with pytest.raises(MercureError, match=r"needs a token: set .*SECRET_KEY$"):
        MercureSSE(Flask("new"), hub_url="http://localhost/.well-known/mercure").publish("a", "b")


def test_a_hub_that_is_not_there_fails_fast_and_says_where():
    with Port() as port:
        mercure = make(f"http://{port}/.well-known/mercure")
        with pytest.raises(HubUnreachableError, match=f"{port}.*is the hub running"):
            mercure.publish("a", "b")


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", "may or may not have done"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "may or may not have done"),
        (b"no HTTP at all\r\n\r\n", "may or may not have done"),
        (b"HTTP/1.1 200 OK\r\nConte", "holds no id"),
        (answer(200), "holds no id"),
        (answer(200, b"<html>welcome</html>", "text/html"), "holds no id"),
        (answer(200, b"\xff"), "holds no id"),
        (answer(204), "holds no id"),
    ],
)
def test_an_answer_that_confirms_nothing_is_an_error(sent, said, fake_hub):
    with pytest.raises(HubError, match=said):
        make(fake_hub(sent)).publish("a", "b")


@pytest.mark.parametrize("body", [b"<html>", b"\xff", b"[1]", b'{"subscriptions": null}', b'{"subscriptions": [1]}'])
def test_an_answer_that_is_no_subscription_document_is_an_error(body, fake_hub):
    with pytest.raises(HubError, match="no subscription document"):
        make(fake_hub(answer(200, body))).is_connected("a")


def test_an_answer_that_drips_ends_with_the_time():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def drip():
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                while True:
                    connection.sendall(b"x")
                    gone.wait(0.01)

        gone = threading.Event()
        thread = threading.Thread(target=drip)
        thread.start()
        with pytest.raises(HubTimeoutError):
            make(f"http://127.0.0.1:{port}/.well-known/mercure", read_timeout=0.2).publish("a", "b")
        thread.join()


@pytest.mark.parametrize(
    "url",
    [
        "localhost:3000",
        "http://h:abc/x",
        "http://h:99999/x",
        "http://[::1",
        "ftp://h/x",
        "http://u:p@h/x",
        "http://h/x?y",
        "http://h/x#y",
        "http://a b/",
    ],
)
def test_a_hub_url_that_is_none_is_refused_and_not_repeated(url):
    with pytest.raises(ValueError, match="hub_url: write the hub's URL") as raised:
        make(None).publish("a", "b", hub_url=url)
    assert "u:p" not in str(raised.value)


def test_the_token_never_goes_to_a_host_that_the_client_names(fake_hub):
    received = []
    evil = fake_hub(answer(200, b"id"), received=received)
    mercure = make(True)
    with mercure.app.test_request_context(base_url=evil.removesuffix("/.well-known/mercure")):
        assert mercure.hub_base_url() == evil
        assert mercure.hub_base_url(public=False) == "http://localhost:5500/.well-known/mercure"
        with pytest.raises(HubUnreachableError, match="localhost:5500"):
            mercure.publish("a", "b")
    assert received == []


def test_a_hub_that_never_answers_times_out():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(HubTimeoutError, match=r"within 0\.05 s"):
            make(f"http://127.0.0.1:{port}/.well-known/mercure", read_timeout=0.05).publish("a", "b")


def test_without_a_key_publishing_says_what_to_set():
    with pytest.raises(MercureError, match="MERCURE_PUBLISHER_JWT"):
        MercureSSE(Flask("none")).publish("a", "b")


def test_connections_are_kept_and_a_closed_one_is_replaced(standalone):
    secrets = ["--publisher-secret", "k" * 32, "--subscriber-secret", "k" * 32]
    first = standalone(*secrets)
    mercure = make(first.hub)
    for number in range(20):
        assert mercure.publish("a", "b", id=str(number)) == str(number)
    kept = [each for idle in pool._idle.connections.values() for _, each in idle if f":{each.port}/" in first.hub]
    assert len(kept) == 1
    assert first.stop() == 0
    with pytest.raises(HubUnreachableError):
        mercure.publish("a", "b")


def test_more_connections_than_are_kept_are_closed(standalone):
    hub = standalone("--publisher-secret", "k" * 32, "--subscriber-secret", "k" * 32)
    mercure = make(hub.hub)
    threads = [threading.Thread(target=mercure.publish, args=("a", "b")) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(len(kept) for key, kept in pool._idle.connections.items() if key[1] in hub.hub) <= 8


SECRET_TOKEN = "secret-header.secret-claims.secret-signature"


@pytest.mark.parametrize("jwt", [f"{SECRET_TOKEN} x", f"{SECRET_TOKEN}\nX-Header: x", f"{SECRET_TOKEN}é", b"secret"])
def test_a_token_that_is_none_is_refused_before_it_is_sent_and_not_repeated(jwt, fake_hub):
    received = []
    for background in (False, True):
        mercure = make(fake_hub(b"", received=received), publish_background=background)
        for call in (mercure.publish, mercure.subscribe):
            with pytest.raises(TokenRefusedError, match="jwt: write a token") as raised:
                call("a", jwt=jwt)
            assert "secret" not in str(raised.value)
    assert received == []


def test_the_line_end_of_a_tokens_file_is_no_part_of_it(fake_hub):
    received = []
    mercure = make(fake_hub(answer(200, b"urn:x:1"), received=received), publisher_jwt=f"{SECRET_TOKEN}\n")
    assert mercure.publish("a", "b") == "urn:x:1"
    assert f"Authorization: Bearer {SECRET_TOKEN}\r\n".encode() in received[0]


def test_a_token_that_the_hub_quotes_is_not_repeated(fake_hub):
    quoting = answer(401, f"bad header: Bearer {SECRET_TOKEN}".encode(), content_type="text/plain")
    problem = answer(401, json.dumps({"detail": SECRET_TOKEN}).encode(), content_type="application/problem+json")
    for reply in (quoting, problem):
        for call in (make(fake_hub(reply)).publish, make(fake_hub(reply)).subscribe):
            with pytest.raises(TokenRefusedError, match=r"\[token\]") as raised:
                call("a", jwt=SECRET_TOKEN)
            assert "secret" not in str(raised.value)


def test_an_answer_whose_head_trickles_is_given_up_in_time(stack):
    listener = socket.create_server(("127.0.0.1", 0))
    stack.callback(listener.close)
    done = threading.Event()
    stack.callback(done.set)

    def trickle():
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            with contextlib.suppress(OSError):
                # A byte at a time, each well within the time, without end.
                while not done.wait(0.05):
                    connection.sendall(b"H")

    threading.Thread(target=trickle, daemon=True).start()
    mercure = make(f"http://127.0.0.1:{listener.getsockname()[1]}/x", read_timeout=0.4)
    with pytest.raises(HubTimeoutError):
        mercure.publish("a", "b")


def test_a_hub_that_has_moved_is_named(fake_hub):
    moved = b"HTTP/1.1 308 X\r\nLocation: https://hub.example/x?token=y\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises(HubError, match=r"answered 308: MERCURE_HUB_URL is https://hub\.example/x now") as raised:
        make(fake_hub(moved)).publish("a", "b")
    assert raised.value.status == 308


def test_connections_to_hubs_that_are_gone_are_not_kept(fake_hub, monkeypatch):
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0)
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1"
    for _ in range(5):
        make(fake_hub(reply)).publish("a", "b")
    assert len(pool._idle.connections) == 1


def test_a_forked_process_has_no_connection_of_its_parent(mercure_hub):
    mercure_hub.publish("a", "b")
    assert pool._idle.connections
    with pool._idle.lock:
        process = os.fork()
        if process == 0:
            # The lock that the parent holds is not the child's.
            os._exit(0 if mercure_hub._mercure.publish("a", "c") and len(pool._idle.connections) == 1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
