"""Starts the Chromium and the Firefox of the system."""

from __future__ import annotations

import shutil

import pytest
from playwright.sync_api import Browser, BrowserContext, Playwright

from clients import PATIENCE

BROWSERS = {"chromium": "chromium", "firefox": "firefox-esr"}
"""Their programs."""

IN_CHROMIUM = pytest.mark.parametrize("browser", ["chromium"], indirect=True)
"""A test of what is no matter of the browser, or of what only this one can be told to do."""


def launch(playwright: Playwright, name: str, keeps_pages: bool = False) -> Browser:
    """Names below example.test are this machine, for cookies that several hosts share.

    keeps_pages: it shows a page again as it was when the user goes back, which Firefox does anyway."""
    path = shutil.which(BROWSERS[name])
    if path is None:
        pytest.skip(f"{BROWSERS[name]} is not installed")
    if name == "chromium":
        hosts = "--host-resolver-rules=MAP *.example.test 127.0.0.1"
        unwanted = ["--disable-back-forward-cache"] if keeps_pages else []
        return playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", hosts], ignore_default_args=unwanted
        )
    hosts = ",".join(f"{host}.example.test" for host in ("app", "hub"))
    # With this channel, Playwright drives a Firefox that is not its own build.
    return playwright.firefox.launch(
        executable_path=path, channel="moz-firefox", firefox_user_prefs={"network.dns.localDomains": hosts}
    )


def new_context(browser: Browser) -> BrowserContext:
    context = browser.new_context(ignore_https_errors=True)
    context.set_default_timeout(PATIENCE * 1000)
    return context
