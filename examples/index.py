"""All examples in one process, each under its own path, and the Celery worker of one: ``python examples/index.py``.

It needs ``pip install -r examples/requirements.txt``. HOST and PORT are read from the environment.
"""

import importlib
import logging
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any, Final

from flask import Flask, abort, render_template_string
from flask.typing import ResponseReturnValue
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server

FOLDER: Final = Path(__file__).parent
EXAMPLES: Final = {
    "notifications": (
        "Notifications",
        "A bell and toasts with htmx, for one user or for everybody. The server publishes HTML.",
    ),
    "live_table": ("A live table", "A table from a database: rows appear, change and vanish in all windows."),
    "progress": ("A progress bar", "A Celery worker says how far a job has come."),
    "chat": ("A chat", "Rooms, private messages, and who is online."),
    "dashboard": ("A dashboard", "Charts at 50 updates a second, drawn once for each frame."),
    "todo": ("A shared to-do list", "Goes on without a connection, and sends later what was changed meanwhile."),
}

index = Flask(__name__)


@index.get("/")
def show() -> ResponseReturnValue:
    return render_template_string(PAGE, examples=EXAMPLES)


@index.get("/code/<name>.py")
def code(name: str) -> ResponseReturnValue:
    if name not in EXAMPLES:
        abort(404)
    return (FOLDER / f"{name}.py").read_text(encoding="utf-8"), {"Content-Type": "text/plain; charset=utf-8"}


PAGE: Final = """
<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>Flask-Mercure-SSE: examples</title>
  <link rel="icon" href="data:,">
  <link rel="stylesheet" href="{{ url_for('static', filename='examples.css') }}">
</head>
<body>
<header class="top stack">
  <h1>Flask-Mercure-SSE: examples</h1>
  <p class="note">Open each in two windows. Then stop the server and start it again, or go offline for a while.</p>
</header>
<main class="gallery">
  {% for name, (title, line) in examples.items() %}
  <article class="card stack">
    <h2><a href="/{{ name }}/">{{ title }}</a></h2>
    <p>{{ line }}</p>
    <p class="note"><a href="{{ url_for('code', name=name) }}"><code>examples/{{ name }}.py</code></a></p>
  </article>
  {% endfor %}
</main>
</body>
</html>
"""


def mounted(name: str) -> Any:
    """An example, which shows a link back. Its cookies are its own: the hub's has the path of the hub."""
    app = importlib.import_module(name).app
    app.config["SESSION_COOKIE_PATH"] = f"/{name}"

    def application(environ: dict[str, Any], start_response: Any) -> Any:
        return app({**environ, "examples.index": "/"}, start_response)

    return application


def run_worker() -> None:
    """The Celery worker. It ends with the process that has started it, however that ends: then its input ends, too."""

    def wait_for_end() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait_for_end, daemon=True).start()
    warnings.simplefilter("ignore")  # Celery's of root
    celery = importlib.import_module("progress").celery
    celery.start(["--quiet", "worker", "--pool", "threads", "--concurrency", "4", "--loglevel", "warning"])


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # no line for each request
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "5000"))
    application = DispatcherMiddleware(index, {f"/{name}": mounted(name) for name in EXAMPLES})
    server = make_server(host, port, application, threaded=True)
    with subprocess.Popen([sys.executable, __file__, "worker"], stdin=subprocess.PIPE, start_new_session=True):
        print(f"Open http://{host}:{server.server_port} in two browser windows", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    run_worker() if sys.argv[1:] == ["worker"] else main()
