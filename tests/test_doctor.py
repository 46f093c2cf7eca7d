"""``flask mercure doctor``: what it finds, each thing provoked: in the application, its server, hub and proxy."""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys

import pytest
from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from clients import PATIENCE, SECRET, Token
from flask_mercure_sse import MercureSSE
from flask_mercure_sse.doctor import clock, cookie
from proxies import Nginx, certificate

PUBLISHER, SUBSCRIBER = "publisher key of at least 32 bytes", "subscriber key of at least 32 bytes"


class Report:
    """The output of the command."""

    def __init__(self, result):
        self.exit_code, self.output = result.exit_code, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        joined = re.sub(r"\n {9}(?!change: )", " ", self.output)
        self.lines = [line for line in joined.splitlines() if re.match(r"ok  |warning |problem ", line)]
        self.changes = dict(re.findall(r"^\w+ +([^:]+): .*\n {9}change: (.*)", joined, re.MULTILINE))

    def level(self, check):
        return [line.split()[0] for line in self.lines if line.split(maxsplit=1)[1].strip().startswith(f"{check}: ")]

    def line(self, check):
        (found,) = (line for line in self.lines if line.split(maxsplit=1)[1].strip().startswith(f"{check}: "))
        return found

    @property
    def bad(self):
        return [line for line in self.lines if not line.startswith("ok ")]


def examine(app, *arguments):
    report = Report(app.test_cli_runner().invoke(args=["mercure", "doctor", *arguments]))
    assert report.exit_code == (1 if any(line.startswith("problem") for line in report.lines) else 0)
    return report


