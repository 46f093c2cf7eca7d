"""Real browsers: the Chromium and the Firefox of the system. A test runs once in each that is installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Playwright, expect, sync_playwright

from clients import PATIENCE

BROWSERS = {"chromium": "chromium", "firefox": "firefox-esr"}
"""Their programs."""


def launch(playwright: Playwright, name: str) -> Browser:
    """Names below example.test are this machine, for cookies that several hosts share."""
    path = shutil.which(BROWSERS[name])
    if path is None:
        pytest.skip(f"{BROWSERS[name]} is not installed")
    if name == "chromium":
        hosts = "--host-resolver-rules=MAP *.example.test 127.0.0.1"
        return playwright.chromium.launch(executable_path=path, args=["--no-sandbox", hosts])
    hosts = ",".join(f"{host}.example.test" for host in ("app", "hub"))
    # With this channel, Playwright drives a Firefox that is not its own build.
    return playwright.firefox.launch(
        executable_path=path, channel="moz-firefox", firefox_user_prefs={"network.dns.localDomains": hosts}
    )


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


def new_context(browser: Browser) -> BrowserContext:
    context = browser.new_context(ignore_https_errors=True)
    context.set_default_timeout(PATIENCE * 1000)
    return context


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
