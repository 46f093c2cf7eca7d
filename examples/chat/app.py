"""A chat with rooms, private messages and a list of who is online, on flask-mercure-sse and its embedded hub.

It shows public updates (rooms), private updates (the topic of one user, granted by a cookie), subscription events (who
is online) and reconnection (the hub replays the updates that a page has missed). Rooms are public: everybody who knows
the name of a room can read it.

Run it with ``python examples/chat/app.py``. HOST, PORT and SECRET_KEY are read from the environment. A browser profile
is one user, so open a private window for a second user. Run one process only, because the nicknames are in its memory.
"""

import os
import re
import secrets
import unicodedata
from datetime import datetime, timezone
from threading import Lock
from typing import Any, Final

from flask import Flask, Response, make_response, redirect, render_template, request, session, url_for
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


def grant(response: Response, nickname: str) -> Response:
    """Let the browser receive this user's private messages and who is online, and no other private update."""
    return mercure.set_authz_cookie(response, topics=[user_topic(nickname), ONLINE_EVENTS])


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
    response = make_response(render_template("chat.html", room=room, nickname=nickname))
    response.headers["Cache-Control"] = "no-store"
    return grant(response, nickname) if nickname else response


@app.post("/room/<room:room>")
def enter(room: str) -> ResponseReturnValue:
    nickname = " ".join(unicodedata.normalize("NFKC", request.form.get("nickname", "")).split())
    if not NICKNAME.fullmatch(nickname):
        return render_template("chat.html", room=room, error="Use 1 to 30 letters, digits, spaces or . _ ' -"), 400
    leave()
    with _lock:
        if any(nickname.casefold() == taken.casefold() for taken in _logins):
            return render_template("chat.html", room=room, error="This nickname is taken. Choose another."), 409
        _logins[nickname] = session["login"] = secrets.token_urlsafe()
    session["nickname"] = nickname
    return redirect(url_for("show_room", room=room), 303)


@app.post("/logout")
def logout() -> ResponseReturnValue:
    leave()
    return mercure.delete_authz_cookie(make_response(redirect(url_for("index"), 303)))


@app.get("/online")
def online() -> ResponseReturnValue:
    """The users who are online now. A page asks each time it connects; subscription events tell it of later changes."""
    nickname = current_user()
    if nickname is None:
        return {"error": "Enter a nickname first."}, 401
    active = [each for each in mercure.get_subscriptions(ONLINE)["subscriptions"] if each["active"]]
    return grant(make_response({"online": active}), nickname)  # a new token, in case the hub has refused the old one


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


if __name__ == "__main__":
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "5000"))
    print(f"Open http://{host}:{port} in two browser windows", flush=True)
    app.run(host, port, use_reloader=False, threaded=True)
