"""A chat with rooms, private messages and a list of who is online.

It shows public updates (rooms), private updates (the topic of one user, granted by a cookie), subscription events (who
is online) and reconnection (the hub replays the updates that a page has missed). Rooms are public: everybody who knows
the name of a room can read it.

Run it with ``python examples/chat.py``. HOST, PORT and SECRET_KEY are read from the environment. Run one process only,
because the nicknames are in its memory.

Try: a browser profile is one user, so open a private window for a second user. Write to everyone, and to one user.
Close a window, and watch the list of who is online.
"""

import os
import re
import secrets
import unicodedata
from datetime import datetime, timezone
from threading import Lock
from typing import Any, Final

from flask import Flask, redirect, render_template_string, request, session, url_for
from flask.typing import ResponseReturnValue
from werkzeug.routing import BaseConverter

from flask_mercure_sse import MercureError, MercureSSE


class RoomConverter(BaseConverter):
    regex = "[A-Za-z0-9_-]{1,30}"


app = Flask(__name__)
app.url_map.converters["room"] = RoomConverter
app.config.update(
    SECRET_KEY=os.environ.get("SECRET_KEY") or secrets.token_hex(32),
    SESSION_COOKIE_NAME="chat_session",
    SESSION_COOKIE_SAMESITE="Lax",
    MAX_CONTENT_LENGTH=64 * 1024,
    MERCURE_HUB=True,
    MERCURE_LAST_EVENT_ID_IN_URLS=True,  # a message that is sent while a page loads is not lost
)
mercure = MercureSSE(app)

NICKNAME: Final = re.compile(r"(?!everyone$)\w[\w .'-]{0,29}", re.IGNORECASE)
MESSAGE_MAX: Final = 2000
ONLINE: Final = "chat/online"  # nothing is published here: a user who is subscribed is online
ONLINE_EVENTS: Final = "/.well-known/mercure/subscriptions/chat%2Fonline"

_logins: dict[str, str] = {}  # nickname -> the random id of the session that holds it
_lock = Lock()


def current_user() -> str | None:
    """The nickname of this session. None: it has none, or another session has taken it."""
    nickname, login = session.get("nickname", ""), session.get("login")
    with _lock:
        return nickname if login and _logins.get(nickname) == login else None


def leave() -> None:
    """End this session, and free its nickname unless another session has taken that."""
    nickname, login = session.pop("nickname", ""), session.pop("login", None)
    with _lock:
        if login and _logins.get(nickname) == login:
            del _logins[nickname]


@mercure.payload_getter
def payload(topics: list[str]) -> dict[str, Any]:  # what other users see of this user's subscriptions
    return {"name": current_user()}


def user_topic(nickname: str) -> str:
    """The topic of one user's private messages. With topic(), no nickname is a selector in the grant."""
    return mercure.topic("chat/user/{}", nickname)


@mercure.user_topics
def topics() -> list[str]:
    """A user's own private messages and who is online, and no other private update. The extension keeps the cookie."""
    nickname = current_user()
    return [user_topic(nickname), ONLINE_EVENTS] if nickname else []


@app.errorhandler(MercureError)
def hub_failed(error: MercureError) -> ResponseReturnValue:
    app.logger.error("The hub failed: %s", error)
    return {"error": "The hub does not answer. Try again."}, 502


@app.get("/")
def index() -> ResponseReturnValue:
    return redirect(url_for("show_room", room="lobby"))


@app.get("/room/<room:room>")
def show_room(room: str) -> ResponseReturnValue:
    nickname = current_user()
    if nickname is None:
        return render_template_string(DOOR, room=room)
    heard = [mercure.topic("chat/room/{}", room), user_topic(nickname), ONLINE, ONLINE_EVENTS]
    page = render_template_string(ROOM, room=room, nickname=nickname, topics=heard)
    return page, {"Cache-Control": "no-store"}