@pytest.fixture
def embedded(tmp_path, monkeypatch):
    """An application of production with the embedded hub. The command runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("GUNICORN_CMD_ARGS", "WEB_CONCURRENCY"):
        monkeypatch.delenv(name, raising=False)

    def make(**config):
        app = Flask("production")
        hosts = ["localhost", "127.0.0.1", "app.example"]
        app.config.update({"SECRET_KEY": SECRET, "MERCURE_HUB": True, "TRUSTED_HOSTS": hosts, **config})
        MercureSSE(app)
        return app

    return make


@pytest.fixture
def elsewhere(standalone):
    """An application whose hub is a process of its own."""

    def make(*options, **config):
        app = Flask("production")
        app.config.update(
            MERCURE_PUBLISHER_SECRET_KEY=PUBLISHER, MERCURE_SUBSCRIBER_SECRET_KEY=SUBSCRIBER, MERCURE_HUB=False
        )
        hub = standalone("--publisher-secret", PUBLISHER, "--subscriber-secret", SUBSCRIBER, *options).hub
        app.config.update({"MERCURE_HUB_URL": hub, **config})
        MercureSSE(app)
        return app

    return make


# The application


def test_the_hub_of_debug_mode_is_not_the_one_of_production(embedded):
    app = embedded(MERCURE_HUB=None)
    assert "no setting names a hub" in examine(app, "--seconds", "0").line("hub")
    # Flask's command line sets the debug mode itself.
    environment = {**os.environ, "FLASK_APP": "served", "FLASK_DEBUG": "1"}
    code = "from flask import Flask\nfrom flask_mercure_sse import MercureSSE\napp = Flask('served')\nMercureSSE(app)\n"
    with open("served.py", "w") as file:
        file.write(code)
    command = [sys.executable, "-m", "flask", "mercure", "doctor"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert "embedded because of the debug mode" in ran.stdout
    assert "\x1b" not in ran.stdout, "no colours"
    assert all(len(line) <= 80 for line in ran.stdout.splitlines())
    assert "Traceback" not in ran.stderr


def test_weak_missing_and_wrong_keys_are_found_and_never_shown(embedded):
    report = examine(embedded(SECRET_KEY="tooshort"))
    assert report.level("keys") == ["warning"]
    assert "tooshort" not in report.output
    report = examine(embedded(SECRET_KEY=None), "--server", "gunicorn --workers 2 app:app")
    assert "SECRET_KEY is not set" in report.line("keys")
    assert report.level("keys") == ["problem"], "each worker would sign with a key of its own"
    app = embedded()
    app.config["SECRET_KEY"] = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPbmmv8mB9S4y6cFQYdTOKyHSmpvJnRoZTLYoVkXJzV"
    report = examine(app)
    assert report.level("keys") == ["problem"]
    assert "AAAAC3" not in report.output
    assert examine(embedded()).level("keys") == ["ok"]


def test_a_publishers_token_that_ends_is_found():
    def report(seconds):
        end = datetime.datetime.now(datetime.timezone.utc).timestamp() + seconds
        app = Flask("elsewhere")
        app.config["SECRET_KEY"] = SECRET
        token = Token.sign({"mercure": {"publish": ["*"]}, "exp": int(end)})
        MercureSSE(app, hub_url="http://127.0.0.1:9/.well-known/mercure", publisher_jwt=token)
        report = examine(app)
        assert token not in report.output
        return report.level("publisher's token")

    assert report(-10) == ["problem"]
    assert report(3600) == ["warning"]
    assert report(90 * 24 * 3600) == ["ok"]


def test_tokens_that_never_end_are_found(embedded):
    assert examine(embedded(MERCURE_JWT_TTL=0)).level("tokens") == ["warning"]


# The server


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


# The hub elsewhere


def test_a_hub_elsewhere_that_fits_has_no_finding(elsewhere):
    report = examine(elsewhere())
    assert report.bad == []
    assert "speaks 0.x and 1.0; everybody may subscribe" in report.line("hub elsewhere")
    assert report.level("round trip") == report.level("clock") == ["ok"]


@pytest.mark.parametrize("role", ["SUBSCRIBER", "PUBLISHER"])
def test_a_key_that_is_not_the_hubs_is_found(elsewhere, role):
    report = examine(elsewhere(**{f"MERCURE_{role}_SECRET_KEY": "another key of more than 32 bytes"}))
    assert report.level("round trip") == ["problem"]
    assert f"MERCURE_{role}_SECRET_KEY" in report.changes["round trip"]
    assert "another key" not in report.output


def test_a_hub_that_is_not_there_is_found():
    app = Flask("elsewhere")
    app.config["SECRET_KEY"] = SECRET
    MercureSSE(app, hub_url="http://127.0.0.1:9/.well-known/mercure")
    report = examine(app)
    assert report.level("hub elsewhere") == ["problem"]
    assert report.level("round trip") == []


def test_a_server_that_is_no_hub_is_found(serve):
    app = Flask("elsewhere")
    app.config["SECRET_KEY"] = SECRET
    MercureSSE(app, hub_url=serve(Flask("no hub")) + "/.well-known/mercure")
    report = examine(app)
    assert "answers 404, so it is no hub" in report.line("hub elsewhere")


def test_a_hub_of_the_other_dialect_is_found(fake_hub):
    refused = b"HTTP/1.1 400 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    stream = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    app = Flask("elsewhere")
    app.config["SECRET_KEY"] = SECRET
    MercureSSE(app, hub_url=fake_hub(refused, stream, stream))
    report = examine(app)
    assert "speaks 1.0, and the application 0.x" in report.line("hub elsewhere")
    assert "MERCURE_PROTOCOL = '1.0'" in report.changes["hub elsewhere"]


def test_a_clock_that_is_wrong_is_found():
    date = "Thu, 29 Feb 2024 12:00:00 GMT"
    now = datetime.datetime(2024, 2, 29, 12, 0, 20, tzinfo=datetime.timezone.utc)
    assert clock.check(date, now).level == "ok"
    ahead = clock.check(date, now + datetime.timedelta(seconds=60))
    assert (ahead.level, ahead.found[:37]) == ("warning", "this machine is 80 s ahead of the ser")
    assert clock.check(date, now - datetime.timedelta(seconds=80)).level == "warning"
    assert clock.check("", now) is None


# Pages


def test_the_origins_of_pages_are_asked_about_as_three_clients_ask(elsewhere):
    report = examine(
        elsewhere("--cors-origins", "https://app.example"),
        "--origin",
        "https://app.example",
        "--origin",
        "https://no.example",
    )
    assert report.level("CORS") == ["ok", "problem"]
    assert "EventSource, fetch, htmx" in report.lines[-1]
    assert "--cors-origins https://no.example" in report.changes["CORS"]
    report = examine(elsewhere("--cors-origins", "*"), "--origin", "https://app.example")
    assert report.level("CORS") == ["warning"]
    assert "browsers block" not in report.line("cookie"), "the hub is on this machine"
    assert "no cookie of app.example reaches the hub at 127.0.0.1" in report.line("cookie")


def test_an_embedded_hub_has_the_origin_of_its_application(embedded):
    app = embedded(SERVER_NAME="app.example", PREFERRED_URL_SCHEME="https")
    report = examine(app, "--origin", "https://app.example", "--origin", "https://other.example")
    assert report.level("CORS") == ["ok", "problem"]

    app = embedded(SERVER_NAME="app.example", PREFERRED_URL_SCHEME="https")

    @app.after_request
    def allow(response):
        response.headers["Access-Control-Allow-Origin"] = "https://other.example"
        response.headers["Access-Control-Allow-Credentials"] = "true"
        response.headers["Access-Control-Allow-Headers"] = (
            "authorization, last-event-id, hx-current-url, hx-request, hx-target"
        )
        return response

    assert examine(app, "--origin", "https://other.example").level("CORS") == ["ok"], "as with flask-cors"


@pytest.mark.parametrize(
    ("page", "hub", "level", "found"),
    [
        ("https://app.example.com", "https://hub.example.com/.well-known/mercure", "ok", "Domain example.com"),
        ("https://app.example.com", "https://app.example.com/.well-known/mercure", "ok", "app.example.com only"),
        ("https://app.example.com", "https://hub.example.org/.well-known/mercure", "warning", "no cookie"),
        ("https://app.example.com", "http://app.example.com/.well-known/mercure", "problem", "browsers block http"),
        ("http://localhost:5000", "http://localhost:5500/.well-known/mercure", "ok", "withCredentials"),
    ],
)
def test_the_cookie_has_to_reach_the_hub(page, hub, level, found):
    app = Flask("elsewhere")
    app.config["SECRET_KEY"] = SECRET
    state = MercureSSE(app, hub_url="http://localhost:3000/.well-known/mercure", public_hub_url=hub).state
    finding = cookie.check(state, page)
    assert finding.level == level
    assert found in finding.found


def test_a_secure_cookie_without_tls_is_found():
    app = Flask("elsewhere")
    app.config["SECRET_KEY"] = SECRET
    url = "http://app.example.com/.well-known/mercure"
    state = MercureSSE(app, hub_url=url, protocol="1.0").state
    assert "is for https only" in cookie.check(state, "http://app.example.com").found


@pytest.mark.parametrize(
    ("config", "levels"),
    [
        ({}, ["warning"]),
        ({"TRUSTED_HOSTS": ["example.com"]}, []),
        ({"SERVER_NAME": "example.com"}, []),
        ({"MERCURE_PUBLIC_HUB_URL": "https://example.com/.well-known/mercure"}, []),
        ({"MERCURE_HUB": False, "MERCURE_HUB_URL": True}, ["warning"]),
        ({"MERCURE_HUB": False, "MERCURE_HUB_URL": "http://127.0.0.1:9/.well-known/mercure"}, []),
    ],
)
def test_hub_urls_whose_host_any_client_can_choose_are_found(embedded, config, levels):
    report = examine(embedded(**{"TRUSTED_HOSTS": None, **config}))
    assert report.level("host") == levels


def test_a_host_that_the_application_refuses_is_found(embedded):
    report = examine(embedded(TRUSTED_HOSTS=["example.com"]), "http://other.example")
    assert "refuses requests for the host" in report.line("host")


# The site, through nginx


@pytest.fixture
def site(embedded, serve, stack, tmp_path, monkeypatch):
    """Examines an application behind nginx with the configuration of deploy/, with lines put into it."""

    def start(lines="", *arguments, replaced=None, secure=False, trusted=None, proxy_fix=True, **config):
        app = embedded(**config)
        if proxy_fix:
            app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1)
        listen = serve(app).removeprefix("http://")
        put = {"proxy_buffering off;": f"proxy_buffering off; {lines}"} if lines else {}
        nginx = Nginx(tmp_path, [listen], {**put, **(replaced or {})})
        stack.callback(nginx.close)
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted or tmp_path / "hub.crt"))
        return examine(app, *(arguments or ("--seconds", "0")), nginx.secure_url if secure else nginx.url)

    return start


SITE = ("site", "HTTP/2", "clock", "tokens", "compression", "headers", "buffering", "reconnection", "idle time-out")


def test_a_site_with_the_configuration_of_deploy_has_no_finding(site):
    four_workers = ["--server", "gunicorn --workers 4 --bind unix:/run/app/web.socket app:app"]
    report = site("", "--seconds", "2", *four_workers, secure=True, MERCURE_HUB_KEEPALIVE_INTERVAL=0.5)
    assert report.bad == []
    assert [report.level(check) for check in SITE] == [["ok"]] * len(SITE)
    assert "with signs of life" in report.line("idle time-out")
    assert SECRET not in report.output
    assert "eyJ" not in report.output, "no token"


class BufferingNginx(Nginx):
    """As many copy it from somewhere: everything is buffered, whatever the application says."""

    text = """
    server {
        listen 80;
        listen 443 ssl http2;
        ssl_certificate /etc/nginx/certificates/hub.crt;
        ssl_certificate_key /etc/nginx/certificates/hub.key;
        location / {
            proxy_set_header Host $http_host;
            proxy_buffering on;
            proxy_ignore_headers X-Accel-Buffering;
            proxy_pass http://petasos1:5500;
        }
    }
    """

    def __init__(self, directory, nodes):
        self.configuration = directory / "buffering.conf"
        self.configuration.write_text(self.text + "# petasos2:5500")
        super().__init__(directory, nodes)


def test_protocol_1_0_has_no_finding_either(site, elsewhere):
    report = site("", secure=True, MERCURE_PROTOCOL="1.0")
    assert [report.level(check) for check in SITE[:-1]] == [["ok"]] * (len(SITE) - 1), report.output
    # The standalone hub of a test does not know its port.
    app = elsewhere(MERCURE_PROTOCOL="1.0", MERCURE_JWT_AUDIENCE="http://localhost/.well-known/mercure")
    assert examine(app).bad == []
    report = examine(elsewhere(MERCURE_PROTOCOL="1.0", MERCURE_JWT_AUDIENCE="https://other.example/"))
    assert report.level("round trip") == ["problem"]
    assert "tokens are for https://other.example/ (MERCURE_JWT_AUDIENCE)" in report.changes["round trip"]


def test_a_proxy_that_buffers_is_found(embedded, serve, stack, tmp_path):
    app = embedded()
    nginx = BufferingNginx(tmp_path, [serve(app).removeprefix("http://")])
    stack.callback(nginx.close)
    report = examine(app, "--seconds", "0", nginx.url)
    assert report.level("buffering") == ["problem"], report.output
    assert "proxy_buffering off" in report.changes["buffering"]


def test_a_proxy_that_compresses_is_found(site):
    report = site("gzip on; gzip_types text/event-stream; gzip_proxied any; gzip_min_length 0;")
    assert report.level("compression") == ["warning"]
    assert "(gzip)" in report.line("compression")


def test_a_proxy_that_cuts_idle_streams_is_found(site):
    report = site("", "--seconds", "20", replaced={"proxy_read_timeout 60s;": "proxy_read_timeout 1s;"})
    assert report.level("idle time-out") == ["problem"]
    assert re.search(r"cut after \d\.\d s", report.line("idle time-out"))
    assert "proxy_read_timeout" in report.changes["idle time-out"]


def test_a_silence_that_is_longer_than_the_keep_alive_is_found(site, monkeypatch):
    # The hub of the running application sends fewer signs of life than the configuration says.
    import flask_mercure_sse.doctor.site as checked

    monkeypatch.setattr(checked, "_KEEP_ALIVE_LATE_SECONDS", -14.5)
    report = site("", "--seconds", "1")
    assert "of silence, though" in report.line("idle time-out")


@pytest.mark.parametrize(
    ("lines", "check", "level", "found"),
    [
        ("proxy_hide_header Cache-Control;", "headers", "warning", "a cache may keep the stream"),
        ("proxy_hide_header Mercure-Last-Event-ID;", "headers", "warning", "Mercure-Last-Event-ID of the answer"),
        ('proxy_set_header Last-Event-ID "";', "reconnection", "problem", "browsers that come back miss updates"),
        ('proxy_set_header Cookie "";', "tokens", "problem", "cookies do not reach the hub"),
        ('proxy_set_header Authorization "";', "tokens", "warning", "only browsers with a cookie"),
    ],
)
def test_header_fields_that_a_proxy_drops_are_found(site, lines, check, level, found):
    report = site(lines)
    assert report.level(check) == [level]
    assert found in report.line(check)


@pytest.mark.parametrize("lost", ["by the proxy", "by the server"])
def test_a_scheme_that_does_not_reach_the_application_is_found(site, lost):
    replaced = {"proxy_set_header X-Forwarded-Proto $scheme;": ""} if lost == "by the proxy" else None
    report = site(replaced=replaced, secure=True, proxy_fix=lost != "by the server")
    assert report.level("scheme") == ["problem"]
    assert "pages over https would open http://localhost:" in report.line("scheme")
    assert "X-Forwarded-Proto" in report.changes["scheme"]


def test_a_host_that_does_not_reach_the_application_is_found(site):
    report = site(replaced={"proxy_set_header Host $http_host;": "proxy_set_header Host 127.0.0.1:9;"})
    assert report.level("host") == ["warning"]
    assert "pages would open http://127.0.0.1:9/.well-known/mercure" in report.line("host")


def test_a_site_without_http_2_is_found(site):
    report = site(replaced={" ssl http2;": " ssl;"}, secure=True)
    assert report.level("HTTP/2") == ["warning"]
    assert "seventh tab" in report.line("HTTP/2")


def test_a_redirection_is_found(site):
    report = site(
        replaced={
            "location = /.well-known/mercure {": "location = /.well-known/mercure { return 301 https://x.example/hub?a=b;"
        }
    )
    assert "is redirected to https://x.example/hub" in report.line("site")
    assert "a=b" not in report.line("site")


def test_a_password_in_front_of_the_hub_is_found(fake_hub, embedded):
    url = fake_hub(
        b'HTTP/1.1 401 X\r\nWWW-Authenticate: Basic realm="x"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'
    )
    assert "wants a password" in examine(embedded(), "--seconds", "0", url).line("site")


@pytest.mark.parametrize(("status", "found"), [(404, "it is no hub"), (502, "does not reach the hub")])
def test_a_proxy_that_does_not_lead_to_the_hub_is_found(fake_hub, embedded, status, found):
    url = fake_hub(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
    assert found in examine(embedded(), "--seconds", "0", url).line("site")


def test_a_certificate_that_browsers_refuse_is_found(site, tmp_path):
    (tmp_path / "other").mkdir()
    public, _ = certificate(tmp_path / "other")
    report = site(secure=True, trusted=public)
    assert report.level("site") == ["problem"]
    assert "browsers refuse the certificate" in report.changes["site"]


def test_a_site_with_another_key_is_found(embedded, serve):
    url = serve(embedded())
    report = examine(embedded(SECRET_KEY="another secret of more than 32 bytes"), "--seconds", "0", url)
    assert report.level("tokens") == ["problem"]
    assert "refuses the application's subscribers" in report.line("tokens")


def test_a_site_with_another_log_is_found(embedded, serve):
    url = serve(embedded(MERCURE_HUB_TRANSPORT="memory:"))
    # It sends to the hub elsewhere, and listens at the site.
    other = serve(embedded(MERCURE_HUB_ALLOW_PUBLISH=True)) + "/.well-known/mercure"
    app = embedded(MERCURE_HUB=False, MERCURE_HUB_URL=other, MERCURE_PUBLIC_HUB_URL=url + "/.well-known/mercure")
    report = examine(app, "--seconds", "0", url)
    assert report.level("events") == ["problem"]
    assert "lead to the same hub" in report.changes["events"]


def test_a_command_that_does_not_run_as_the_application_does_is_found(embedded, serve):
    url = serve(embedded())
    report = examine(embedded(MERCURE_HUB_TRANSPORT="host:?name=other"), "--seconds", "0", url)
    assert report.level("events") == ["problem"]
    assert "as the user and with the configuration" in report.changes["events"]


def test_a_log_in_memory_is_out_of_reach(embedded, serve):
    app = embedded(MERCURE_HUB_TRANSPORT="memory:", MERCURE_HUB_ALLOW_PUBLISH=False)
    report = examine(app, "--seconds", "0", serve(app))
    assert report.level("events") == ["warning"]
    app = embedded(MERCURE_HUB_TRANSPORT="memory:", MERCURE_HUB_ALLOW_PUBLISH=True)
    assert examine(app, "--seconds", "0", serve(app)).level("buffering") == ["ok"], "published over HTTP"


def test_a_site_without_history_is_found(embedded, serve):
    app = embedded(MERCURE_HUB_RECONCILIATION_LENGTH=0)
    assert "keeps no history" in examine(app, "--seconds", "0", serve(app)).line("reconnection")


def test_arguments_that_are_no_urls_are_refused(embedded):
    result = embedded().test_cli_runner().invoke(args=["mercure", "doctor", "not a url"])
    assert result.exit_code == 2
    assert "write the hub's URL" in result.output
