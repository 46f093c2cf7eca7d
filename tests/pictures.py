"""Makes the pictures of the documentation from real pages in Chromium: ``make pictures``.

- ``docs/images/start.webp``: what docs/start.md shows, in two windows.
- ``docs/images/chat.webp``: examples/chat.py in two windows, as an animation of at most 500 KB. One of them loses its
  connection, comes back and has missed nothing.

Both begin with what a reader would copy: the files in docs/start.md, the example as it is.
"""

from __future__ import annotations

import base64
import io
import re
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from browser.launch import launch
from cable import Cable
from hubs import ROOT
from servers import ServerProcess

IMAGES = ROOT / "docs" / "images"
BYTES_MAX = 500_000

STAGE = """
<!doctype html><meta charset="utf-8">
<style>
body { margin: 0; background: #dfe7ea; font: 15px/1.4 system-ui, sans-serif; color: #16323a; }
#stage { display: inline-flex; gap: 16px; padding: 16px 16px 0; }
figure { margin: 0; border-radius: 9px; overflow: hidden; background: #fff; box-shadow: 0 3px 14px #0003; }
figcaption { display: flex; align-items: center; gap: 6px; padding: 7px 11px; background: #c3d0d5; font-size: 13px; }
i { width: 10px; height: 10px; border-radius: 50%; background: #f6f9fa; }
b { margin-left: 6px; font-weight: 600; }
img { display: block; }
.off img { filter: grayscale(1) opacity(.55); }
p { margin: 0; padding: 10px 18px 12px; min-height: 21px; font-weight: 600; }
</style>
<div id="stage"></div><p id="words"></p>
"""


class Stage:
    """Two windows side by side, with a line of text below them, as one picture."""

    def __init__(self, browser: Browser, names: tuple[str, str], width: int, height: int) -> None:
        self.names, self.frames, self.times = names, list[Image.Image](), list[int]()
        self.windows: list[Page] = [
            browser.new_context(viewport={"width": width, "height": height}, color_scheme="light").new_page()
            for _ in names
        ]
        self.stage = browser.new_page(viewport={"width": 2 * width + 48, "height": height + 100})
        self.stage.set_content(STAGE)
        self.words = ""

    def show(self, milliseconds: int, *, off: int | None = None) -> None:
        """Adds a frame. ``off``: the window that has no connection."""
        figures = [
            f'<figure class="{"off" if number == off else ""}"><figcaption><i></i><i></i><i></i><b>{name}</b>'
            f'{" &middot; offline" if number == off else ""}</figcaption><img src="data:image/png;base64,'
            f'{base64.b64encode(window.screenshot()).decode()}"></figure>'
            for number, (name, window) in enumerate(zip(self.names, self.windows, strict=True))
        ]
        self.stage.evaluate(
            """async ([figures, words]) => {
                 document.querySelector("#stage").innerHTML = figures;
                 document.querySelector("#words").textContent = words;
                 await Promise.all([...document.images].map((image) => image.decode()));
               }""",
            ["".join(figures), self.words],
        )
        picture = self.stage.locator("body").screenshot()
        self.frames.append(Image.open(io.BytesIO(picture)).convert("RGB"))
        self.times.append(milliseconds)

    def type(self, window: int, field: str, text: str, **shown: int | None) -> None:
        """In three frames, as a person does."""
        for end in (len(text) // 3, 2 * len(text) // 3, len(text)):
            self.windows[window].locator(field).fill(text[:end])
            self.show(220, **shown)

    def save(self, name: str) -> None:
        path = IMAGES / name
        first, *others = self.frames
        first.save(
            path,
            quality=80,
            method=6,
            **(
                {"save_all": True, "append_images": others, "duration": self.times, "loop": 0, "minimize_size": True}
                if others
                else {}
            ),
        )
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes, {len(self.frames)} frames, {first.size}")
        assert path.stat().st_size <= BYTES_MAX


def start_page(browser: Browser, folder: Path) -> None:
    text = (ROOT / "docs" / "start.md").read_text(encoding="utf-8")
    for name, content in re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```', text, re.DOTALL | re.MULTILINE):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    with served([sys.executable, "-m", "flask", "run", "--debug", "--no-reload"], folder) as url:
        stage = Stage(browser, ("One window", "Another window"), 400, 260)
        for window in stage.windows:
            with window.expect_response(re.compile("/.well-known/mercure")):
                window.goto(url)
        for number, message in ((0, "Hello"), (1, "Hello to you"), (0, "No reload, no polling")):
            stage.windows[number].get_by_label("Message").fill(message)
            stage.windows[number].get_by_role("button").click()
            for window in stage.windows:
                window.get_by_text(message, exact=True).wait_for()
        stage.windows[1].get_by_label("Message").fill("Nice")
        stage.words = "What one window sends is in the other one at once."
        stage.show(0)
        stage.save("start.webp")


def chat(browser: Browser, folder: Path) -> None:
    with served([sys.executable, str(ROOT / "examples" / "chat.py")], folder) as url, closing(Cable(url)) as cable:
        stage = Stage(browser, ("Ada", "Grace"), 440, 480)
        grace = stage.windows[1]
        for name, window, way in zip(stage.names, stage.windows, (url, cable.url), strict=True):
            window.goto(way)
            window.locator("#nickname").fill(name)
            window.locator("#enter").click()
            window.locator("#state[data-state=open]").wait_for()
        for window in stage.windows:
            window.locator("#online li").nth(1).wait_for()

        def say(number: int, text: str, **shown: int | None) -> None:
            stage.type(number, "#message", text, **shown)
            stage.windows[number].locator("#send").click()
            for other, window in enumerate(stage.windows):
                if other != shown.get("off"):
                    window.locator("#messages .text", has_text=text).wait_for()
            stage.show(900, **shown)

        stage.words = "One Flask process serves both streams. No Redis, no second server."
        stage.show(1600)
        say(0, "Hello Grace!")
        say(1, "Hello Ada, it works.")
        stage.words = "Grace loses her connection. Ada writes on."
        cable.cut()
        grace.locator("#state:not([data-state=open])").wait_for()
        stage.show(1400, off=1)
        say(0, "Are you still there?", off=1)
        say(0, "See you at noon.", off=1)
        assert grace.locator("#messages .text").count() == 2
        stage.words = "Grace is back, and the hub sends what she has missed: in order, nothing twice."
        cable.mend()
        grace.locator("#messages .text", has_text="See you at noon.").wait_for()
        stage.show(2000)
        say(1, "At noon!")
        stage.show(2200)
        stage.save("chat.webp")


@contextmanager
def served(command: list[str], folder: Path) -> Iterator[str]:
    """Runs an application on a free port, and ends it."""
    variables = [f"MERCURE_HUB_HOST_DIRECTORY={folder / 'logs'}", "PORT=0", "FLASK_RUN_PORT=0"]
    process = ServerProcess(["env", *variables, *command], "Running on", cwd=folder)
    try:
        found = re.search(r"Running on (http://[0-9.:]+)", "".join(process.lines))
        assert found is not None
        yield found[1]
    finally:
        process.kill()


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = launch(playwright, "chromium")
        for make in (start_page, chat):
            # The path of the hub's Unix socket must be short.
            with TemporaryDirectory(prefix="pictures-") as folder:
                make(browser, Path(folder))
        browser.close()


if __name__ == "__main__":
    main()
