"""The examples in real browsers, each in two windows, through the index under its path and alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Playwright, Route, expect

import npm
from browser.launch import launch, new_context
from clients import HUB_PATH, Request, Stream
from flask_mercure_sse.host_log import DIRECTORY_VARIABLE
from hubs import ROOT
from ports import Port
from servers import ServerProcess, children

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 800}


@dataclass
class Examples:
    """A copy of the folder, whose programs have a hub's log and data of their own."""

    stack: ExitStack
    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    def start(self, *command: str, ready: str, **variables: str) -> ServerProcess:
        given = {**self.variables, **variables}
        program = ["env", *(f"{name}={value}" for name, value in given.items()), sys.executable, *command]
        process = ServerProcess(program, ready, cwd=self.folder)
        self.stack.callback(process.kill)
        return process

    def serve(self, name: str, **variables: str) -> str:
        """Starts an example alone, and returns its URL."""
        return url_of(self.start(f"{name}.py", ready="Running on", **{"PORT": "0", **variables})) + "/"


def url_of(process: ServerProcess) -> str:
    found = re.search(r"(?:Running on|Open) (http://[0-9.:]+)", "".join(process.lines))
    assert found is not None
    return found[1]


@contextmanager
def copied() -> Iterator[Examples]:
    # Not pytest's directory: the path of a Unix socket must be short.
    with TemporaryDirectory(prefix="ex-", ignore_cleanup_errors=True) as directory, ExitStack() as stack:
        folder = Path(directory, "examples")
        shutil.copytree(ROOT / "examples", folder, ignore=shutil.ignore_patterns("instance", "__pycache__"))
        yield Examples(stack, folder, {DIRECTORY_VARIABLE: directory, "STEP_SECONDS": "0.02"})


@pytest.fixture(scope="module")
def copy() -> Iterator[Examples]:
    with copied() as examples:
        yield examples


@pytest.fixture(scope="module")
def index(copy: Examples) -> ServerProcess:
    return copy.start("index.py", ready="Open http://", PORT="0")


@pytest.fixture
def alone(copy: Examples, stack: ExitStack) -> Examples:
    """The same folder, for programs that end with the test."""
    return Examples(stack, copy.folder, copy.variables)


@pytest.fixture(scope="module")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    """For what one browser shows."""
    browser = launch(playwright, "chromium")
    yield browser
    browser.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    context = new_context(chromium)
    yield context.new_page()
    context.close()


