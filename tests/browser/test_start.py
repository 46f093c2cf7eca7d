"""docs/start.md as a newcomer follows it: its commands and files, in an empty folder and two windows of a browser."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from browser.launch import IN_CHROMIUM
from clients import PATIENCE
from hubs import ROOT
from ports import Port
from servers import ServerProcess

TEXT = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(?:\w+ title=\"(.*?)\")?\n(.*?)\n```$", TEXT, re.DOTALL | re.MULTILINE)
FILES = {name: content + "\n" for name, content in BLOCKS if name}
INSTALL, RUN, *PUBLISH = (content for name, content in BLOCKS if not name)
HERE = "http://127.0.0.1:5000"
# The package is installed already: pip only says what it was asked for. Flask is found behind the new environment.
PIP = 'pip() { echo "pip $*"; }\n'


@pytest.fixture
def address() -> Iterator[Port]:
    with Port() as port:
        yield port


@pytest.fixture
def variables(address: Port) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "FLASK_RUN_PORT": str(address.number)}


@pytest.fixture
def folder(tmp_path: Path, variables: dict[str, str]) -> Path:
    """The folder that the first step makes, with the files of the next two."""
    script = f"set -e\n{PIP}{INSTALL}\npwd"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=variables, capture_output=True, text=True)
    asked, place = done.stdout.splitlines()
    assert (done.returncode, asked) == (0, "pip install flask-mercure-sse>=0.5"), done.stderr
    for name, content in FILES.items():
        path = Path(place, name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return Path(place)


@pytest.fixture
def run(folder: Path, variables: dict[str, str], stack: ExitStack) -> Callable[[], ServerProcess]:
    def start() -> ServerProcess:
        settings = [f"{name}={variables[name]}" for name in ("PATH", "FLASK_RUN_PORT")]
        # A test run in the background ignores Ctrl-C, and so would all that it starts.
        process = ServerProcess(
            ["env", "--default-signal=INT", *settings, *shlex.split(RUN)], "Debugger PIN", cwd=folder
        )
        stack.callback(process.kill)
        return process

    return start


@IN_CHROMIUM
def test_the_page_of_the_start_is_live_and_misses_nothing_while_the_application_is_stopped(
    context: BrowserContext,
    other_context: BrowserContext,
    address: Port,
    folder: Path,
    variables: dict[str, str],
    run: Callable[[], ServerProcess],
) -> None:
    def shell(command: str) -> None:
        command = command.replace(HERE, f"http://{address}")
        subprocess.run(["bash", "-ec", command], cwd=folder, env=variables, check=True, capture_output=True)

    server = run()
    # Two windows of one browser share a stream, so that the second has none to wait for.
    first, second = (live(each.new_page(), f"http://{address}") for each in (context, other_context))
    first.get_by_label("Message").fill("Hello")
    first.get_by_role("button", name="Send").click()
    shows(first, "Hello")
    shows(second, "Hello")
    curl, command = PUBLISH
    shell(curl)
    shell(command)
    shows(second, "from a command", "from-a-terminal", "Hello")
    # As Ctrl-C does: the reloader and its child.
    server.send(signal.SIGINT)
    server.process.wait(PATIENCE)
    shell(command.replace("from a command", "while it was stopped"))
    run()
    for page in (first, second):
        shows(page, "while it was stopped", "from a command", "from-a-terminal", "Hello")


def live(page: Page, url: str) -> Page:
    with page.expect_response(re.compile("/.well-known/mercure")):
        page.goto(url)
    return page


def shows(page: Page, *messages: str) -> None:
    expect(page.locator("#messages li")).to_have_text(list(messages))


def test_all_blocks_of_the_start_are_tried() -> None:
    assert TEXT.count("```") == 2 * len(BLOCKS)
    assert (len(PUBLISH), list(FILES)) == (2, ["app.py", "templates/index.html"])
    assert HERE in PUBLISH[0]
