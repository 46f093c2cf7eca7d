"""A dashboard with charts at 50 updates a second, drawn once for each frame of the screen.

The updates are typed (``mercure.event``): in debug mode each is checked when it is published, and ``flask mercure
types`` writes their types for TypeScript. The newest ten seconds are the hub's history: a new page begins with them.

Run it with ``python examples/dashboard.py``. HOST and PORT are read from the environment.

Try: two windows show the same. Stop the server and start it again, or go offline for a few seconds.
"""

import fcntl
import itertools
import math
import os
import random
import threading
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from flask import Flask, render_template_string
from flask.typing import ResponseReturnValue

from flask_mercure_sse import MercureError, MercureSSE

UPDATES_PER_SECOND: Final = 50
SECONDS: Final = 10

app = Flask(__name__)
app.config.update(MERCURE_HUB=True, MERCURE_HUB_RECONCILIATION_LENGTH=UPDATES_PER_SECOND * SECONDS)
mercure = MercureSSE(app)


@mercure.event("sample")
@dataclass
class Sample:
    number: int
    requests: float  # per second
    latency: float  # milliseconds
    load: float  # percent


def publish_samples() -> None:
    """Publish for ever, from one process: the others wait at the lock until that process ends."""
    Path(app.instance_path).mkdir(exist_ok=True)
    with Path(app.instance_path, "dashboard.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        load, began = 50.0, time.monotonic()
        for number in itertools.count():
            load += random.gauss(0, 1) + (50 + 25 * math.sin(number / 150) - load) / 30
            sample = Sample(
                number=number,
                requests=round(load * 12 + random.gauss(0, 25), 1),
                latency=round(20 + load**2 / 80 + random.expovariate(0.5), 1),
                load=round(load, 1),
            )
            try:
                mercure.publish("/dashboard", sample)
            except MercureError as error:
                app.logger.warning("A sample was not published: %s", error)
            time.sleep(max(0, began + number / UPDATES_PER_SECOND - time.monotonic()))


@app.before_request
@cache
def start_publisher() -> None:
    """With the first request, and not with the import: a server may fork its workers in between."""
    threading.Thread(target=publish_samples, daemon=True).start()


@app.get("/")
def index() -> ResponseReturnValue:
    url = mercure.hub_url("/dashboard", last_event_id="earliest")
    return render_template_string(PAGE, url=url, samples=UPDATES_PER_SECOND * SECONDS)


PAGE: Final = """
{% extends "base.html" %}
{% block title %}Dashboard{% endblock %}
{% block actions %}<button id="pause" class="quiet small" aria-pressed="false">Pause</button>{% endblock %}
{% block try %}
Two windows show the same. Stop the server and start it again, or go offline for a few seconds.
{% endblock %}
{% block content %}
<div class="charts">
  {% for key, name, unit, top in [("requests", "Requests", "per second", 1200), ("latency", "Latency", "ms", 120),
                                  ("load", "Load", "%", 100)] %}
  <section class="card stack">
    <h2>{{ name }} <b id="{{ key }}-now">&ndash;</b> <small class="note">{{ unit }}</small></h2>
    <canvas id="{{ key }}" data-top="{{ top }}" role="img" aria-label="{{ name }} of the last ten seconds"></canvas>
  </section>
  {% endfor %}
</div>
<p><b id="updates">0</b> updates a second, <b id="frames">0</b> frames a second</p>
<script type="module">
import { subscribe } from "petasos-client";

const charts = [...document.querySelectorAll("canvas")], samples = [];
let isNew = false, isPaused = false, updates = 0, frames = 0;

// An update only joins the list. It costs microseconds, however many there are.
subscribe({{ url | tojson }}, [], { onState: showState }).on("sample", (event) => {
  samples.push(event.json());
  if (samples.length > {{ samples }}) samples.shift();
  updates += 1;
  isNew = true;
});

// The screen shows a frame only once: what has come since the last one is drawn together. A hidden page draws nothing.
function frame() {
  if (isNew && !isPaused) {
    isNew = false;
    frames += 1;
    charts.forEach(draw);
    document.body.dataset.drawn = samples.at(-1).number;
  }
  requestAnimationFrame(frame);
}
requestAnimationFrame(frame);

function draw(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas, scale = devicePixelRatio;
  if (canvas.width !== Math.round(width * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const style = getComputedStyle(canvas), pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);

  pen.strokeStyle = style.borderBottomColor;
  pen.lineWidth = 1;
  pen.beginPath();
  for (let part = 1; part < 4; part += 1) {
    pen.moveTo(0, Math.round((height * part) / 4) + 0.5);
    pen.lineTo(width, Math.round((height * part) / 4) + 0.5);
  }
  pen.stroke();

  const x = (index) => width - ((samples.length - 1 - index) * width) / ({{ samples }} - 1);
  const y = (sample) => height - 2 - (sample[canvas.id] / canvas.dataset.top) * (height - 4);
  pen.beginPath();
  samples.forEach((sample, index) => pen.lineTo(x(index), y(sample)));
  pen.strokeStyle = pen.fillStyle = style.color;
  pen.lineWidth = 1.5;
  pen.stroke();
  pen.lineTo(width, height);
  pen.lineTo(x(0), height);
  pen.globalAlpha = 0.15;
  pen.fill();
  pen.globalAlpha = 1;
}

setInterval(() => {
  document.getElementById("updates").textContent = updates;
  document.getElementById("frames").textContent = frames;
  updates = frames = 0;
  if (isPaused || !samples.length) return;
  for (const { id } of charts) document.getElementById(`${id}-now`).textContent = samples.at(-1)[id].toFixed(0);
}, 1000);

document.getElementById("pause").addEventListener("click", ({ target }) => {
  isPaused = !isPaused;
  target.setAttribute("aria-pressed", isPaused);
  target.textContent = isPaused ? "Go on" : "Pause";
});
</script>
{% endblock %}
"""


if __name__ == "__main__":
    app.run(os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "5000")))
