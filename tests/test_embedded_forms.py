"""Publishing on the embedded hub over HTTP: the hub gets the bytes of the request, and refuses what petasos refuses."""

import io
import json
import socket
from urllib.parse import urlencode, urlsplit

import pytest
from flask import Flask, request, request_started

from clients import HUB_PATH, PATIENCE, SECRET
from flask_mercure_sse import MercureSSE

FORM = "application/x-www-form-urlencoded"
CHUNKED = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": ""}


@pytest.fixture
def app():
    app = Flask("forms")
    app.config.update(SECRET_KEY=SECRET, MERCURE_HUB=True, MERCURE_HUB_ALLOW_PUBLISH=True)
    return app


@pytest.fixture
def mercure(app):
    return MercureSSE(app)


def multipart(*parts):
    """A body and its type; a part is a name, a value and perhaps a file name."""
    lines = []
    for name, value, *file in parts:
        disposition = f'Content-Disposition: form-data; name="{name}"' + (f'; filename="{file[0]}"' if file else "")
        lines += [b"--x", disposition.encode(), b"", value.encode()]
    return b"\r\n".join([*lines, b"--x--", b""]), "multipart/form-data; boundary=x"


REFUSED_OR_NOT = {
    "a form": (b"topic=a&data=x&private=", FORM),
    "in capitals, with a charset": (b"topic=a&private", "Application/X-WWW-Form-URLEncoded; charset=utf-8"),
    "no fields": (b"", FORM),
    "no topic": (b"data=x", FORM),
    "no UTF-8": (b"topic=a&data=%ff", FORM),
    "raw bytes that are no UTF-8": (b"topic=a&data=\xff", FORM),
    "no UTF-8 in a field that nobody knows": (b"topic=a&%ff=1", FORM),
    "fields repeated": (b"topic=a&topic=b&data=x&data=y&id=1&id=2", FORM),
    "a thousand fields": (b"topic=a&" + b"x&" * 1000, FORM),
    "multipart": multipart(("topic", "a"), ("data", "x"), ("private", "on")),
    "multipart with a file": multipart(("topic", "a"), ("data", "x"), ("private", "on", "p.txt")),
    "multipart that says it is a form": (multipart(("topic", "a"), ("private", "on"))[0], FORM),
    "two types": (b"topic=a", f"{FORM}, multipart/form-data; boundary=x"),
    "JSON": (b'{"topic": "a", "private": true}', "application/json"),
    "text": (b"topic=a", "text/plain"),
    "no type": (b"topic=a", None),
}


READS = {
    "nothing": lambda: None,
    "form": lambda: request.form.get("csrf_token"),
    "files": lambda: request.files.get("x"),
    "values": lambda: request.values.get("x"),
    "data": lambda: request.get_data(),
    "json": lambda: request.get_json(silent=True),
}
"""The code of the application that runs before the hub."""


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize(("body", "content_type"), REFUSED_OR_NOT.values(), ids=REFUSED_OR_NOT)
def test_the_answer_is_that_of_the_hub_on_its_own(body, content_type, read, app, mercure, mercure_hub, token, send):
    app.before_request(lambda: (read(), None)[1])
    headers = {} if content_type is None else {"Content-Type": content_type}
    alone = send("POST", mercure_hub.url, {**headers, **token.bearer(publish=["*"], key=KEY)}, body)
    here = app.test_client().post(HUB_PATH, data=body, headers={**headers, **token.bearer(publish=["*"])})
    assert here.status_code == alone.status
    assert here.headers["Content-Type"] == alone.headers["Content-Type"]
    if alone.status != 200:
        problems = [json.loads(each) for each in (here.data, alone.body)]
        # Each request has an id of its own.
        assert len({problem.pop("instance") for problem in problems}) == 2
        assert problems[0] == problems[1]


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("environ", [{}, CHUNKED], ids=["announced", "not"])
def test_a_body_that_is_too_long_is_refused_however_it_comes(environ, read, app, mercure, token):
    app.before_request(lambda: (read(), None)[1])
    long = b"topic=a&data=" + b"x" * 1024 * 1024
    headers = {"Content-Type": FORM, **token.bearer(publish=["*"])}
    refused = app.test_client().post(HUB_PATH, data=long, headers=headers, environ_overrides=environ)
    assert (refused.status_code, refused.content_type) == (413, "application/problem+json")


