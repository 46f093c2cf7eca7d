"""Hyperflask, which is made with flask-mercure-sse 0.4: the package itself, in a virtual environment of its own.

Its pin is ``~= 0.4``, so pip accepts this version. Hyperflask reads the extension's state, sets the hub of its worker,
starts the standalone server and renders three macros for htmx 2."""

from __future__ import annotations

import fcntl
import html
import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from clients import PATIENCE, SECRET

HYPERFLASK = "hyperflask==0.6.0"
FOLDER = Path(__file__).parent.parent / ".build" / "hyperflask"
INSTALL_SECONDS = 600
"""It has about seventy dependencies."""


@pytest.fixture(scope="module")
def python() -> str:
    """A Python that has Hyperflask, and the packages of this one behind its own."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    program, installed = FOLDER / "bin" / "python", FOLDER / "installed"
    wanted = f"{HYPERFLASK} {sys.version}"
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not installed.exists() or installed.read_text() != wanted:
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(FOLDER)], check=True)
            (packages,) = FOLDER.glob("lib/python*/site-packages")
            # pip finds the extension there, and installs it a second time only if the pin excludes it.
            (packages / "tested.pth").write_text(sysconfig.get_path("purelib"))
            install = [str(program), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", HYPERFLASK]
            ran = subprocess.run(install, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
            if ran.returncode:
                pytest.skip(f"Hyperflask cannot be installed: {ran.stderr.strip().splitlines()[-1]}")
            installed.write_text(wanted)
    return str(program)


APPLICATION = """
from hyperflask import Hyperflask, Model, mercure_publish, publish_signal, signal, render_template
from flask import render_template_string, request

app = Hyperflask("site_of_hyperflask", config={"SECRET_KEY": "%s", "MERCURE_TYPE_IS_TOPIC": True, "CSP_HEADER": False})
app.testing = False


@app.get("/macro/<name>")
def macro(name):
    macros = {
        "stream": "<{MercureStream topic='news'}>nothing yet</{MercureStream}>",
        "public": "<{MercureStream topic='news' private=False type='title'}></{MercureStream}>",
        "context": "<{MercureStreamContext topics=['news', 'sport'] private=False}></{MercureStreamContext}>",
        "presence": "<{MercurePresence hx_get='/who' topic='room'}/>",
    }
    return render_template_string(macros[name])


@app.post("/publish")
def publish():
    return mercure_publish("news", "<b>first</b>", private=True)
""".replace("%s", SECRET)


@pytest.fixture
def run(python, tmp_path):
    """Runs code after the application, in an empty folder, and returns what it prints as JSON."""

    def start(code, **environment):
        (tmp_path / "site_of_hyperflask.py").write_text(APPLICATION)
        program = f"import json\nfrom site_of_hyperflask import app\n{code}"
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        ran = subprocess.run(
            [python, "-c", program],
            cwd=tmp_path,
            env={**inherited, "PYTHONPATH": str(tmp_path), **environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout.strip().splitlines()[-1])

    return start


def test_its_pin_accepts_this_version(python):
    code = (
        "from importlib.metadata import requires, version\n"
        "import flask_mercure_sse, hyperflask, json\n"
        "pins = [each for each in requires('hyperflask') if each.startswith('flask-mercure-sse')]\n"
        "print(json.dumps([pins, version('flask-mercure-sse'), flask_mercure_sse.__file__]))"
    )
    ran = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True)
    pins, version, file = json.loads(ran.stdout)
    assert pins == ["flask-mercure-sse~=0.4"]
    assert version.startswith("0.")
    assert not Path(file).is_relative_to(FOLDER), "the package that is tested, and not one from the index"


def test_the_application_has_the_extension_as_sse(run):
    found = run(
        "state = app.extensions['mercure_sse']\n"
        "public = app.config['MERCURE_PUBLIC_HUB_URL']\n"
        "print(json.dumps([app.sse.state is state, state.type_is_topic, state.hub_url, public]))"
    )
    assert found == [True, True, "http://localhost:5300/.well-known/mercure", True]


def test_its_worker_chooses_the_hub_over_http(run):
    # As "hyperflask worker" does.
    found = run(
        "app.debug = True\n"
        "with app.app_context():\n"
        "    app.sse.hub = None\n"
        "    app.sse.state.hub_url = 'http://localhost:5000/.well-known/mercure'\n"
        "    print(json.dumps([app.sse.hub, app.sse.state.hub_url, app.sse.hub_base_url(public=False)]))"
    )
    assert found == [None, "http://localhost:5000/.well-known/mercure", "http://localhost:5000/.well-known/mercure"]


def rendered(run, name, **environment):
    text = run(f"print(json.dumps(app.test_client().get('/macro/{name}').get_data(as_text=True)))", **environment)
    return {key: html.unescape(value) for key, value in re.findall(r'([\w:-]+)="([^"]*)"', text)}


def test_its_macros_have_the_attributes_of_htmx_2(run):
    stream = rendered(run, "stream")
    assert stream["sse-swap"] == "news", "the topic is the type"
    assert re.search(r"/\.well-known/mercure\?topic=news&authorization=ey", stream["sse-connect"])
    assert stream["hx-swap"] == "beforeend"
    public = rendered(run, "public")
    assert public["sse-swap"] == "title"
    assert public["sse-connect"].endswith("/.well-known/mercure?topic=news")
    assert rendered(run, "context")["sse-connect"].endswith("?topic=news&topic=sport")
    presence = rendered(run, "presence")
    assert presence["hx-trigger"] == "sse:Subscription"
    assert "topic=%2F.well-known%2Fmercure%2Fsubscriptions%2Froom" in presence["sse-connect"]


def test_its_pages_receive_from_the_server_that_it_starts(run, standalone, open_stream):
    # It gives both processes the application's secret, and the server its port.
    hub = standalone(env={"MERCURE_SUBSCRIBER_SECRET_KEY": SECRET, "MERCURE_PUBLISHER_SECRET_KEY": SECRET}).hub
    code = (
        f"app.extensions['mercure_sse'].hub_url = {hub!r}\n"
        "client = app.test_client()\n"
        "pages = [client.get(f'/macro/{name}').get_data(as_text=True) for name in ('stream', 'presence')]\n"
        "print(json.dumps([pages, app.sse.hub_base_url(public=False)]))"
    )
    pages, used = run(code)
    assert used == hub
    news, room = (html.unescape(re.search('sse-connect="([^"]*)"', page)[1]) for page in pages)

    def through(url):
        return f"{hub}?{urlsplit(url).query}"

    stream, presence = open_stream(through(news)), open_stream(through(room))
    assert stream.opens()
    assert presence.opens()
    published = run(
        f"app.extensions['mercure_sse'].hub_url = {hub!r}\n"
        "print(json.dumps(app.test_client().post('/publish').get_data(as_text=True)))"
    )
    assert stream.event() == {"id": published, "event": "news", "data": "<b>first</b>"}
    visitor = open_stream(f"{hub}?topic=room")
    assert visitor.opens()
    event = presence.event()
    assert event["event"] == "Subscription", "what sse:Subscription waits for"
    assert json.loads(event["data"])["topic"] == "room"
