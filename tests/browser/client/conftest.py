"""Sites with the client: those of a file are shared by its tests, each of which has topics of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count

import pytest
from playwright.sync_api import Browser, BrowserContext

from browser.client.site import Site
from browser.launch import new_context


@pytest.fixture(scope="module")
def module_stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def site(module_stack: ExitStack) -> Site:
    """Its hub has its log in memory."""
    return Site(module_stack)


@pytest.fixture(scope="module")
def durable_site(module_stack: ExitStack, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Its hub has its log on the disk."""
    return Site(module_stack, tmp_path_factory.mktemp("durable") / "log")


_numbers = count()


@pytest.fixture
def topic() -> str:
    """A topic of this test alone."""
    return f"/topics/{next(_numbers)}"


@pytest.fixture(scope="module")
def quiet_context(browser: Browser) -> Iterator[BrowserContext]:
    """For tests whose pages share no stream."""
    context = new_context(browser)
    yield context
    context.close()
