"""What the doctor finds in the server of an application, its log and its machine."""

from __future__ import annotations

import pytest

from doctor.report import examine


@pytest.mark.parametrize(
    ("command", "level", "found"),
    [
        ("/app/bin/gunicorn app:app", "ok", "gunicorn, 1 worker, sync (--server)"),
        ("python -m gunicorn -w 4 -k gthread --threads 8 app:app", "ok", "gunicorn, 4 workers, gthread (--server)"),
        ("gunicorn --certfile c.pem --keyfile k.pem app:app", "problem", "TLS in the server"),
        ("gunicorn -k gevent --certfile c.pem --keyfile k.pem app:app", "warning", "TLS in the server"),
        ("gunicorn -k uvicorn.workers.UvicornWorker app:app", "problem", "serves ASGI"),
        ("gunicorn --workers many app:app", "warning", "gunicorn does not take it"),
        ("uwsgi --http :8000 --processes=3 --enable-threads -w app", "ok", "uWSGI, 3 workers"),
        ("uwsgi --http :8000 --processes 3 -w app", "warning", "without threads"),
        ("uwsgi --https :8443,c.pem,k.pem --enable-threads -w app", "ok", "uWSGI, 1 worker"),
        ("uwsgi --https-socket :8443,c.pem,k.pem --enable-threads -w app", "problem", "TLS in the server"),
        ("uwsgi --https-socket :8443,c.pem,k.pem --threads 9 -w app", "warning", "TLS in the server"),
        ("waitress-serve app:app", "warning", "each stream takes one of its threads"),
        ('gunicorn "', "warning", "--server"),
    ],
)
def test_the_command_of_the_server_is_read(embedded, command, level, found):
    report = examine(embedded(), "--server", command)
    assert report.level("server") == [level]
    assert found in report.line("server")


def test_the_files_and_variables_of_the_server_are_read_in_its_order(embedded, tmp_path, monkeypatch):
    app = embedded()
    assert "not known" in examine(app).line("server")
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    assert "gunicorn, 2 workers, sync (WEB_CONCURRENCY)" in examine(app).line("server")
    (tmp_path / "gunicorn.conf.py").write_text("workers = 3\nworker_class = 'gthread'\n")
    assert "gunicorn, 3 workers, gthread" in examine(app).line("server")
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--workers=5")
    assert "gunicorn, 5 workers, gthread" in examine(app).line("server")
    assert "gunicorn, 6 workers, gthread" in examine(app, "--server", "gunicorn -w 6 app:app").line("server")
    (tmp_path / "gunicorn.conf.py").write_text("workers = missing\n")
    assert "gunicorn.conf.py fails: NameError" in examine(app).line("server")
    (tmp_path / "gunicorn.conf.py").unlink()
    monkeypatch.delenv("GUNICORN_CMD_ARGS")
    (tmp_path / "uwsgi.ini").write_text("[uwsgi]\nprocesses = 4\nenable-threads = true\nthreads = 8\n")
    assert "uWSGI, 4 workers, threads (uwsgi.ini)" in examine(app).line("server")


def test_workers_without_one_log_are_found(embedded, tmp_path):
    report = examine(embedded(MERCURE_HUB_TRANSPORT="memory:"), "--server", "gunicorn --workers 4 app:app")
    assert report.level("log") == ["problem"]
    assert "remove MERCURE_HUB_TRANSPORT=memory:" in report.changes["log"]
    report = examine(
        embedded(MERCURE_HUB_TRANSPORT=f"durable://{tmp_path}/log"), "--server", "gunicorn --workers 4 app:app"
    )
    assert report.level("log") == ["problem"]
    assert examine(embedded(MERCURE_HUB_TRANSPORT=f"durable://{tmp_path}/log")).level("log") == ["ok"]


def test_the_reason_why_processes_cannot_share_a_log_is_told(embedded, monkeypatch):
    monkeypatch.setenv("MERCURE_HUB_HOST_DIRECTORY", "/" + "x" * 120)
    report = examine(embedded(), "--server", "gunicorn --workers 2 app:app")
    assert report.level("log") == ["problem"]
    assert "its path is too long" in report.line("log")


def test_a_store_that_does_not_answer_is_found_without_its_password(embedded):
    report = examine(embedded(MERCURE_HUB_TRANSPORT="redis://user:hunter2@127.0.0.1:9/0?timeout=1"))
    assert report.level("log") == ["problem"]
    assert "redis://127.0.0.1:9/0" in report.line("log")
    assert "hunter2" not in report.output


def test_a_log_that_other_users_may_write_is_found(embedded, host_logs):
    host_logs.mkdir(exist_ok=True)
    directory = host_logs / "shared"
    directory.mkdir()
    directory.chmod(0o777)
    report = examine(embedded(MERCURE_HUB_TRANSPORT=f"host://{directory}"))
    assert report.level("log") == ["problem"]
    assert "as the user of the application" in report.changes["log"]


def test_too_few_open_files_are_found(embedded):
    report = examine(embedded(), "--streams", "1000000000")
    assert report.level("open files") == ["warning"]
    assert "LimitNOFILE" in report.changes["open files"]
    assert examine(embedded(), "--streams", "1").level("open files") == ["ok"]
