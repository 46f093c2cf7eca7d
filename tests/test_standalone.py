"""``python -m flask_mercure_sse.server`` as its users see it: lines, options, environment, signals."""

import os
import signal
import socket
import subprocess
import sys

import pytest
from flask import Flask

from clients import PATIENCE
from flask_mercure_sse import ForbiddenTopicError, MercureSSE, TokenRefusedError
from key_spellings import pem, spellings

SECRETS = ["--publisher-secret", "p" * 32, "--subscriber-secret", "s" * 32]
FORM = [("topic", "a"), ("data", "x")]


def test_the_readme_flow_works(standalone, open_stream, token):
    hub = standalone("--subscriber-secret", "SECRET", "--publisher-secret", "SECRET")
    assert list(hub.lines) == ["Publisher JWT", f"Serving on {hub.url}"]
    mercure = MercureSSE(
        Flask("app"), hub_url=hub.hub, subscriber_secret_key="SECRET", publisher_jwt=hub.lines["Publisher JWT"]
    )
    stream = open_stream(mercure.authentified_hub_url("topic"))
    published = mercure.publish("topic", "message", private=True)
    assert stream.event() == {"id": published, "data": "message"}


def test_without_secrets_it_makes_and_prints_them(standalone, send, token):
    hub = standalone()
    publisher = hub.lines["Generated publisher secret key"]
    subscriber = hub.lines["Generated subscriber secret key"]
    assert publisher != subscriber
    assert token.claims(hub.lines["Publisher JWT"], publisher) == {"mercure": {"publish": ["*"]}}
    assert send("POST", hub.hub, token.bearer(publish=["*"], key=publisher), FORM).status == 200
    assert send("POST", hub.hub, token.bearer(publish=["*"], key=subscriber), FORM).status == 401


@pytest.mark.parametrize(
    ("options", "variables", "named"),
    [
        (["--subscriber-secret", ""], {}, "--subscriber-secret is empty"),
        (["--publisher-secret", ""], {"FLASK_SECRET_KEY": "n" * 32}, "--publisher-secret is empty"),
        (SECRETS[:2], {"MERCURE_SUBSCRIBER_SECRET_KEY": ""}, "MERCURE_SUBSCRIBER_SECRET_KEY is empty"),
        ([], {"FLASK_SECRET_KEY": ""}, "FLASK_SECRET_KEY is empty"),
    ],
)
def test_an_empty_secret_is_an_error_and_no_key_is_made(options, variables, named, tmp_path):
    command = [sys.executable, "-m", "flask_mercure_sse.server", "--host", "127.0.0.1", "--port", "0", *options]
    environment = {**os.environ, **variables}
    ran = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=PATIENCE, check=False
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert (
        ran.stderr
        == f"Error: {named}: write a secret (openssl rand -hex 32), or leave it out to have one made at each start\n"
    )


def test_options_win_over_the_environment_and_it_over_the_file(standalone, send, token, tmp_path):
    (tmp_path / ".env").write_text(
        "# a comment\nexport MERCURE_PUBLISHER_SECRET_KEY='from the file'\nMERCURE_HUB_ALLOW_ANONYMOUS=false # off\n"
        'MERCURE_SUBSCRIBER_SECRET_KEY="from \\"the\\" file"\n'
    )

    def accepts(hub, key):
        return send("POST", hub.hub, token.bearer(publish=["*"], key=key), FORM).status == 200

    def anonymous(hub):
        return send("HEAD", hub.hub + "?topic=a").status == 200

    file_only = standalone(cwd=tmp_path)
    assert accepts(file_only, "from the file")
    assert not anonymous(file_only)
    quoted = token.bearer(subscribe=["*"], key='from "the" file')
    assert send("HEAD", file_only.hub + "?topic=a", quoted).status == 200
    environment = {"MERCURE_PUBLISHER_SECRET_KEY": "from the environment", "MERCURE_HUB_ALLOW_ANONYMOUS": "1"}
    with_environment = standalone(cwd=tmp_path, env=environment)
    assert accepts(with_environment, "from the environment")
    assert anonymous(with_environment)
    with_options = standalone(
        "--publisher-secret", "from the option", "--no-allow-anonymous", cwd=tmp_path, env=environment
    )
    assert accepts(with_options, "from the option")
    assert not anonymous(with_options)


