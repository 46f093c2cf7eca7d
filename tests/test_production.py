"""examples/production as it stands: nginx, gunicorn with four sync workers on a Unix socket, and systemd's units."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import hubs
from clients import HUB_PATH, PATIENCE, Request, Stream
from production import EXAMPLE, SECRET, Host, Unit
from servers import ServerProcess, needs


@pytest.fixture
def host():
    host = Host()
    yield host
    host.close()


def test_the_units_are_what_systemd_takes(host):
    needs("systemd-analyze")
    units = [str(host.folder / "app" / name) for name in ("app.service", "app.socket")]
    ran = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    about = [line for line in ran.stderr.splitlines() if "app.s" in line]
    assert about == []


def test_the_files_name_one_socket_and_the_folders_of_the_page():
    service, listener = (Unit((EXAMPLE / f"app.{kind}").read_text()) for kind in ("service", "socket"))
    path = listener.one("ListenStream")
    assert f"server unix:{path} " in (EXAMPLE / "nginx.conf").read_text()
    assert f'bind = "unix:{path}"' in (EXAMPLE / "gunicorn.conf.py").read_text()
    assert service.one("Requires") == "app.socket"
    page = (EXAMPLE / "README.md").read_text()
    for name in (
        service.one("WorkingDirectory"),
        service.one("EnvironmentFile"),
        service.one("ExecStart").split("/bin/")[0],
    ):
        assert f" {name}" in page, name
    assert f"MERCURE_HUB_TRANSPORT=host:///run/{service.one('RuntimeDirectory')}" in page


def test_the_commands_of_the_page_copy_every_file_to_its_place(tmp_path):
    page = (EXAMPLE / "README.md").read_text()
    (block,) = (block for block in re.findall(r"^```\n(.*?)^```", page, re.DOTALL | re.MULTILINE) if "cp " in block)
    copying = [line for line in block.splitlines() if re.match(r"(cp|install -d) ", line)]
    for folder in ("srv", "etc/systemd/system", "etc/nginx/conf.d"):
        (tmp_path / folder).mkdir(parents=True)
    script = "set -e\n" + re.sub(r"(?<= )/(?=srv|etc)", f"{tmp_path}/", "\n".join(copying))
    subprocess.run(["sh", "-c", script], cwd=EXAMPLE, check=True, timeout=PATIENCE)
    copied = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    templates = {f"srv/app/templates/{path.name}" for path in (EXAMPLE / "templates").iterdir()}
    assert copied == templates | {
        "srv/app/app.py",
        "srv/app/gunicorn.conf.py",
        "etc/systemd/system/app.service",
        "etc/systemd/system/app.socket",
        "etc/nginx/conf.d/app.conf",
    }


def test_four_sync_workers_serve_more_streams_than_they_are_and_are_one_hub(host):
    host.start()
    streams = [host.open() for _ in range(12)]
    assert all(stream.opens() for stream in streams)
    published = [host.publish(f"news {number}") for number in range(40)]
    for stream in streams:
        assert [stream.event()["id"] for _ in published] == [each["id"] for each in published]
    assert len({each["worker"] for each in published}) > 1, "more than one worker has published"


def test_the_page_has_the_url_of_the_site(host):
    host.start()
    status, page = host.request("GET", "/")
    assert status == 200
    url = re.search(r'new EventSource\("(.*?)"\)', page)[1]
    assert url.startswith(f"{host.origin}{HUB_PATH}?topic=%2Fnews&lastEventID=")


def test_a_deploy_loses_nothing(host):
    host.start()
    stream = host.open()
    assert stream.opens()
    first = host.publish("before")
    assert stream.event()["id"] == first["id"]
    meanwhile = host.publish("on the way")
    host.app.stop()
    # A browser gets the end of its stream, and comes back.
    assert stream.event()["id"] == meanwhile["id"]
    with pytest.raises(EOFError):
        stream.event()
    host.start_app()
    again = host.open(first["id"])
    assert again.event()["id"] == meanwhile["id"]
    after = host.publish("after")
    assert again.event()["id"] == after["id"]


def test_a_script_with_the_same_environment_publishes_to_the_pages(host):
    host.start()
    stream = host.open()
    assert stream.opens()
    code = "from app import mercure; print(mercure.publish('/news', {'text': 'from a script'}))"
    command = [sys.executable, "-c", code]
    ran = subprocess.run(
        command,
        cwd=host.folder / "app",
        env=host.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert stream.event()["id"] == ran.stdout.strip(), ran.stderr


def test_the_doctor_finds_nothing(host):
    host.start()
    command = [sys.executable, "-m", "flask", "mercure", "doctor", "--seconds", "1", host.origin]
    environment = {**host.environment, "SSL_CERT_FILE": str(host.certificate)}
    ran = subprocess.run(
        command, cwd=host.folder / "app", env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert ran.returncode == 0, ran.stdout
    assert "problem: 0" in ran.stdout
    assert "warning: 0" in ran.stdout, ran.stdout
    assert "gunicorn, 4 workers, sync (gunicorn.conf.py)" in ran.stdout
    assert f"host://{host.folder}/run/app" in "".join(ran.stdout.split())


def test_a_browser_gets_an_empty_stream_while_there_is_no_application(host):
    host.start()
    host.app.stop()
    host.listener.close()
    Path(host.socket_unit.one("ListenStream")).unlink()
    stream = host.open()
    assert stream.status == 200
    assert stream.headers["Content-Type"] == "text/event-stream"
    assert re.fullmatch(rb"retry: \d+\n\n", stream.response.read())


def test_the_three_lines_of_the_readme_are_enough(tmp_path, stack):
    text = (hubs.ROOT / "README.md").read_text(encoding="utf-8")
    blocks = [block for _, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)]
    (application,) = (block for block in blocks if block.startswith("from flask import Flask"))
    (lines,) = (block for block in blocks if "TRUSTED_HOSTS" in block)
    (command,) = (block for block in blocks if block.startswith("gunicorn"))
    (tmp_path / "app.py").write_text(application.replace("mercure =", f"{lines}mercure ="))
    (tmp_path / "gunicorn.conf.py").write_text("")
    environment = {**os.environ, "SECRET_KEY": SECRET}
    arguments = shlex.split(command.replace("127.0.0.1:8000", "127.0.0.1:0"))
    assert arguments[:3] == ["gunicorn", "--workers", "4"]
    program = str(Path(sys.executable).parent / "gunicorn")
    server = ServerProcess(["env", f"SECRET_KEY={SECRET}", program, *arguments[1:]], "Booting worker", tmp_path)
    stack.callback(server.kill)
    url = re.search(r"Listening at: (http://[0-9.:]+)", "".join(server.lines))[1]
    host = {"Host": "example.com"}
    refusal = Request("GET", f"{url}{HUB_PATH}", {**host, "X-Forwarded-Proto": "https"})
    assert refusal.headers["Link"] == '<https://example.com/.well-known/mercure>; rel="mercure"', (
        "the scheme of the proxy"
    )
    streams = [Stream(f"{url}{HUB_PATH}?topic=topic", host) for _ in range(8)]
    for stream in streams:
        stack.callback(stream.close)
        assert stream.opens()
    publish = [sys.executable, "-m", "flask", "mercure", "publish", "topic", "message"]
    ran = subprocess.run(
        publish, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert [stream.event() for stream in streams] == [{"id": ran.stdout.strip(), "data": "message"}] * 8, ran.stderr
