"""Notifications with htmx 4: a bell that counts, and toasts. The server publishes HTML, the page has no script.

Each user has a private topic, for which the browser gets a cookie (``mercure.user_topics``). An update has a toast for
the element that listens, and the new contents of the bell, which htmx swaps by their ids (``hx-swap-oob``).

Run it with ``python examples/notifications.py``. HOST, PORT and SECRET_KEY are read from the environment. Run one
process only, because the notifications are in its memory. A login is a name, without a password.

Try: a browser profile is one user, so open a private window for a second one. Open two windows of one user, and mark
the notifications as read in one of them.
"""

import os
import secrets
from collections import deque
from typing import Final

from flask import Flask, redirect, render_template_string, request, session, url_for
from flask.typing import ResponseReturnValue

from flask_mercure_sse import MercureSSE

app = Flask(__name__)
app.config.update(
    SECRET_KEY=os.environ.get("SECRET_KEY") or secrets.token_hex(32),
    SESSION_COOKIE_NAME="notifications_session",
    SESSION_COOKIE_SAMESITE="Lax",
    MERCURE_HUB=True,
    MERCURE_LAST_EVENT_ID_IN_URLS=True,  # nothing is lost that is published while a page loads
)
mercure = MercureSSE(app)

UNREAD_MAX: Final = 20
_unread: dict[str, deque[str]] = {}  # user -> the notifications that are not read


def topic(user: str) -> str:
    return mercure.topic("/users/{}", user)


@mercure.user_topics
def topics() -> list[str]:
    """What the current user may read. The extension sets the cookie, renews it, and deletes it at the logout."""
    return [topic(session["user"])] if session.get("user") in _unread else []


def publish(user: str, text: str | None = None) -> None:
    """Tell all windows of a user what the bell has, and of a new notification."""
    html = render_template_string(BELL + UPDATE, unread=list(_unread[user]), text=text)
    mercure.publish(topic(user), html, private=True)


@app.get("/")
def index() -> ResponseReturnValue:
    user = session.get("user")
    if user not in _unread:
        return render_template_string(LOGIN)
    unread, users = list(_unread[user]), list(_unread)
    return render_template_string(PAGE + BELL, user=user, topic=topic(user), unread=unread, users=users)


@app.post("/login")
def login() -> ResponseReturnValue:
    if name := request.form["name"].strip()[:30]:
        session["user"] = name
        _unread.setdefault(name, deque(maxlen=UNREAD_MAX))
    return redirect(url_for("index"), 303)


@app.post("/logout")
def logout() -> ResponseReturnValue:
    session.clear()
    return redirect(url_for("index"), 303)


@app.post("/notify")
def notify() -> ResponseReturnValue:
    user, to, text = session.get("user"), request.form["to"], request.form["text"].strip()[:200]
    if user not in _unread or not text or (to and to not in _unread):
        return f"{to or 'This'} cannot be notified: log in first."
    for each in [to] if to else list(_unread):
        _unread[each].append(f"{user}: {text}")
        publish(each, f"{user}: {text}")
    return f"Sent to {to or 'everybody'}."


@app.post("/read")
def read() -> ResponseReturnValue:
    if session.get("user") in _unread:
        _unread[session["user"]].clear()
        publish(session["user"])
    return "", 204


LOGIN: Final = """
{% extends "base.html" %}
{% block title %}Notifications{% endblock %}
{% block badge %}{% endblock %}
{% block try %}A browser profile is one user: open a private window for a second one.{% endblock %}
{% block content %}
<form class="card stack door" method="post" action="{{ url_for('login') }}">
  <label>Your name <input name="name" maxlength="30" required autofocus autocomplete="nickname"></label>
  <button>Log in</button>
</form>
{% endblock %}
"""

BELL: Final = """
{% macro count() %}<b id="count" hx-swap-oob="true">{{ unread | length }}</b>{% endmacro %}
{% macro inbox() %}
<ul id="inbox" class="stack" hx-swap-oob="true">
  {% for text in unread | reverse %}<li>{{ text }}</li>{% else %}<li class="note">Nothing new</li>{% endfor %}
</ul>
{% endmacro %}
"""

UPDATE: Final = """
{% if text %}<p class="toast card" hx-on:animationend="this.remove()">{{ text }}</p>{% endif %}
{{ count() }} {{ inbox() }}
"""

PAGE: Final = """
{% extends "base.html" %}
{% block title %}Notifications{% endblock %}
{% block client %}
<script src="{{ url_for('static', filename='htmx.min.js') }}"></script>
<script src="{{ url_for('static', filename='hx-sse.min.js') }}"></script>
{{ mercure_client("htmx") }}
{% endblock %}
{% block actions %}
<details class="bell">
  <summary class="button quiet small"><span class="hidden">Unread notifications:</span> {{ count() }}</summary>
  <div class="card stack">
    {{ inbox() }}
    <button class="quiet small" hx-post="{{ url_for('read') }}" hx-swap="none">Mark all as read</button>
  </div>
</details>
<form class="row" method="post" action="{{ url_for('logout') }}">
  <span class="note">{{ user }}</span> <button class="quiet small">Log out</button>
</form>
{% endblock %}
{% block try %}
Open a private window as a second user. Open two windows of one user, and mark all as read in one.
{% endblock %}
{% block content %}
<form class="card stack" hx-post="{{ url_for('notify') }}" hx-target="#said" hx-on:htmx:after:swap="this.reset()">
  <div class="row">
    <label>To
      <select name="to">
        <option value="">Everybody</option>
        {% for each in users %}<option>{{ each }}</option>{% endfor %}
      </select>
    </label>
    <label class="grow">Text <input name="text" maxlength="200" required autocomplete="off"></label>
    <button>Notify</button>
  </div>
  <p id="said" class="note" role="status"></p>
</form>
<div class="toasts" role="status" hx-sse:connect="{{ mercure_hub_url(topic) }}" hx-swap="beforeend"></div>
{% endblock %}
"""


if __name__ == "__main__":
    app.run(os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "5000")))