class Windows:
    """A window on a desk and one on a phone, each of another user. In the end nothing was wrong with their pages."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.url, self.problems, self.contexts = url, list[str](), list[BrowserContext]()
        self.desk, self.phone = (self.open(browser, size) for size in (DESK, PHONE))

    def __iter__(self) -> Iterator[Page]:
        return iter((self.desk, self.phone))

    def open(self, browser: Browser, size: dict[str, int]) -> Page:
        context = new_context(browser)
        self.contexts.append(context)
        page = context.new_page()
        page.set_viewport_size(size)  # type: ignore[arg-type]
        page.on("console", lambda line: self.problems.append(line.text) if line.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.goto(self.url)
        return page

    def are_live(self) -> None:
        for page in self:
            is_live(page)

    def check(self) -> None:
        for page in self:
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= page.viewport_size["width"], f"{page.url} is {width} pixels wide"
            nameless = page.evaluate(
                """[...document.querySelectorAll("input, select, button")].filter((field) =>
                   !(field.labels?.length || field.ariaLabel || field.textContent.trim())).length"""
            )
            assert nameless == 0
        assert self.problems == []

    def close(self) -> None:
        for context in self.contexts:
            context.close()


def is_live(page: Page) -> None:
    expect(page.locator("#state")).to_have_attribute("data-state", "open")


def notifications(windows: Windows) -> None:
    ada, grace = users("Ada", "Grace")
    for page, name in ((windows.phone, grace), (windows.desk, ada)):
        page.get_by_label("Your name").fill(name)
        page.keyboard.press("Enter")
        is_live(page)
    (cookie,) = (cookie for cookie in windows.contexts[0].cookies() if cookie["name"] == "mercureAuthorization")
    assert windows.url.endswith(cookie["path"].removesuffix(HUB_PATH) + "/"), "the cookie is for another hub"
    second = windows.contexts[1].new_page()
    second.goto(windows.url)
    is_live(second)
    windows.desk.locator("[name=to]").select_option(grace)
    windows.desk.get_by_label("Text").fill("only <b>you</b>")
    windows.desk.keyboard.press("Enter")
    for page in (windows.phone, second):
        expect(page.locator(".toast")).to_have_text(f"{ada}: only <b>you</b>")
        expect(page.locator("#count")).to_have_text("1")
    windows.phone.locator("summary").click()
    expect(windows.phone.locator("#inbox li")).to_have_text([f"{ada}: only <b>you</b>"])
    windows.phone.get_by_role("button", name="Mark all as read").click()
    for page in (windows.phone, second):
        expect(page.locator("#count")).to_have_text("0")
    windows.desk.locator("[name=to]").select_option("Everybody")
    windows.desk.get_by_label("Text").fill("to all")
    windows.desk.keyboard.press("Enter")
    for page in windows:
        expect(page.locator("#inbox li").first).to_contain_text(f"{ada}: to all")
    # Ada has heard nothing that was for Grace alone.
    expect(windows.desk.locator("#count")).to_have_text("1")


def live_table(windows: Windows) -> None:
    windows.are_live()
    name = f"Book {uuid4()}"
    rows = [page.get_by_role("row").filter(has_text=name) for page in windows]
    windows.desk.get_by_label("New product").fill(name)
    windows.desk.keyboard.press("Enter")
    for row in rows:
        expect(row.locator("td").first).to_have_text("10")
    more = rows[1].get_by_label("one more")
    more.click()
    for row in rows:
        expect(row.locator("td").first).to_have_text("11")
    expect(more).to_be_focused()  # though its row is another element now
    rows[0].get_by_text("Delete").click()
    for row in rows:
        expect(row).to_have_count(0)


def progress(windows: Windows) -> None:
    windows.desk.get_by_text("Export everything").click()
    windows.phone.goto(windows.desk.url)
    for page in windows:
        expect(page.locator("main [role=status]")).to_have_text("Everything is exported")
        expect(page.locator("progress")).to_have_attribute("value", "100")


def chat(windows: Windows) -> None:
    names, (ada, grace) = users("Ada", "Grace", "Third"), windows
    for page, name in zip(windows, names, strict=False):
        page.fill("#nickname", name)
        page.click("#enter")
    windows.are_live()
    browser = windows.contexts[0].browser
    assert browser is not None
    third = windows.open(browser, DESK)
    third.fill("#nickname", names[2])
    third.click("#enter")
    for page in (ada, grace, third):
        expect(page.locator("#online li")).to_have_text(names)
    say(ada, "hello <b>all</b>")
    for page in (ada, grace, third):
        expect(page.locator("#messages li").last).to_contain_text("hello <b>all</b>")
    say(ada, "only for you", to=names[1])
    expect(grace.locator("#messages li").last).to_contain_text("only for you")
    expect(ada.locator("#messages li").last).to_contain_text("only for you")
    say(grace, "hello back", to="")
    for page, count in ((ada, 3), (grace, 3), (third, 2)):
        expect(page.locator("#messages li")).to_have_count(count)
        expect(page.locator("#messages li").last).to_contain_text("hello back")
    windows.contexts[2].close()
    for page in (ada, grace):
        expect(page.locator("#online li")).to_have_text(names[:2])
    ada.click("#logout")
    expect(ada.locator("#nickname")).to_be_visible()
    expect(grace.locator("#online li")).to_have_text(names[1:2])


def users(*names: str) -> list[str]:
    """Names that nobody has yet: all tests of a module have one server."""
    return [f"{name} {uuid4().hex[:8]}" for name in names]


def say(page: Page, text: str, to: str | None = None) -> None:
    if to is not None:
        page.select_option("#recipient", to)
    page.fill("#message", text)
    page.click("#send")


def dashboard(windows: Windows) -> None:
    windows.are_live()
    stream = Stream(f"{windows.url.rstrip('/')}{HUB_PATH}?topic=/dashboard")
    newest = json.loads(stream.event()["data"])["number"]
    stream.close()
    for page in windows:
        page.wait_for_function("(number) => Number(document.body.dataset.drawn) >= number", arg=newest)
        painted = page.evaluate(
            """[...document.querySelectorAll("canvas")].map((canvas) => canvas.getContext("2d")
               .getImageData(0, 0, canvas.width, canvas.height).data.some((part) => part > 0))"""
        )
        assert painted == [True, True, True]
        page.wait_for_function("Number(document.getElementById('updates').textContent) > 0")
        page.get_by_text("Pause").click()
        drawn = page.evaluate("document.body.dataset.drawn")
        page.evaluate("new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))")
        assert page.evaluate("document.body.dataset.drawn") == drawn


def todo(windows: Windows) -> None:
    windows.are_live()
    text = f"Read {uuid4()}"
    add(windows.desk, text)
    for page in windows:
        expect(item(page, text)).to_be_visible()
    windows.phone.get_by_label(f"Done: {text}").check()
    expect(windows.desk.get_by_label(f"Done: {text}")).to_be_checked()
    prepend(windows.desk, "again: ", text)
    expect(item(windows.phone, f"again: {text}")).to_be_visible()
    windows.phone.get_by_label(f"Delete again: {text}").click()
    expect(item(windows.desk, f"again: {text}")).to_have_count(0)


def add(page: Page, text: str) -> None:
    page.get_by_label("What is to be done?").fill(text)
    page.get_by_text("Add", exact=True).click()


def prepend(page: Page, more: str, text: str) -> None:
    """Changes the text of an item, by keys: Firefox does not take a text from a script for a change."""
    item(page, text).press("Home")
    item(page, text).press_sequentially(more)
    page.keyboard.press("Enter")


def item(page: Page, text: str) -> Locator:
    """The field of the item with this text."""
    return page.locator(f'#items li:has([aria-label="Delete {text}"]) .text')


PROMISES: dict[str, Callable[[Windows], None]] = {
    each.__name__: each for each in (notifications, live_table, progress, chat, dashboard, todo)
}


@pytest.mark.parametrize("name", PROMISES)
def test_an_example_keeps_its_promise_through_the_index(browser, index, name, stack):
    windows = Windows(browser, f"{url_of(index)}/{name}/")
    stack.callback(windows.close)
    PROMISES[name](windows)
    windows.check()
    for page in windows:
        expect(page.get_by_role("link", name="Examples")).to_have_attribute("href", "/")


@pytest.mark.parametrize("name", PROMISES)
def test_an_example_keeps_its_promise_alone(chromium, alone, name, stack):
    if name == "progress":
        alone.start(
            "-m",
            "celery",
            "--app",
            "progress.celery",
            "worker",
            "--pool",
            "solo",
            "--loglevel",
            "info",
            ready=" ready.",
        )
    windows = Windows(chromium, alone.serve(name))
    stack.callback(windows.close)
    PROMISES[name](windows)
    windows.check()
    for page in windows:
        expect(page.get_by_role("link", name="Examples")).to_have_count(0)


def test_the_index_links_all_examples_and_their_code(page, index):
    page.set_viewport_size(PHONE)
    page.goto(url_of(index))
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    links = [link.get_attribute("href") for link in page.get_by_role("link").all()]
    assert links == [href for name in PROMISES for href in (f"/{name}/", f"/code/{name}.py")]
    files = {path.stem for path in (ROOT / "examples").glob("*.py")}
    assert files == {*PROMISES, "index"}
    for name in PROMISES:
        code = Request("GET", f"{url_of(index)}/code/{name}.py")
        assert code.body == (ROOT / "examples" / f"{name}.py").read_bytes()
    assert Request("GET", f"{url_of(index)}/code/index.py").status == 404


def test_what_is_committed_while_the_table_loads_is_not_lost(page, index):
    url, name = f"{url_of(index)}/live_table/", f"Late {uuid4()}"

    def commit(route: Route) -> None:
        # The page is rendered, and its stream is not open yet.
        assert Request("POST", f"{url}products", form=[("name", name)]).status == 204
        route.continue_()

    page.route(f"**{HUB_PATH}?**", commit, times=1)
    page.goto(url)
    expect(page.get_by_role("row").filter(has_text=name)).to_be_visible()


def test_changes_that_were_made_offline_are_sent_later_and_the_last_one_wins(browser, index, stack):
    windows = Windows(browser, f"{url_of(index)}/todo/")
    stack.callback(windows.close)
    windows.are_live()
    offline, online = windows
    text, made = f"Shared {uuid4()}", f"Made offline {uuid4()}"
    add(online, text)
    expect(item(offline, text)).to_be_visible()
    windows.contexts[0].set_offline(True)
    expect(offline.locator("#state")).to_have_text("offline")
    add(offline, made)
    prepend(offline, "offline: ", text)
    expect(offline.locator("#said")).to_have_text("No connection: 2 changes wait in this browser")
    expect(offline.get_by_text("not sent").locator("visible=true")).to_have_count(2)
    prepend(online, "online: ", text)
    expect(online.locator("#said")).to_contain_text("Sent")
    expect(item(online, made)).to_have_count(0)
    windows.contexts[0].set_offline(False)
    for page in windows:
        expect(item(page, made)).to_be_visible()
        expect(item(page, f"offline: {text}")).to_be_visible()
        expect(item(page, f"online: {text}")).to_have_count(0)
        expect(page.get_by_text("not sent").locator("visible=true")).to_have_count(0)


def test_a_change_is_applied_once_however_often_it_is_sent(index):
    url, text = f"{url_of(index)}/todo/", f"Once {uuid4()}"

    def post(**body: object) -> dict[str, object]:
        form = json.dumps(body).encode()
        answer = Request("POST", f"{url}changes", {"Content-Type": "application/json"}, form)
        return {"status": answer.status} if answer.status != 200 else json.loads(answer.body)

    added = post(id=f"{text} 1", item=text, text=text)
    renamed = post(id=f"{text} 2", item=text, text="renamed")
    assert post(id=f"{text} 1", item=text, text=text) == renamed
    assert renamed["number"] > added["number"]
    for bad in ({"text": ""}, {"text": "x" * 201}, {"done": "yes"}):
        assert post(id=f"{text} 3", item=text, **bad) == {"status": 400}


def test_the_list_is_loaded_again_if_the_hub_has_lost_updates(page, alone, stack):
    """The hub's log is in the memory of a process, which ends while the page is offline."""
    port = Port()
    stack.callback(port.close)
    variables = {"PORT": str(port.number), "MERCURE_HUB_TRANSPORT": "memory:"}
    server = alone.start("todo.py", ready="Running on", **variables)
    url, text = f"{url_of(server)}/", f"Missed {uuid4()}"
    page.goto(url)
    is_live(page)
    add(page, f"{text} before")
    expect(page.locator("#said")).to_have_text("Sent: 1 change")
    page.context.set_offline(True)
    server.kill()
    other = alone.serve("todo")  # has the same database and another hub
    body = json.dumps({"id": text, "item": text, "text": text}).encode()
    assert Request("POST", f"{other}changes", {"Content-Type": "application/json"}, body).status == 200
    alone.start("todo.py", ready="Running on", **variables)
    page.context.set_offline(False)
    expect(page.locator("#said")).to_have_text("Updates were missed: the list was loaded again")
    expect(item(page, text)).to_be_visible()
    expect(item(page, f"{text} before")).to_be_visible()


