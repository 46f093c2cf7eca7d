"""What became of an application's updates: ``mercure.stats()``, and the same through prometheus_client."""

import os
import subprocess
import sys
import threading

import pytest
from flask import Flask
from prometheus_client import CollectorRegistry

from flask_mercure_sse import MercureError, MercureSSE, Stats
from flask_mercure_sse.counters import RESULTS

NOWHERE = "http://127.0.0.1:1/.well-known/mercure"


def make(**settings):
    """An application whose hub is unavailable."""
    app = Flask("stats")
    app.config["SECRET_KEY"] = "k" * 32
    return MercureSSE(app, hub_url=NOWHERE, **settings)


@pytest.fixture
def queueing(stack):
    """One that publishes in the background, with room for two updates."""
    mercure = make(publish_background=True, publish_queue_length=2, publish_drain_seconds=0)
    stack.callback(clear, mercure)
    return mercure


def clear(mercure):
    for queue in mercure.state.queues.queues:
        queue.drop()


def value(registry, result):
    return registry.get_sample_value("flask_mercure_updates_total", {"result": result})


def test_published_and_failed_updates_are_counted(mercure):
    assert (mercure.stats().published, mercure.stats().failed) == (0, 0)
    mercure.publish("a", "b")
    mercure.publish_many([("a", "c"), ("a", "d")])
    elsewhere = make()
    with pytest.raises(MercureError):
        elsewhere.publish("a", "b")
    assert mercure.stats().published == 3
    assert elsewhere.stats() == Stats(failed=1)


def test_the_metrics_of_the_embedded_hub_are_there_once_it_runs(
    mercure, hub_url, open_stream, subscribe_url, wait_until
):
    assert mercure.stats().hub is None
    mercure.publish("a", "b")
    stream = open_stream(subscribe_url(hub_url, "a"))
    assert stream.opens()
    mercure.publish("a", "c")
    assert stream.event()["data"] == "c"
    hub = mercure.stats().hub
    assert hub["mercure_updates_total"] == 2
    assert hub["petasos_streams_opened_total"] >= 1
    registry = CollectorRegistry()
    mercure.register_metrics(registry)
    assert registry.get_sample_value("mercure_updates_total") == 2
    # A delivery is counted after the round that wrote it.
    wait_until(lambda: registry.get_sample_value("petasos_deliveries_total") >= 1)


def test_captured_updates_are_not_counted(mercure):
    with mercure.capture() as updates:
        mercure.publish("a", "b")
    assert (len(updates), mercure.stats().published) == (1, 0)


def test_updates_in_the_background_are_counted_as_queued_and_dropped(queueing):
    for number in range(5):
        queueing.publish("a", str(number))
    stats = queueing.stats()
    assert (stats.queued, stats.dropped, stats.failed, stats.published) == (2, 3, 0, 0)
    clear(queueing)
    stats = queueing.stats()
    assert (stats.queued, stats.dropped) == (0, 5)


def test_threads_lose_no_count(mercure):
    counters = mercure.state.counters
    threads = [threading.Thread(target=lambda: [counters.add("published") for _ in range(2_000)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert mercure.stats().published == 16_000


def test_prometheus_has_the_counters_from_before_and_after_it_was_told(mercure, queueing):
    mercure.publish("a", "b")
    registry = CollectorRegistry()
    mercure.register_metrics(registry)
    mercure.publish("a", "b")
    assert value(registry, "published") == 2
    assert {result: value(registry, result) for result in RESULTS if result != "published"} == dict.fromkeys(
        ("failed", "retried", "refused", "dropped"), 0
    )
    with pytest.raises(ValueError, match="Duplicated"):
        mercure.register_metrics(registry)
    registry = CollectorRegistry()
    queueing.register_metrics(registry)
    for number in range(3):
        queueing.publish("a", str(number))
    assert registry.get_sample_value("flask_mercure_updates_queued") == 2
    assert value(registry, "dropped") == 1


# Two processes of an application, as the workers of gunicorn are. The first one answers for both.
WORKERS = """
import os
from flask import Flask
from prometheus_client import CollectorRegistry, generate_latest, multiprocess
from flask_mercure_sse import MercureSSE

app = Flask("workers")
app.testing = True
mercure = MercureSSE(app)
mercure.register_metrics()
if os.fork() == 0:
    for _ in range(3):
        mercure.publish("a", "b")
    os._exit(0)
os.wait()
mercure.publish("a", "b")
registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
print(generate_latest(registry).decode())
"""


def test_workers_are_added_up_in_the_multiprocess_mode_of_prometheus(tmp_path):
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", WORKERS], env=environment, capture_output=True, text=True, check=True)
    assert 'flask_mercure_updates_total{result="published"} 4.0' in ran.stdout


def test_without_prometheus_client_the_error_says_what_to_install(mercure, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(ImportError, match="pip install prometheus-client"):
        mercure.register_metrics()


def test_a_forked_process_counts_from_nothing(mercure):
    mercure.publish("a", "b")
    receive, send = os.pipe()
    if os.fork() == 0:
        os.write(send, str(mercure.state.counters.results["published"]).encode())
        os._exit(0)
    os.close(send)
    with open(receive) as answer:
        assert answer.read() == "0"
    os.wait()