@app.post("/room/<room:room>")
def enter(room: str) -> ResponseReturnValue:
    nickname = " ".join(unicodedata.normalize("NFKC", request.form.get("nickname", "")).split())
    if not NICKNAME.fullmatch(nickname):
        return render_template_string(DOOR, room=room, error="Use 1 to 30 letters, digits, spaces or . _ ' -"), 400
    leave()
    with _lock:
        if any(nickname.casefold() == taken.casefold() for taken in _logins):
            return render_template_string(DOOR, room=room, error="This nickname is taken. Choose another."), 409
        _logins[nickname] = session["login"] = secrets.token_urlsafe()
    session["nickname"] = nickname
    return redirect(url_for("show_room", room=room), 303)


@app.post("/logout")
def logout() -> ResponseReturnValue:
    leave()
    return redirect(url_for("index"), 303)


@app.get("/online")
def online() -> ResponseReturnValue:
    """The users who are online now. A page asks each time it connects; subscription events tell it of later changes."""
    if current_user() is None:
        return {"error": "Enter a nickname first."}, 401
    return {"online": [each for each in mercure.get_subscriptions(ONLINE)["subscriptions"] if each["active"]]}


@app.post("/room/<room:room>/messages")
def send(room: str) -> ResponseReturnValue:
    """Publish {"text", "recipient"}. No form of another site can send this content type."""
    sender = current_user()
    if request.mimetype != "application/json":
        return {"error": "Send JSON."}, 415
    if sender is None:
        return {"error": "Your session has ended. Reload the page to enter again."}, 401
    body = request.get_json(silent=True)
    body = body if isinstance(body, dict) else {}
    text, recipient = body.get("text"), body.get("recipient") or None
    if not isinstance(text, str) or not text.strip() or len(text) > MESSAGE_MAX:
        return {"error": f"A message has 1 to {MESSAGE_MAX} characters."}, 400
    with _lock:
        if recipient is not None and (not isinstance(recipient, str) or recipient not in _logins):
            return {"error": "This user has left. The message was not sent."}, 404
    topics = [user_topic(each) for each in {recipient, sender}] if recipient else [mercure.topic("chat/room/{}", room)]
    data = {"from": sender, "to": recipient, "text": text, "time": datetime.now(timezone.utc).isoformat()}
    mercure.publish(topics, data, private=recipient is not None)
    return "", 204


DOOR: Final = """
{% extends "base.html" %}
{% block title %}Chat{% endblock %}
{% block badge %}{% endblock %}
{% block try %}A browser profile is one user: open a private window for a second one.{% endblock %}
{% block content %}
<form class="card stack door" method="post" action="{{ url_for('enter', room=room) }}">
  <label>Nickname
    <input id="nickname" name="nickname" maxlength="30" required autofocus autocomplete="nickname"
           value="{{ request.form.nickname }}"{% if error %} aria-invalid="true" aria-describedby="error"{% endif %}>
  </label>
  <p id="error" class="error" role="alert">{{ error }}</p>
  <button id="enter">Enter room {{ room }}</button>
</form>
{% endblock %}
"""