def test_one_process_publishes_for_the_dashboard_and_another_takes_over(stack, open_stream):
    examples = stack.enter_context(copied())
    first, second = (examples.start("dashboard.py", ready="Running on", PORT="0") for _ in range(2))
    for process in (first, second):
        assert Request("GET", f"{url_of(process)}/").status == 200
    stream = open_stream(f"{url_of(second)}{HUB_PATH}?topic=/dashboard")

    def number() -> int:
        return int(json.loads(stream.event()["data"])["number"])

    begin = number()
    assert [number() for _ in range(20)] == [begin + count for count in range(1, 21)]
    first.kill()
    # First comes what the first process has published since.
    assert any(number() == 0 for _ in range(500))
    assert number() == 1


def test_the_worker_ends_with_the_index(alone, wait_until):
    index = alone.start("index.py", ready="Open http://", PORT="0")
    (worker,) = children(index.process.pid)
    os.kill(index.process.pid, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{worker}").exists(), "the worker has ended")


def test_the_copies_of_htmx_are_those_of_its_package():
    folder = ROOT / ".build" / "browser" / "node"
    try:
        npm.install(ROOT / "tests" / "browser" / "node", folder)
    except npm.Missing as missing:
        pytest.skip(str(missing))
    package = folder / "node_modules" / "htmx.org"
    for copy, file in (("htmx.min.js", "htmx.min.js"), ("hx-sse.min.js", "ext/hx-sse.min.js")):
        assert (ROOT / "examples" / "static" / copy).read_bytes() == (package / "dist" / file).read_bytes()
    version = json.loads((package / "package.json").read_text())["version"]
    assert f"htmx {version}" in (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
