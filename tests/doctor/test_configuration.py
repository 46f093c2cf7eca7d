"""What the doctor finds in the configuration of an application: its hub, keys and tokens."""

from __future__ import annotations

import datetime
import os
import subprocess
import sys

from flask import Flask

from clients import PATIENCE, SECRET, Token
from doctor.report import examine
from flask_mercure_sse import MercureSSE


def test_the_hub_of_debug_mode_is_not_the_one_of_production(embedded):
    app = embedded(MERCURE_HUB=None)
    assert "no setting names a hub" in examine(app, "--seconds", "0").line("hub")
    # Flask's command line sets the debug mode itself.
    environment = {**os.environ, "FLASK_APP": "served", "FLASK_DEBUG": "1"}
    code = "from flask import Flask\nfrom flask_mercure_sse import MercureSSE\napp = Flask('served')\nMercureSSE(app)\n"
    with open("served.py", "w") as file:
        file.write(code)
    command = [sys.executable, "-m", "flask", "mercure", "doctor"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert "embedded because of the debug mode" in ran.stdout
    assert "\x1b" not in ran.stdout, "no colours"
    assert all(len(line) <= 80 for line in ran.stdout.splitlines())
    assert "Traceback" not in ran.stderr


def test_weak_missing_and_wrong_keys_are_found_and_never_shown(embedded):
    report = examine(embedded(SECRET_KEY="tooshort"))
    assert report.level("keys") == ["warning"]
    assert "tooshort" not in report.output
    report = examine(embedded(SECRET_KEY=None), "--server", "gunicorn --workers 2 app:app")
    assert "SECRET_KEY is not set" in report.line("keys")
    assert report.level("keys") == ["problem"], "each worker would sign with a key of its own"
    app = embedded()
    app.config["SECRET_KEY"] = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPbmmv8mB9S4y6cFQYdTOKyHSmpvJnRoZTLYoVkXJzV"
    report = examine(app)
    assert report.level("keys") == ["problem"]
    assert "AAAAC3" not in report.output
    assert examine(embedded()).level("keys") == ["ok"]


def test_a_publishers_token_that_ends_is_found():
    def report(seconds):
        end = datetime.datetime.now(datetime.timezone.utc).timestamp() + seconds
        app = Flask("elsewhere")
        app.config["SECRET_KEY"] = SECRET
        token = Token.sign({"mercure": {"publish": ["*"]}, "exp": int(end)})
        MercureSSE(app, hub_url="http://127.0.0.1:9/.well-known/mercure", publisher_jwt=token)
        report = examine(app)
        assert token not in report.output
        return report.level("publisher's token")

    assert report(-10) == ["problem"]
    assert report(3600) == ["warning"]
    assert report(90 * 24 * 3600) == ["ok"]


def test_tokens_that_never_end_are_found(embedded):
    assert examine(embedded(MERCURE_JWT_TTL=0)).level("tokens") == ["warning"]


def test_arguments_that_are_no_urls_are_refused(embedded):
    result = embedded().test_cli_runner().invoke(args=["mercure", "doctor", "not a url"])
    assert result.exit_code == 2
    assert "write the hub's URL" in result.output
