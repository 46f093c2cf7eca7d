"use strict";

const byId = (id) => document.getElementById(id);
const { nickname, hubUrl, messagesUrl, onlineUrl } = byId("chat").dataset;
const messages = byId("messages");
const recipient = byId("recipient");
const input = byId("message");

const MESSAGES_MAX = 500;
const RETRY_MS = 3000;
const ONLINE_ERROR = "The list of who is online could not be loaded.";

function showError(text) {
  byId("error").textContent = text;
}

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

// Messages

function showMessage({ from, to, text, time }) {
  const atEnd = messages.scrollHeight - messages.scrollTop - messages.clientHeight < 40;
  const date = new Date(time);
  const clock = element("time", "", date.toLocaleTimeString([], { timeStyle: "short" }));
  clock.dateTime = date.toISOString();
  const item = element("li", to ? "private" : "", "");
  item.append(clock, " ", element("strong", "", to ? `${from} to ${to}, privately:` : `${from}:`), " ");
  item.append(element("span", "text", text));
  messages.append(item);
  while (messages.children.length > MESSAGES_MAX) messages.firstElementChild.remove();
  if (atEnd || from === nickname) messages.scrollTop = messages.scrollHeight;
}

async function send(text, to) {
  try {
    const response = await fetch(messagesUrl, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ text, recipient: to }),
    });
    if (response.ok) return showError("");
    const answer = await response.json().catch(() => ({}));
    showError(answer.error ?? "The message was not sent. Try again.");
  } catch {
    showError("The server cannot be reached. The message was not sent.");
  }
  if (!input.value) input.value = text;
}

let sending = Promise.resolve(); // one message after the other, so that they arrive in order

byId("compose").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = input.value;
  const to = recipient.value;
  if (!text.trim()) return showError("Write a message first.");
  input.value = "";
  input.focus();
  sending = sending.then(() => send(text, to));
});

// Who is online: the list from the time when the page connects, and later changes

const subscribers = new Map(); // subscriber -> name; a user has one in each window
let waiting = null; // changes that arrive while the list is being loaded

function change({ subscriber, active, payload }) {
  if (active && payload?.name) subscribers.set(subscriber, payload.name);
  else subscribers.delete(subscriber);
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

async function loadOnline() {
  const since = (waiting = []);
  let listed = null;
  try {
    const response = await fetch(onlineUrl, { cache: "no-store", signal: AbortSignal.timeout(10_000) });
    if (response.status === 401) return location.reload(); // to the form for the nickname
    if (response.ok) listed = (await response.json()).online;
  } catch {
    // The message below says so.
  }
  if (waiting !== since) return; // loaded again meanwhile
  waiting = null;
  if (listed) {
    subscribers.clear();
    for (const each of listed) change({ ...each, active: true });
    if (byId("error").textContent === ONLINE_ERROR) showError("");
  } else {
    showError(ONLINE_ERROR);
  }
  since.forEach(change);
  showOnline();
}

// The connection

let lastEventId = "";

function setState(state) {
  const shown = byId("state");
  if (shown.dataset.state === state) return;
  shown.dataset.state = state;
  shown.textContent = state;
}

function connect() {
  const url = new URL(hubUrl, location.href); // it has the id of the newest update from before the page was rendered
  if (lastEventId) url.searchParams.set("lastEventID", lastEventId);
  const source = new EventSource(url, { withCredentials: true });
  source.addEventListener("open", () => {
    setState("connected");
    loadOnline();
  });
  source.addEventListener("message", (event) => {
    lastEventId = event.lastEventId;
    showMessage(JSON.parse(event.data));
  });
  source.addEventListener("Subscription", (event) => {
    lastEventId = event.lastEventId;
    const subscription = JSON.parse(event.data);
    if (waiting) return waiting.push(subscription);
    change(subscription);
    showOnline();
  });
  source.addEventListener("error", () => {
    setState("reconnecting");
    // The browser reconnects by itself, unless the hub refused: the token has expired, or the server is a new one.
    if (source.readyState === EventSource.CLOSED) setTimeout(reconnect, RETRY_MS);
  });
}

async function reconnect() {
  await loadOnline(); // renews the token
  connect();
}

// A page from the browser's cache may belong to a user who has logged out.
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

connect();
