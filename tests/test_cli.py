"""``flask mercure``: what it prints, and how it fails."""

import os
import re
import subprocess
import sys

import pytest
from flask import Flask

from clients import PATIENCE, SECRET
from flask_mercure_sse import MercureSSE


@pytest.fixture
def runner(app, mercure):
    return app.test_cli_runner()


def test_keys_and_tokens_are_printed_alone(runner, token):
    assert re.fullmatch(r"[0-9a-f]{32}\n", runner.invoke(args=["mercure", "gen-secret-key"]).output)
    subscriber = runner.invoke(args=["mercure", "subscriber-jwt", "-t", "a", "--topic", "b"]).output
    assert token.claims(subscriber.rstrip("\n"))["mercure"]["subscribe"] == ["a", "b"]
    publisher = runner.invoke(args=["mercure", "publisher-jwt"]).output
    assert token.claims(publisher.rstrip("\n")) == {"mercure": {"publish": ["*"]}}


def test_keys_are_made_where_there_is_no_application(tmp_path):
    def run(*arguments):
        command = [sys.executable, "-m", "flask", "mercure", *arguments]
        environment = {name: text for name, text in os.environ.items() if not name.startswith("FLASK_")}
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )

    listed = run("--help")
    assert listed.returncode == 0, listed.stderr
    assert all(name in listed.stdout for name in ("gen-secret-key", "publisher-jwt", "publish"))
    assert re.fullmatch(r"[0-9a-f]{32}\n", run("gen-secret-key").stdout)
    needs_one = run("publisher-jwt")
    assert needs_one.returncode != 0
    assert "Could not locate a Flask application" in needs_one.stderr


def test_a_publishers_token_of_1_0_lasts_a_year(token):
    app = Flask("current")
    app.config["SECRET_KEY"] = SECRET
    MercureSSE(app, protocol="1.0")
    printed = app.test_cli_runner().invoke(args=["mercure", "publisher-jwt"]).output
    claims = token.claims(printed.rstrip("\n"))
    assert claims["exp"] - claims["iat"] == 365 * 24 * 3600


def test_publish_prints_the_id(runner, fake_hub):
    url = fake_hub(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nid")
    result = runner.invoke(args=["mercure", "publish", "--hub", url, "--private", "--retry", "5", "topic", "data"])
    assert (result.output, result.exit_code) == ("id\n", 0)


def test_failures_are_one_line_and_an_exit_code(runner, fake_hub):
    refused = fake_hub(
        b"HTTP/1.1 401 X\r\nContent-Type: text/plain\r\nContent-Length: 7\r\nConnection: close\r\n\r\nrefused"
    )
    result = runner.invoke(args=["mercure", "publish", "--hub", refused, "topic", "data"])
    assert re.fullmatch(r"Error: the key is not the hub's, .*: refused\n", result.output)
    assert result.exit_code == 1


def test_the_embedded_hub_of_another_process_is_out_of_reach(app, runner):
    # Flask's command line sets the debug mode itself.
    app.testing = True
    result = runner.invoke(args=["mercure", "publish", "topic", "data"])
    assert result.exit_code == 1
    assert "name a hub with --hub" in result.output


def test_a_missing_key_is_named():
    app = Flask("keyless")
    MercureSSE(app)
    result = app.test_cli_runner().invoke(args=["mercure", "subscriber-jwt"])
    assert result.exit_code == 1
    assert "MERCURE_SUBSCRIBER_SECRET_KEY is not set" in result.output


def test_publish_waits_for_the_hub_also_where_the_application_does_not(fake_hub):
    app = Flask("background")
    url = fake_hub(b"HTTP/1.1 401 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    MercureSSE(app, hub_url=url, publisher_jwt="j.w.t", publish_background=True)
    result = app.test_cli_runner().invoke(args=["mercure", "publish", "topic", "data"])
    assert re.fullmatch(r"Error: the token has neither .*: the hub answered 401\n", result.output)
    assert result.exit_code == 1
