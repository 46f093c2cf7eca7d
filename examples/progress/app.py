"""A progress bar: a Celery worker publishes how far a job has come, and the page of the job shows it.

The worker and the server are two processes of one application, and its embedded hub is one hub for both. Start both in
this folder, as the same user:

    celery --app app.celery worker
    flask run

The tasks wait in a folder (CELERY_FOLDER); with BROKER_URL they wait in Redis or RabbitMQ.
"""

import os
import tempfile
import threading
import uuid
from pathlib import Path
from typing import Any, Final

from celery import Celery
from flask import Flask, redirect, render_template, url_for
from flask.typing import ResponseReturnValue

from flask_mercure_sse import MercureSSE

app = Flask(__name__)
app.config.update(SECRET_KEY=os.environ.get("SECRET_KEY", "for this machine only, and 32 bytes"), MERCURE_HUB=True)
mercure = MercureSSE(app)

FOLDER: Final = Path(os.environ.get("CELERY_FOLDER", Path(tempfile.gettempdir()) / "flask-mercure-sse-progress"))
FOLDER.mkdir(parents=True, exist_ok=True)
STEPS: Final = 20
STEP_SECONDS: Final = float(os.environ.get("STEP_SECONDS", "0.25"))

celery = Celery("progress", broker=os.environ.get("BROKER_URL", "filesystem://"))
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
    return render_template("index.html")


@app.post("/jobs")
def start() -> ResponseReturnValue:
    job = str(uuid.uuid4())
    enqueue: Any = export
    enqueue.delay(job)
    return redirect(url_for("show", job=job), 303)


@app.get("/jobs/<uuid:job>")
def show(job: uuid.UUID) -> ResponseReturnValue:
    # From the beginning: a page that comes late, or is loaded again, shows where the job is.
    return render_template("job.html", url=mercure.hub_url(job_topic(str(job)), last_event_id="earliest"))