@pytest.mark.parametrize("name", ["MERCURE_PUBLISHER_JWT_KEY", "FLASK_SECRET_KEY"])
def test_the_other_names_of_secrets_are_read(name, standalone, token):
    hub = standalone("--subscriber-secret", "s" * 32, env={name: "n" * 32})
    assert token.claims(hub.lines["Publisher JWT"], "n" * 32)


def test_numbers_of_the_environment_are_numbers(standalone, open_stream, token, send, subscribe_url):
    numbers = {"KEEPALIVE_INTERVAL": "0.05", "RETRY_INTERVAL": "20", "RECONCILIATION_LENGTH": "2"}
    hub = standalone(*SECRETS, env={f"MERCURE_HUB_{name}": value for name, value in numbers.items()})
    stream = open_stream(hub.hub + "?topic=nothing")
    retry = stream.first_bytes().decode().strip().removeprefix("retry: ")
    assert 18_000 <= int(retry) <= 22_000
    assert [stream.response.readline() for _ in range(3)] == [b":\n"] * 3, "keep-alive comments"
    watcher = open_stream(hub.hub + "?topic=a")
    for number in range(4):
        send("POST", hub.hub, token.bearer(publish=["*"], key="p" * 32), [("topic", "a"), ("id", str(number))])
    assert [watcher.event()["id"] for _ in range(4)] == ["0", "1", "2", "3"]
    late = open_stream(subscribe_url(hub.hub, "a", lastEventID="earliest"))
    assert [late.event()["id"] for _ in range(2)] == ["2", "3"]


FAILING = """
import sys
from flask_mercure_sse._native import Server
from flask_mercure_sse.server import __main__ as server


class Failing:
    # A server whose hub fails at once.
    def __init__(self, *arguments):
        self.server = Server(*arguments)

    def wait_until_hub_fails(self):
        pass

    def __getattr__(self, name):
        return getattr(self.server, name)


server.Server = Failing
server.main(["--host", "127.0.0.1", "--port", "0"])
"""


