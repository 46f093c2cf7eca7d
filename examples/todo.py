"""A shared to-do list that goes on without a connection, and says what it does.

- A change is put into the browser's storage (localStorage), shown at once, and sent when there is a connection.
- A change has an id. The server applies each id once, so a change whose answer was lost can be sent again.
- Conflicts: the server numbers the changes in the order in which they arrive, and the last one wins, for each of text,
  done and deleted. A page ignores what is older than what it has.
- A gap: if the hub no longer has all that a page has missed, it says so, and the page loads the list again.

Run it with ``python examples/todo.py``. HOST and PORT are read from the environment. The database is
``instance/todo.db``.

Try: two windows. Go offline in one (developer tools, Network), change something in both, go online again. Or stop the
server, change something, and start it again.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from flask import Flask, render_template_string, request
from flask.typing import ResponseReturnValue

from flask_mercure_sse import MercureSSE

app = Flask(__name__)
app.config.update(MERCURE_HUB=True, MERCURE_LAST_EVENT_ID_IN_URLS=True, MAX_CONTENT_LENGTH=64 * 1024)
mercure = MercureSSE(app)

TOPIC: Final = "/todo"
TEXT_MAX: Final = 200
SCHEMA: Final = """
create table if not exists changes (number integer primary key autoincrement, id text unique not null);
create table if not exists items (id text primary key, number integer not null, text text not null default '',
                                  done integer not null default 0, deleted integer not null default 0);
"""


def connect() -> sqlite3.Connection:
    Path(app.instance_path).mkdir(exist_ok=True)
    database = sqlite3.connect(Path(app.instance_path, "todo.db"))
    database.row_factory = lambda cursor, row: dict(zip((column[0] for column in cursor.description), row, strict=True))
    database.executescript(SCHEMA)
    return database


def all_items() -> dict[str, Any]:
    """The list. Changes up to ``number`` are in it, perhaps also later ones."""
    with closing(connect()) as database:
        newest = database.execute("select coalesce(max(number), 0) as number from changes").fetchone()
        items = database.execute("select * from items where not deleted order by rowid").fetchall()
        return {**newest, "items": items}


@app.get("/")
def index() -> ResponseReturnValue:
    return render_template_string(PAGE, list=all_items(), topic=TOPIC, text_max=TEXT_MAX)


@app.get("/items")
def items() -> ResponseReturnValue:
    return all_items()


@app.post("/changes")
def change() -> ResponseReturnValue:
    """Apply {"id", "item"} with some of "text", "done" and "deleted", unless the same id was applied before."""
    body: dict[str, Any] = request.get_json()
    texts = [body.get("id"), body.get("item"), body.get("text", "unchanged")]
    flags = [body.get("done", False), body.get("deleted", False)]
    if not all(isinstance(text, str) and 0 < len(text) <= TEXT_MAX for text in texts):
        return {"error": f"id, item and text have 1 to {TEXT_MAX} characters"}, 400
    if not all(isinstance(flag, bool) for flag in flags):
        return {"error": "done and deleted are true or false"}, 400
    with closing(connect()) as database, database:  # one transaction
        added = database.execute("insert or ignore into changes (id) values (:id)", body)
        if added.rowcount:
            database.execute("insert or ignore into items (id, number) values (:item, 0)", body)
            database.execute(
                """update items set number = :number, text = coalesce(:text, text), done = coalesce(:done, done),
                   deleted = coalesce(:deleted, deleted) where id = :item""",
                {"text": None, "done": None, "deleted": None, **body, "number": added.lastrowid},
            )
        item: dict[str, Any] = database.execute("select * from items where id = :item", body).fetchone()
    # Also if it was applied before: the process may have ended before it published.
    mercure.publish(TOPIC, item)
    return item


PAGE: Final = """
{% extends "base.html" %}
{% block title %}Shared to-do list{% endblock %}
{% block try %}
Two windows: go offline in one (developer tools, Network) or stop the server, change something in both, and come back.
{% endblock %}
{% block content %}
<div class="card stack">
  <form id="add" class="row">
    <label class="grow">
      What is to be done? <input id="text" maxlength="{{ text_max }}" required autocomplete="off">
    </label>
    <button>Add</button>
  </form>
  <ul id="items" class="items" aria-label="To do"></ul>
  <p id="said" class="note" role="status"></p>
  <template>
    <li>
      <input type="checkbox" class="done" aria-label="Done">
      <input class="text" maxlength="{{ text_max }}" aria-label="Text" autocomplete="off">
      <small class="not-sent">not sent</small>
      <button class="quiet small delete">Delete</button>
    </li>
  </template>
</div>
<script type="module">
import { subscribe } from "petasos-client";

