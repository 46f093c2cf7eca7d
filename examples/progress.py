"""A progress bar: a Celery worker publishes how far a job has come, and the page of the job shows it.

The worker and the server are two processes of one application, and its embedded hub is one hub for both. Start both in
this folder, as the same user (needs: pip install celery):

    celery --app progress.celery worker
    python progress.py

HOST and PORT are read from the environment. The tasks wait in a folder (CELERY_FOLDER); with BROKER_URL they wait in
Redis or RabbitMQ.

Try: reload the page in the middle of a job, or open its address in a second window: the bar stands where the job is.
Start a job while no worker runs, and then the worker.
"""

import os
import threading
import uuid
from pathlib import Path
from typing import Final

from celery import Celery
from flask import Flask, redirect, render_template_string, url_for
from flask.typing import ResponseReturnValue

from flask_mercure_sse import MercureSSE

app = Flask(__name__)
app.config.update(SECRET_KEY=os.environ.get("SECRET_KEY", "for this machine only, and 32 bytes"), MERCURE_HUB=True)
mercure = MercureSSE(app)

FOLDER: Final = Path(os.environ.get("CELERY_FOLDER", Path(app.instance_path, "celery")))
FOLDER.mkdir(parents=True, exist_ok=True)
STEPS: Final = 20
STEP_SECONDS: Final = float(os.environ.get("STEP_SECONDS", "0.25"))

celery = Celery("progress", broker=os.environ.get("BROKER_URL", "filesystem://localhost"))
celery.conf.broker_transport_options = {
    "data_folder_in": str(FOLDER),
    "data_folder_out": str(FOLDER),
    "control_folder": str(FOLDER / "control"),
}


def job_topic(job: str) -> str:
    return mercure.topic("/jobs/{}", job)


@celery.task(autoretry_for=(Exception,), max_retries=3, default_retry_delay=1)
def export(job: str) -> None:
    """Do the work, and say after each step how far it has come."""
    for step in range(STEPS + 1):
        mercure.publish(job_topic(job), {"percent": 100 * step // STEPS})
        threading.Event().wait(STEP_SECONDS)  # stands for the work


@app.get("/")
def index() -> ResponseReturnValue:
    return render_template_string(PAGE)


@app.post("/jobs")
def start() -> ResponseReturnValue:
    job = str(uuid.uuid4())
    export.delay(job)
    return redirect(url_for("show", job=job), 303)


@app.get("/jobs/<uuid:job>")
def show(job: uuid.UUID) -> ResponseReturnValue:
    # From the beginning: a page that comes late, or is loaded again, shows where the job is.
    return render_template_string(PAGE, url=mercure.hub_url(job_topic(str(job)), last_event_id="earliest"))


PAGE: Final = """
{% extends "base.html" %}
{% block title %}Export with a progress bar{% endblock %}
{% block badge %}{% if url %}{{ super() }}{% endif %}{% endblock %}
{% block try %}
Start a job. Reload its page meanwhile, or open its address in a second window: the bar stands where the job is.
{% endblock %}
{% block content %}
<div class="card stack">
  {% if url %}
  <label>Export <progress max="100" value="0"></progress></label>
  <p><span id="percent">0</span> % &ndash; <span role="status">Waiting for the worker</span></p>
  {% endif %}
  <form method="post" action="{{ url_for('start') }}"><button>Export everything</button></form>
</div>
{% if url %}
<script type="module">
import { subscribe } from "petasos-client";

const bar = document.querySelector("progress"), said = document.querySelector("main [role=status]");
const number = document.getElementById("percent");
const news = subscribe({{ url | tojson }}, [], { onState: showState });
news.on("message", (event) => {
  const { percent } = event.json();
  bar.value = number.textContent = percent;
  said.textContent = percent < 100 ? "The worker is exporting" : "Everything is exported";
  if (percent === 100) news.close();
});
</script>
{% endif %}
{% endblock %}
"""


if __name__ == "__main__":
    app.run(os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "5000")))
