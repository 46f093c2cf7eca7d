"""An application with the embedded hub, as it runs in production: see README.md in this folder."""

import os
from typing import Any

from flask import Flask, render_template, request
from flask.typing import ResponseReturnValue
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_mercure_sse import MercureSSE

app = Flask(__name__)
# nginx sets both fields. Hub URLs begin with the scheme that the browser has used.
app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1)  # type: ignore[method-assign]
app.config.update(
    SECRET_KEY=os.environ["SECRET_KEY"],
    TRUSTED_HOSTS=os.environ["TRUSTED_HOSTS"].split(),
    SESSION_COOKIE_SECURE=True,
    SESSION_COOKIE_SAMESITE="Lax",
    MERCURE_HUB=True,  # the rest is in the environment: MERCURE_HUB_TRANSPORT
    MERCURE_LAST_EVENT_ID_IN_URLS=True,
)
mercure = MercureSSE(app)


@app.get("/")
def index() -> ResponseReturnValue:
    return render_template("index.html")


# Anybody may call this: put your login here.
@app.post("/news")
def publish() -> ResponseReturnValue:
    news: Any = request.get_json()
    return {"id": mercure.publish("/news", {"text": news["text"]}), "worker": os.getpid()}