KEY = "the secret key of hubs in tests, which is known to all"


class Slow(io.RawIOBase):
    """A stream that gives as little at once as it may."""

    def __init__(self, body):
        self.body = io.BytesIO(body)

    def readable(self):
        return True

    def readinto(self, buffer):
        part = self.body.read(1)
        buffer[: len(part)] = part
        return len(part)


class SlowReads:
    """The same without ``readinto``, which WSGI does not ask for."""

    def __init__(self, body):
        self.body = io.BytesIO(body)

    def read(self, size=-1):
        return self.body.read(1 if size > 0 else size)


class Breaks(Slow):
    def readinto(self, buffer):
        read = super().readinto(buffer)
        if not read:
            raise OSError("the chunk has no end")
        return read


class BreaksOnce(SlowReads):
    """A cut body as gunicorn gives it: an error first, and to further reads the part that there is."""

    has_broken = False

    def read(self, size=-1):
        if not self.has_broken:
            self.has_broken = True
            raise OSError("no more data")
        return super().read(size)


def post(app, stream, content_type=FORM, token=None, **environ):
    return app.test_client().post(
        HUB_PATH,
        headers=token.bearer(publish=["*"]),
        environ_overrides={"wsgi.input": stream, "CONTENT_TYPE": content_type, **environ},
    )


PRIVATE = urlencode([("topic", "a"), ("data", "hidden"), ("private", "on")]).encode()
ANNOUNCED = {"CONTENT_LENGTH": str(len(PRIVATE))}


@pytest.fixture
def public_only(mercure, mercure_subscriber):
    """Ends the test by seeing that an anonymous subscriber has got nothing but what came after it."""
    stranger = mercure_subscriber(["a", "end"], mercure=mercure, jwt=mercure.create_subscription_jwt("nothing"))
    yield
    mercure.publish("end", "")
    assert [event.data for event in stranger.received(1)] == [""]


@pytest.mark.parametrize("limit", [None, 10_000])
@pytest.mark.parametrize("environ", [CHUNKED, ANNOUNCED, {**ANNOUNCED, "wsgi.input_terminated": True}])
@pytest.mark.parametrize("stream", [Slow, SlowReads])
def test_a_body_that_comes_byte_by_byte_is_whole(stream, environ, limit, app, mercure, token, public_only):
    app.config["MAX_CONTENT_LENGTH"] = limit
    with mercure.subscribe("a") as events:
        assert post(app, stream(PRIVATE), token=token, **environ).status_code == 200
        assert next(events).data == "hidden"


@pytest.mark.parametrize(
    ("stream", "environ"),
    [
        (io.BytesIO(PRIVATE[:-11]), ANNOUNCED),
        (io.BytesIO(PRIVATE[:-11]), {**ANNOUNCED, "wsgi.input_terminated": True}),
        (io.BytesIO(PRIVATE + b"&data=more"), {**ANNOUNCED, "wsgi.input_terminated": True}),
        (io.BytesIO(), ANNOUNCED),
        (Breaks(PRIVATE[:-11]), CHUNKED),
        (BreaksOnce(PRIVATE[:-11]), CHUNKED),
        (Breaks(PRIVATE[:-11]), ANNOUNCED),
    ],
    ids=[
        "cut",
        "cut, as the server says whole",
        "too long",
        "nothing",
        "a chunk is cut",
        "gunicorn",
        "the connection breaks",
    ],
)
def test_a_body_that_has_not_come_whole_is_refused(stream, environ, app, mercure, token, public_only):
    assert post(app, stream, token=token, **environ).status_code == 400