const byId = (id) => document.getElementById(id);
const say = (text) => { byId("said").textContent = text; };

// The list as the server has it

const items = new Map(); // id -> item
let known = 0; // the changes up to this number are in the list

function takeList(list) {
  known = list.number;
  items.clear();
  for (const item of list.items) items.set(item.id, item);
  show();
}

function take(item) {
  if (item.number <= Math.max(known, items.get(item.id)?.number ?? 0)) return; // older than what is here
  items.set(item.id, item);
  show();
}

// Changes that wait: each has a key of its own in the storage, so that two windows never overwrite each other's.

const PREFIX = "todo change ";

function waiting() {
  const keys = Object.keys(localStorage).filter((key) => key.startsWith(PREFIX)).sort();
  return keys.map((key) => ({ key, ...JSON.parse(localStorage.getItem(key)) }));
}

const newId = () => crypto.getRandomValues(new Uint32Array(4)).join("-");

function change(item, fields) {
  const id = newId();
  localStorage.setItem(`${PREFIX}${Date.now()} ${id}`, JSON.stringify({ id, item, ...fields }));
  show();
  send();
}

let isSending = false, retry = 0;

async function send() {
  if (isSending) return;
  isSending = true;
  try {
    for (let next, count = 1; (next = waiting()[0]); count += 1) {
      const { key, ...body } = next;
      const headers = { "Content-Type": "application/json" };
      const answer = await fetch("changes", { method: "POST", headers, body: JSON.stringify(body) });
      if (answer.status >= 500) throw new Error("later");
      localStorage.removeItem(key);
      if (answer.ok) take(await answer.json());
      show();
      say(answer.ok ? `Sent: ${count} ${count === 1 ? "change" : "changes"}` : "The server refused a change");
    }
  } catch {
    const count = waiting().length;
    say(`No connection: ${count} ${count === 1 ? "change waits" : "changes wait"} in this browser`);
    clearTimeout(retry);
    retry = setTimeout(send, 5000);
  } finally {
    isSending = false;
  }
}

addEventListener("online", send);
addEventListener("storage", show); // another window has made or sent a change

// The stream

let isStale = false; // updates were missed that the hub no longer has

async function loadList() {
  const answer = await fetch("items", { cache: "no-store" }).catch(() => null);
  if (!answer?.ok) return; // once more when the stream is open again
  takeList(await answer.json());
  isStale = false;
  say("Updates were missed: the list was loaded again");
}

takeList({{ list | tojson }});
const news = subscribe("{{ mercure_hub_url(topic) }}", [], {
  onState(state) {
    showState(state);
    if (state !== "open") return;
    send();
    if (isStale) loadList();
  },
  onGap() {
    isStale = true;
    loadList();
  },
});
news.on("message", (event) => take(event.json()));

// What is shown: the server's list, and above it the changes that wait

function show() {
  const shown = new Map([...items].map(([id, item]) => [id, { ...item }]));
  for (const { key, id, item, ...fields } of waiting()) {
    shown.set(item, { ...shown.get(item), ...fields, isWaiting: true });
  }
  for (const [id, item] of shown) if (item.deleted || !item.text) shown.delete(id);

  const list = byId("items"), rows = new Map([...list.children].map((row) => [row.dataset.id, row]));
  for (const [id, row] of rows) if (!shown.has(id)) row.remove();
  let place = list.firstElementChild;
  for (const [id, item] of shown) {
    const row = rows.get(id) ?? document.querySelector("template").content.firstElementChild.cloneNode(true);
    row.dataset.id = id;
    row.classList.toggle("waiting", Boolean(item.isWaiting));
    const text = row.querySelector(".text");
    if (text !== document.activeElement) text.value = item.text;
    row.querySelector(".done").checked = item.done;
    row.querySelector(".done").ariaLabel = `Done: ${item.text}`;
    row.querySelector(".delete").ariaLabel = `Delete ${item.text}`;
    if (row === place) place = place.nextElementSibling;
    else list.insertBefore(row, place);
  }
}

byId("add").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("text").value.trim();
  if (text) change(newId(), { text });
  byId("text").value = "";
});

byId("items").addEventListener("change", ({ target }) => {
  const { id } = target.closest("li").dataset;
  if (target.matches(".done")) change(id, { done: target.checked });
  else if (target.value.trim()) change(id, { text: target.value.trim() });
});

byId("items").addEventListener("click", ({ target }) => {
  if (!target.matches(".delete")) return;
  change(target.closest("li").dataset.id, { deleted: true });
  byId("text").focus();
});
</script>
{% endblock %}
"""


if __name__ == "__main__":
    app.run(os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "5000")))
