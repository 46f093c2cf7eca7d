"""Real browsers: the Chromium and the Firefox of the system. A test runs once in each that is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Playwright, expect, sync_playwright

import npm
from browser import datastar
from browser.front_site import Gate, Libraries
from browser.launch import BROWSERS, launch, new_context
from clients import PATIENCE
from hubs import ROOT

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as playwright:
        expect.set_options(timeout=PATIENCE * 1000)
        yield playwright


@pytest.fixture(scope="module", params=BROWSERS)
def browser(request: pytest.FixtureRequest, playwright: Playwright) -> Iterator[Browser]:
    browser = launch(playwright, request.param)
    yield browser
    browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = new_context(browser)
    yield context
    context.close()


@pytest.fixture
def other_context(browser: Browser) -> Iterator[BrowserContext]:
    context = new_context(browser)
    yield context
    context.close()


@pytest.fixture(scope="module")
def libraries() -> Libraries:
    folder = ROOT / ".build" / "browser" / "node"
    try:
        npm.install(HERE / "node", folder)
    except npm.Missing as missing:
        pytest.skip(str(missing))
    return Libraries(folder, datastar.datastar())


@pytest.fixture
def gate(libraries: Libraries, stack: ExitStack, serve: Any) -> Callable[..., Gate]:
    return lambda kind, template=None, **settings: Gate(kind, libraries, stack, serve, template, **settings)