def test_a_chunked_body_of_a_server_that_does_not_end_it_needs_a_length(app, mercure, token, public_only):
    refused = post(app, io.BytesIO(PRIVATE), token=token, **{**CHUNKED, "wsgi.input_terminated": False})
    assert refused.status_code == 411
    assert "send the body with a Content-Length" in refused.json["detail"]


@pytest.mark.parametrize("reads", [5, 19, None], ids=["a part", "all but private", "all"])
def test_a_body_that_a_middleware_has_read_is_refused_with_the_reason(reads, app, mercure, token, public_only):
    inner = app.wsgi_app

    def middleware(environ, start_response):
        environ["wsgi.input"].read(*([] if reads is None else [reads]))
        return inner(environ, start_response)

    app.wsgi_app = middleware
    refused = post(app, io.BytesIO(PRIVATE), token=token, **{**ANNOUNCED, "wsgi.input_terminated": True})
    assert (refused.status_code, refused.content_type) == (400, "application/problem+json")
    assert "a WSGI middleware" in refused.json["detail"]


def test_a_middleware_that_puts_the_body_back_is_no_obstacle(app, mercure, token, public_only):
    inner = app.wsgi_app

    def middleware(environ, start_response):
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read())
        return inner(environ, start_response)

    app.wsgi_app = middleware
    assert post(app, io.BytesIO(PRIVATE), token=token, **ANNOUNCED).status_code == 200


@pytest.mark.parametrize("environ", [CHUNKED, ANNOUNCED], ids=["chunked", "announced"])
def test_a_form_that_was_parsed_before_the_extension_could_is_refused(environ, app, token):
    def read(app, **extra):
        assert request.form["private"] == "on"

    # Before the extension's own.
    request_started.connect(read, app)
    MercureSSE(app)
    refused = post(app, io.BytesIO(PRIVATE), token=token, **environ)
    assert refused.status_code == 400
    assert "has read it before" in refused.json["detail"]


@pytest.mark.parametrize("environ", [CHUNKED, ANNOUNCED], ids=["chunked", "announced"])
def test_the_application_finds_its_form_all_the_same(environ, app, mercure, token, public_only):
    seen = []

    @app.before_request
    def protect():
        seen.append((request.form["data"], request.form["private"]))

    assert post(app, Slow(PRIVATE), token=token, **environ).status_code == 200
    assert seen == [("hidden", "on")]


def test_bodies_of_the_applications_own_views_are_not_touched(app, mercure):
    @app.post("/upload")
    def upload():
        return request.stream.read()

    @app.post(HUB_PATH + "-not")
    def beside():
        return request.stream.read()

    client = app.test_client()
    assert client.post("/upload", data=b"x" * 10).data == b"x" * 10
    assert client.post(HUB_PATH + "-not", data=b"x" * 10).data == b"x" * 10
    assert client.post("/nowhere", data=b"x").status_code == 404


def test_a_client_that_ends_in_the_middle_of_its_form_publishes_nothing(app, mercure, token, serve, public_only):
    address = urlsplit(serve(app))
    authorization = token.bearer(publish=["*"])["Authorization"]
    for framing, body in (
        (f"Content-Length: {len(PRIVATE)}", PRIVATE[:-11]),
        ("Transfer-Encoding: chunked", b"%x\r\n%s" % (len(PRIVATE), PRIVATE[:-11])),
        ("Transfer-Encoding: chunked", b"%x\r\n%s\r\n" % (len(PRIVATE) - 11, PRIVATE[:-11])),
    ):
        head = f"POST {HUB_PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\nContent-Type: {FORM}\r\n"
        with socket.create_connection((address.hostname, address.port), PATIENCE) as connection:
            connection.sendall(f"{head}{framing}\r\n\r\n".encode() + body)
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as answer:
                assert b" 400 " in answer.readline()
