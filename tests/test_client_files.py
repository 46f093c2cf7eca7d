"""The files of the client for pages: their tags, their URLs and how they are served."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask, render_template_string
from jinja2 import DictLoader

from flask_mercure_sse import MercureSSE, client_files

CORE, ADAPTER = "export const subscribe = () => {};\n", 'import "./petasos-client.js";\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two files in place of those that are built."""
    (tmp_path / "petasos-client.js").write_text(CORE)
    (tmp_path / "htmx.js").write_text(ADAPTER)
    (tmp_path / "secret.txt").write_text("not served")
    monkeypatch.setattr(client_files, "FOLDER", tmp_path)
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    client_files.files.cache_clear()
    client_files.folder_digest.cache_clear()


@pytest.fixture
def site(folder: Path) -> Flask:
    app = Flask("site")
    MercureSSE(app)
    return app


def rendered(app: Flask, template: str) -> str:
    with app.test_request_context():
        return render_template_string(template)


def integrity(text: str) -> str:
    return "sha384-" + base64.b64encode(hashlib.sha384(text.encode()).digest()).decode()


def test_a_page_gets_an_import_map_with_the_hashes_of_the_files(site):
    html = rendered(site, "{{ mercure_client() }}")
    document = json.loads(re.search(r'<script type="importmap">(.*?)</script>', html)[1])
    core, adapter = document["imports"]["petasos-client"], document["imports"]["petasos-client/htmx"]
    assert document["integrity"] == {core: integrity(CORE), adapter: integrity(ADAPTER)}
    assert f'<link rel="modulepreload" href="{core}" integrity="{integrity(CORE)}">' in html
    # The map stands first: older browsers take none behind a module.
    assert html.startswith("<script type=")
    assert html.count("<script") == 1


def test_the_files_of_the_tags_are_served_for_a_year(site):
    client = site.test_client()
    for url in set(re.findall(r'(?:href|src)="([^"]+)"', rendered(site, "{{ mercure_client('htmx') }}"))):
        response = client.get(url)
        assert response.status_code == 200
        assert response.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert response.text == (CORE if "petasos-client.js" in url else ADAPTER)
        again = client.get(url, headers={"If-None-Match": response.headers["ETag"]})
        assert (again.status_code, again.data) == (304, b"")


def test_a_page_of_another_version_gets_the_file_of_this_version_and_does_not_keep_it(site):
    response = site.test_client().get("/_mercure/0123456789abcdef/petasos-client.js")
    assert (response.status_code, response.text) == (200, CORE)
    assert response.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("path", ["x/secret.txt", "x/missing.js", "x/..%2fext.py", "x/"])
def test_nothing_else_is_served(site, path):
    assert site.test_client().get(f"/_mercure/{path}").status_code == 404


def test_the_url_changes_with_any_of_the_files(site, folder):
    before = rendered(site, "{{ mercure_client_url() }}")
    (folder / "htmx.js").write_text("// changed\n")
    forget()
    assert rendered(site, "{{ mercure_client_url() }}") != before


def test_the_tags_have_the_nonce_of_the_page(site):
    html = rendered(site, """{{ mercure_client("htmx", "htmx", nonce='"n') }}""")
    assert html.count('nonce="&#34;n"') == html.count("<script") + html.count("<link") == 3


@pytest.mark.parametrize("call", ["mercure_client('turbo')", "mercure_client('petasos-client')"])
def test_an_unknown_adapter_is_an_error_that_names_the_others(site, call):
    with pytest.raises(ValueError, match=r"has no adapter '[a-z-]+': write one of 'htmx'$"):
        rendered(site, "{{ " + call + " }}")


def test_the_adapter_that_adds_itself_is_not_named(site, folder):
    (folder / "renew.js").write_text(ADAPTER)
    forget()
    with pytest.raises(ValueError, match=r"has no adapter 'turbo': write one of 'htmx'$"):
        rendered(site, "{{ mercure_client('turbo') }}")


@pytest.mark.parametrize("way", ["extends", "include"])
def test_a_second_call_in_a_page_only_adds_new_adapters(site, folder, way):
    (folder / "turbo.js").write_text(ADAPTER)
    forget()
    head, more = "{{ mercure_client('htmx') }}", "<i>{{ mercure_client('turbo', 'htmx') }}{{ mercure_client() }}</i>"
    pages = {
        "extends": {"other": head + "{% block body %}{% endblock %}"},
        "include": {"other": more},
    }[way]
    page = {
        "extends": "{% extends 'other' %}{% block body %}" + more + "{% endblock %}",
        "include": head + "{% include 'other' %}",
    }[way]
    site.jinja_loader = DictLoader(pages)
    html = rendered(site, page)
    first, second = re.fullmatch(r"(.*)<i>(.*)</i>", html, re.DOTALL).groups()
    assert first == rendered(site, head)
    assert re.fullmatch(r'<script type="module" src="[^"]+/turbo.js" integrity="[^"]+"></script>', second)


def test_each_page_of_a_request_has_the_import_map(site):
    # Such as the page of an error.
    with site.test_request_context():
        pages = [render_template_string("{{ mercure_client('htmx') }}") for _ in range(2)]
        without_flask = site.jinja_env.from_string("{{ mercure_client('htmx') }}").render()
    assert pages[0] == pages[1]
    assert pages[0].count("importmap") == 1
    assert without_flask == pages[0]


def test_an_unknown_file_is_an_error_that_names_the_others(site):
    with pytest.raises(ValueError, match=r"no file 'x.js': write one of htmx.js, petasos-client.js$"):
        rendered(site, "{{ mercure_client_url('x.js') }}")


def test_the_urls_have_the_path_under_which_the_application_is_mounted(site):
    with site.test_request_context(environ_overrides={"SCRIPT_NAME": "/shop"}):
        assert client_files.client_url().startswith("/shop/_mercure/")
