"""Events of Datastar: their types, their lines, and their publication."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from flask import Flask
from jinja2 import DictLoader
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from clients import SECRET
from flask_mercure_sse import MercureSSE, Update


@pytest.fixture
def app() -> Flask:
    app = Flask("datastar")
    app.debug = True
    app.config["SECRET_KEY"] = SECRET
    app.jinja_loader = DictLoader({"_total.html": '<b id="total">{{ total }}</b>'})
    return app


@pytest.fixture
def updates(mercure: MercureSSE, stack: ExitStack) -> list[Update]:
    return stack.enter_context(mercure.capture())


def test_elements_are_sent_line_by_line(mercure, updates):
    mercure.datastar.patch_elements("/carts/1", '<ul id="cart">\n  <li>Walden</li>\r\n</ul>')
    assert updates[0].type == "datastar-patch-elements"
    assert updates[0].data == 'elements <ul id="cart">\nelements   <li>Walden</li>\nelements </ul>'


def test_a_character_that_ends_no_line_of_a_stream_is_kept(mercure, updates):
    mercure.datastar.patch_elements("/carts/1", "<p>a\u2028b\x0bc</p>")
    assert updates[0].data == "elements <p>a\u2028b\x0bc</p>"


def test_options_come_first(mercure, updates):
    mercure.datastar.patch_elements(
        "/carts/1", "<g></g>", selector="#chart", mode="append", namespace="svg", use_view_transition=True
    )
    assert updates[0].data.split("\n") == [
        "selector #chart",
        "mode append",
        "namespace svg",
        "useViewTransition true",
        "elements <g></g>",
    ]


def test_a_template_is_rendered_with_its_values(mercure, updates):
    mercure.datastar.patch_elements("/carts/1", template="_total.html", total="<7>")
    assert updates[0].data == 'elements <b id="total">&lt;7&gt;</b>'


def test_elements_are_removed(mercure, updates):
    mercure.datastar.remove_elements("/carts/1", "#cart li")
    assert updates[0].data == "selector #cart li\nmode remove"


def test_an_option_cannot_bring_another(mercure, updates):
    with pytest.raises(ValueError, match="selector: write it on one line"):
        mercure.datastar.remove_elements("/carts/1", "#cart\nelements <script>")
    assert updates == []


@pytest.mark.parametrize("given", [{}, {"html": "a", "template": "b"}, {"html": "a", "total": 7}])
def test_elements_without_html_are_refused(mercure, updates, given):
    with pytest.raises(TypeError, match=r"html= or template=|only a template takes values: total"):
        mercure.datastar.patch_elements("/carts/1", **given)
    assert updates == []


def test_signals_are_json_as_flask_writes_it(mercure, updates):
    mercure.datastar.patch_signals("/carts/1", {"total": 7, "note": "a\nb", "gone": None}, only_if_missing=True)
    assert updates[0].type == "datastar-patch-signals"
    assert updates[0].data == 'onlyIfMissing true\nsignals {"gone": null, "note": "a\\nb", "total": 7}'


def test_a_script_cannot_end_its_element(mercure, updates):
    mercure.datastar.execute_script("/carts/1", "alert('</SCRIPT>')")
    assert updates[0].data == (
        "selector body\nmode append\nelements <script data-effect=\"el.remove()\">alert('<\\/SCRIPT>')</script>"
    )
    mercure.datastar.execute_script("/carts/1", "x()", auto_remove=False)
    assert updates[1].data.endswith("elements <script>x()</script>")


def test_a_comment_in_a_script_does_not_swallow_its_end(mercure, updates):
    """A browser reads on behind the closing tag after these two."""
    mercure.datastar.execute_script("/carts/1", "x = '<!--<script>'", auto_remove=False)
    assert updates[0].data.endswith("elements <script>x = '\\x3C!--<script>'</script>")


@pytest.mark.parametrize("wrong", [["<p></p>"], b"<p></p>", 7])
def test_what_is_no_html_is_refused(mercure, updates, wrong):
    with pytest.raises(TypeError, match="html: give a text or an object with __html__, and not "):
        mercure.datastar.patch_elements("/carts/1", wrong)
    assert updates == []


@pytest.mark.parametrize("wrong", ['{"total": 7}', None, [("total", 7)], lambda: '{"total": 7}'])
def test_what_are_no_signals_is_refused(mercure, updates, wrong):
    with pytest.raises(TypeError, match="signals: give a dict of names and values, and not "):
        mercure.datastar.patch_signals("/carts/1", wrong)
    assert updates == []


@pytest.mark.parametrize("name", ["mode", "namespace"])
def test_a_value_that_datastar_does_not_know_is_refused(mercure, updates, name):
    with pytest.raises(ValueError, match=rf"{name}: write '(outer|html)' or .* context={{'{name}': …}}"):
        mercure.datastar.patch_elements("/carts/1", template="_total.html", **{name: "card"})
    assert updates == []


def test_a_value_of_a_template_may_have_any_name(app, mercure, updates):
    app.jinja_loader = DictLoader({"_names.html": "{{ topic }} {{ mode }} {{ other }}"})
    mercure.datastar.patch_elements(
        "/carts/1", template="_names.html", mode="append", context={"topic": "news", "mode": "card"}, other="more"
    )
    assert updates[0].data == "mode append\nelements news card more"


def test_private_events_are_private(mercure, updates):
    mercure.datastar.patch_signals("/carts/1", {"total": 7}, private=True)
    assert updates[0].private


def test_signals_of_a_commit_are_read_just_before_it(mercure, updates, stack):
    engine = create_engine("sqlite://")
    stack.callback(engine.dispose)
    session = stack.enter_context(Session(engine))
    total = [1]
    session.execute(text("select 1"))
    mercure.datastar.patch_signals("/carts/1", lambda: {"total": total[0]}, after_commit=session)
    mercure.datastar.patch_elements("/carts/1", template="_total.html", total=total, after_commit=session)
    total[0] = 2
    assert updates == []
    session.commit()
    assert [update.data for update in updates] == ['signals {"total": 2}', 'elements <b id="total">[2]</b>']


def test_subscribers_receive_the_lines(mercure, mercure_subscriber):
    reader = mercure_subscriber("/carts/1", mercure=mercure)
    mercure.datastar.patch_elements("/carts/1", "<p>\n</p>", selector="#a")
    event = reader.received(1)[0]
    assert (event.type, event.data) == ("datastar-patch-elements", "selector #a\nelements <p>\nelements </p>")