def test_a_hub_that_has_failed_ends_its_process_with_an_error():
    ran = subprocess.run([sys.executable, "-c", FAILING], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert ran.returncode == 1
    assert "Serving on http://127.0.0.1:" in ran.stdout
    assert "Error: the hub has failed, see the error in its log: start it again" in ran.stderr


def test_subscriptions_can_be_switched_off(standalone, send, token):
    for options, status in (([], 200), (["--no-subscriptions"], 404)):
        hub = standalone(*SECRETS, *options)
        assert send("GET", hub.hub + "/subscriptions", token.bearer(subscribe=["*"], key="s" * 32)).status == status


def test_pages_of_other_origins_may_subscribe_as_the_option_says(standalone, send):
    def allowed(hub, origin):
        headers = send("HEAD", hub.hub + "?topic=a", {"Origin": origin}).headers
        return headers["Access-Control-Allow-Origin"], headers["Access-Control-Allow-Credentials"]

    by_default = standalone(*SECRETS)
    assert allowed(by_default, "https://any.example") == ("*", None)
    assert allowed(by_default, "http://localhost:5000") == ("http://localhost:5000", "true"), "in development"
    listed = standalone(*SECRETS, "--cors-origins", "https://a.example, https://b.example")
    assert allowed(listed, "https://b.example") == ("https://b.example", "true")
    assert allowed(listed, "https://evil.example") == (None, None)
    below = standalone(*SECRETS, "--cors-origins", "https://*.example.com")
    assert allowed(below, "https://a.b.example.com") == ("https://a.b.example.com", "true")
    for other in ("https://example.com", "https://evilexample.com", "http://a.example.com"):
        assert allowed(below, other) == (None, None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_streams_and_the_process_with_success(number, standalone, open_stream):
    hub = standalone(*SECRETS)
    stream = open_stream(hub.hub + "?topic=a")
    assert stream.opens()
    assert hub.stop(number) == 0
    with pytest.raises(EOFError):
        stream.event()
    assert hub.process.stderr.read() == ""


@pytest.mark.parametrize(
    ("options", "env", "message"),
    [
        (["--cors-origins", "example.com"], {}, '"example.com" is no origin: write "https://example.com"'),
        (["--cors-origins", "https://*"], {}, '"https://*" is no origin'),
        ([], {"MERCURE_HUB_SUBSCRIPTIONS": "perhaps"}, "MERCURE_HUB_SUBSCRIPTIONS: write true or false"),
        ([], {"MERCURE_HUB_KEEPALIVE_INTERVAL": "x"}, "MERCURE_HUB_KEEPALIVE_INTERVAL: write a number"),
        (["--host", "no.such.host.invalid"], {}, "cannot listen on no.such.host.invalid"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(options, env, message, standalone):
    hub = standalone(*options, env=env)
    assert hub.process.wait(PATIENCE) == 1
    error = hub.process.stderr.read()
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_published_secret_is_refused_unless_only_this_machine_reaches_the_hub(standalone):
    example = "!ChangeThisMercureHubJWTSecretKey!"
    local = standalone("--subscriber-secret", example, "--publisher-secret", "p" * 32)
    assert local.stop() == 0
    error = local.process.stderr.read()
    assert error.startswith("Warning: --subscriber-secret, MERCURE_SUBSCRIBER_SECRET_KEY or FLASK_SECRET_KEY: the ")
    assert example not in error
    for host in ("0.0.0.0", "::"):
        exposed = standalone("--host", host, env={"FLASK_SECRET_KEY": example})
        assert exposed.process.wait(20) == 1
        error = exposed.process.stderr.read()
        assert "--publisher-secret, MERCURE_PUBLISHER_SECRET_KEY or FLASK_SECRET_KEY: the secret is an example" in error
        assert "only a hub that listens on loopback" in error
        assert example not in error
        assert len(error.splitlines()) == 1


def test_one_secret_for_both_roles_and_short_ones_are_warned_of(standalone):
    hub = standalone("--subscriber-secret", "x", "--publisher-secret", "x")
    assert hub.stop() == 0
    error = hub.process.stderr.read()
    assert error.count("shorter than 32 bytes") == 2
    assert "share one secret" in error
    assert len(error.splitlines()) == 3


def test_no_spelling_of_a_public_key_becomes_a_secret(standalone, tmp_path):
    document = pem("p256.pub.pem")
    # test_settings has all spellings. These are one of several lines, and one of one line.
    keys = [spellings(document)[name] for name in ("lines", "base64url")]
    (tmp_path / ".env").write_text(f"MERCURE_PUBLISHER_SECRET_KEY='{keys[0]}'\n")
    refused = [standalone(cwd=tmp_path)]
    refused += [standalone(env={"MERCURE_PUBLISHER_SECRET_KEY": key}) for key in keys]
    for hub in refused:
        assert hub.process.wait(PATIENCE) == 1
        error = hub.process.stderr.read()
        assert "MERCURE_PUBLISHER_SECRET_KEY or FLASK_SECRET_KEY: this is a" in error
        assert document.splitlines()[1][:16] not in error


def test_a_public_key_verifies_and_signs_no_token(standalone):
    hub = standalone(env={"MERCURE_PUBLISHER_SECRET_KEY": pem("p256.pub.pem").replace("\n", "\\n")})
    assert hub.url
    assert "Publisher JWT" not in hub.lines


def test_a_malformed_env_file_is_named_by_its_line_only(standalone, tmp_path):
    (tmp_path / ".env").write_text("GOOD=1\nMERCURE_PUBLISHER_SECRET_KEY='the secret\n")
    hub = standalone(cwd=tmp_path)
    assert hub.process.wait(PATIENCE) == 1
    error = hub.process.stderr.read()
    assert ".env, line 2: close the quote" in error
    assert "the secret" not in error


def test_the_env_file_is_read_as_others_read_it(tmp_path):
    from flask_mercure_sse.server.dotenv import read_dotenv

    (tmp_path / ".env").write_text(
        "\ufeffFIRST=abc#def\nMY-VAR=1\nDEBUG\n# a comment\nexport SECOND = two words  # a comment\n"
        'PEM=\'line\nline\'\nESCAPED="a\\nb\\"c"\nEMPTY=\nHASH=#abc\n',
        encoding="utf-8",
    )
    assert read_dotenv(tmp_path / ".env") == {
        "FIRST": "abc#def",
        "SECOND": "two words",
        "PEM": "line\nline",
        "ESCAPED": 'a\nb"c',
        "EMPTY": "",
        "HASH": "#abc",
    }


def test_the_environment_wins_whatever_the_name_of_a_secret(standalone, token, tmp_path):
    (tmp_path / ".env").write_text("MERCURE_PUBLISHER_SECRET_KEY=of-the-file\n")
    hub = standalone(*SECRETS[2:], env={"MERCURE_PUBLISHER_JWT_KEY": "of-the-environment"}, cwd=tmp_path)
    assert token.claims(hub.lines["Publisher JWT"], "of-the-environment")


def test_a_port_in_use_is_said_in_one_line(standalone):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "flask_mercure_sse.server", "--host", "127.0.0.1", "--port", port, *SECRETS]
        result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert result.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_the_extension_understands_its_refusals(standalone):
    hub = standalone(*SECRETS)
    mercure = MercureSSE(Flask("app"), hub_url=hub.hub, publisher_secret_key="p" * 32)
    with pytest.raises(ForbiddenTopicError):
        mercure.publish("a", "x", jwt=mercure.create_jwt("publisher_secret_key", publish=["b"]))
    wrong = MercureSSE(Flask("app"), hub_url=hub.hub, publisher_secret_key="wrong")
    with pytest.raises(TokenRefusedError, match=r"^the key is not the hub's, .*not valid for this hub"):
        wrong.publish("a", "x")


def test_the_wsgi_application_is_a_hub_too(serve, send, token, open_stream, monkeypatch, tmp_path):
    from flask_mercure_sse.server.app import create_app

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MERCURE_PUBLISHER_SECRET_KEY", "p" * 32)
    hub = serve(create_app(allow_anonymous=True)) + "/.well-known/mercure"
    stream = open_stream(hub + "?topic=a", {"Origin": "https://page.example"})
    assert stream.headers["Access-Control-Allow-Origin"] == "*"
    assert send("POST", hub, token.bearer(publish=["*"], key="p" * 32), FORM).status == 200
    assert stream.event()["data"] == "x"


def test_the_wsgi_application_refuses_an_empty_secret(monkeypatch, tmp_path):
    from flask_mercure_sse.server.app import create_app

    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^subscriber_secret is empty: write a secret"):
        create_app(publisher_secret="p" * 32, subscriber_secret="")
    monkeypatch.setenv("MERCURE_SUBSCRIBER_SECRET_KEY", "")
    with pytest.raises(ValueError, match=r"^MERCURE_SUBSCRIBER_SECRET_KEY is empty: write a secret"):
        create_app(publisher_secret="p" * 32)


def test_the_wsgi_application_prints_the_keys_that_it_has_made(tmp_path, token):
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [sys.executable, "-c", "import flask_mercure_sse.server.wsgi"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=True)
    lines = dict(line.split(": ") for line in ran.stdout.splitlines())
    assert list(lines) == ["Generated publisher secret key", "Generated subscriber secret key", "Publisher JWT"]
    claims = token.claims(lines["Publisher JWT"], lines["Generated publisher secret key"])
    assert claims == {"mercure": {"publish": ["*"]}}