ROOM: Final = """
{% extends "base.html" %}
{% block title %}Chat: {{ room }}{% endblock %}
{% block actions %}
<nav class="row" aria-label="Rooms">
  {% for other in ("lobby", "help", "random") %}
  <a href="{{ url_for('show_room', room=other) }}"{% if other == room %} aria-current="page"{% endif %}>{{ other }}</a>
  {% endfor %}
</nav>
<form class="row" method="post" action="{{ url_for('logout') }}">
  <span class="note">{{ nickname }}</span> <button id="logout" class="quiet small">Log out</button>
</form>
{% endblock %}
{% block try %}
Open a private window as a second user. Write to everyone and to one user. Close a window, and see who is online.
{% endblock %}
{% block content %}
<div class="chat">
  <section class="card stack" aria-label="Messages">
    <ul id="messages" class="messages" aria-live="polite" aria-label="Messages" tabindex="0"></ul>
    <p id="error" class="error" role="alert"></p>
    <form id="compose" class="row" autocomplete="off">
      <label>To <select id="recipient"><option value="">Everyone</option></select></label>
      <label class="grow">Message <input id="message" maxlength="2000" required autofocus></label>
      <button id="send">Send</button>
    </form>
  </section>
  <section class="card stack" aria-labelledby="online-title">
    <h2 id="online-title">Online</h2>
    <ul id="online" class="online"></ul>
  </section>
</div>
<script type="module">
import { subscribe } from "petasos-client";

const nickname = {{ nickname | tojson }};
const byId = (id) => document.getElementById(id);
const messages = byId("messages"), recipient = byId("recipient"), input = byId("message");

function showError(text) {
  byId("error").textContent = text;
}

function element(name, className, text) {
  return Object.assign(document.createElement(name), { className, textContent: text });
}

// The hub replays what was published while there was no connection.
const news = subscribe({{ mercure_hub_url(topics) | string | tojson }}, [], {
  onState(state) {
    showState(state);
    if (state === "open") loadOnline();
  },
  onRefusal: loadOnline, // the answer renews the cookie, and the next attempt sends it
});

// Messages

news.on("message", (event) => {
  const { from, to, text, time } = event.json();
  const atEnd = messages.scrollHeight - messages.scrollTop - messages.clientHeight < 40;
  const item = element("li", `${from === nickname ? "own" : ""} ${to ? "private" : ""}`, "");
  const clock = element("time", "", new Date(time).toLocaleTimeString([], { timeStyle: "short" }));
  item.append(element("strong", "", to ? `${from} to ${to}, privately:` : `${from}:`), " ");
  item.append(element("span", "text", text), " ", clock);
  messages.append(item);
  if (messages.children.length > 500) messages.firstElementChild.remove();
  if (atEnd || from === nickname) messages.scrollTop = messages.scrollHeight;
});

let sending = Promise.resolve(); // one message after the other, so that they arrive in order

byId("compose").addEventListener("submit", (event) => {
  event.preventDefault();
  const message = { text: input.value, recipient: recipient.value };
  if (!message.text.trim()) return showError("Write a message first.");
  input.value = "";
  input.focus();
  sending = sending.then(() => send(message));
});

async function send(message) {
  let error = "The server cannot be reached. The message was not sent.";
  try {
    const headers = { "Content-Type": "application/json" };
    const body = JSON.stringify(message);
    const response = await fetch("{{ url_for('send', room=room) }}", { method: "POST", headers, body });
    if (response.ok) return showError("");
    error = (await response.json()).error;
  } catch {
    // The message below says so.
  }
  showError(error);
  input.value ||= message.text;
}

// Who is online: the list from the time when the page connects, and later changes

const subscribers = new Map(); // subscriber -> name
let waiting = null; // changes that arrive while the list is being loaded

news.on("Subscription", (event) => {
  if (waiting) return waiting.push(event.json());
  change(event.json());
  showOnline();
});

function change({ subscriber, active, payload }) {
  if (active && payload?.name) subscribers.set(subscriber, payload.name);
  else subscribers.delete(subscriber);
}

async function loadOnline() {
  const since = (waiting = []);
  const response = await fetch("{{ url_for('online') }}", { cache: "no-store" }).catch(() => null);
  if (response?.status === 401) return location.reload(); // to the form for the nickname
  const listed = response?.ok && (await response.json().catch(() => null))?.online;
  if (waiting !== since) return; // loaded again meanwhile
  waiting = null;
  if (listed) {
    subscribers.clear();
    for (const each of listed) change({ ...each, active: true });
  }
  since.forEach(change);
  showOnline();
}

function showOnline() {
  const names = [...new Set(subscribers.values())].sort((a, b) => a.localeCompare(b));
  byId("online").replaceChildren(...names.map((name) => element("li", name === nickname ? "me" : "", name)));

  const options = [new Option("Everyone", "")];
  for (const name of names) if (name !== nickname) options.push(new Option(name, name));
  const chosen = recipient.value;
  // A chosen recipient stays chosen after leaving: otherwise the next message would go to everyone.
  if (chosen && !names.includes(chosen)) options.push(new Option(`${chosen} (away)`, chosen));
  recipient.replaceChildren(...options);
  recipient.value = chosen;
}

// A page from the browser's cache may belong to a user who has logged out.
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});
</script>
{% endblock %}
"""


if __name__ == "__main__":
    app.run(os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "5000")))
