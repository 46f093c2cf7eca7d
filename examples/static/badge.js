"use strict";

// What the badge in the corner says of the connection: pass showState to subscribe() as onState.
let connection = "connecting";

function showState(state) {
  connection = state;
  const names = { open: "live", waiting: "reconnecting", refused: "refused, trying again", closed: "ended" };
  const badge = document.getElementById("state");
  badge.dataset.state = navigator.onLine ? connection : "offline";
  badge.textContent = navigator.onLine ? (names[connection] ?? connection) : "offline";
}

// The adapters for htmx and other libraries say it with an event.
document.addEventListener("mercure:state", (event) => showState(event.detail));

addEventListener("online", () => showState(connection));
addEventListener("offline", () => showState(connection));
