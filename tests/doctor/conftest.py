"""Applications for the doctor."""

from __future__ import annotations

import pytest
from flask import Flask

from clients import SECRET
from flask_mercure_sse import MercureSSE

PUBLISHER, SUBSCRIBER = "publisher key of at least 32 bytes", "subscriber key of at least 32 bytes"


@pytest.fixture
def embedded(tmp_path, monkeypatch):
    """An application of production with the embedded hub. The command runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("GUNICORN_CMD_ARGS", "WEB_CONCURRENCY"):
        monkeypatch.delenv(name, raising=False)

    def make(**config):
        app = Flask("production")
        hosts = ["localhost", "127.0.0.1", "app.example"]
        app.config.update({"SECRET_KEY": SECRET, "MERCURE_HUB": True, "TRUSTED_HOSTS": hosts, **config})
        MercureSSE(app)
        return app

    return make


@pytest.fixture
def elsewhere(standalone):
    """An application whose hub is a process of its own."""

    def make(*options, **config):
        app = Flask("production")
        app.config.update(
            MERCURE_PUBLISHER_SECRET_KEY=PUBLISHER, MERCURE_SUBSCRIBER_SECRET_KEY=SUBSCRIBER, MERCURE_HUB=False
        )
        hub = standalone("--publisher-secret", PUBLISHER, "--subscriber-secret", SUBSCRIBER, *options).hub
        app.config.update({"MERCURE_HUB_URL": hub, **config})
        MercureSSE(app)
        return app

    return make
