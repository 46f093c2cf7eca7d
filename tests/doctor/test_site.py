"""What the doctor finds on the way through a proxy, each thing provoked with nginx or a false hub."""

from __future__ import annotations

import datetime
import re

import pytest
from werkzeug.middleware.proxy_fix import ProxyFix

from clients import SECRET
from doctor.report import examine
from flask_mercure_sse.doctor import clock
from flask_mercure_sse.doctor.wire import ask
from proxies import PROXIES, Nginx, certificate


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


@pytest.mark.parametrize("kind", PROXIES.values(), ids=PROXIES)
def test_the_configurations_of_deploy_pass_scheme_and_host_on(kind, embedded, serve, stack, tmp_path, monkeypatch):
    app = embedded()
    app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1)
    proxy = kind(tmp_path, [serve(app).removeprefix("http://")])
    stack.callback(proxy.close)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "hub.crt"))
    for url in (proxy.secure_url, proxy.url):
        assert ask(url, {"X-Forwarded-Proto": "gopher"})[0].get("Link") == f'<{url}>; rel="mercure"'


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


def test_a_clock_that_is_wrong_is_found():
    date = "Thu, 29 Feb 2024 12:00:00 GMT"
    now = datetime.datetime(2024, 2, 29, 12, 0, 20, tzinfo=datetime.timezone.utc)
    assert clock.check(date, now).level == "ok"
    ahead = clock.check(date, now + datetime.timedelta(seconds=60))
    assert (ahead.level, ahead.found[:37]) == ("warning", "this machine is 80 s ahead of the ser")
    assert clock.check(date, now - datetime.timedelta(seconds=80)).level == "warning"
    assert clock.check("", now) is None
