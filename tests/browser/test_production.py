"""The page of examples/production in real browsers, through nginx, while its workers and the application end."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from playwright.sync_api import expect

from production import Host

RECONNECTIONS = 20


@pytest.fixture
def host():
    # Browsers come back at once, so that the test takes seconds.
    host = Host({"MERCURE_HUB=True,": "MERCURE_HUB=True, MERCURE_HUB_RETRY_INTERVAL=0.1,"})
    host.start()
    yield host
    host.close()


def kill_workers(host):
    """As the system does when its memory is full. gunicorn starts others."""
    master = host.app.process.pid
    for worker in Path(f"/proc/{master}/task/{master}/children").read_text().split():
        os.kill(int(worker), signal.SIGKILL)


def test_a_page_loses_nothing_and_hears_nothing_twice_over_twenty_reconnections(host, context):
    page = context.new_page()
    page.goto(host.origin)
    expected = []
    for number in range(RECONNECTIONS):
        expected.append(f"before {number}")
        host.publish(expected[-1])
        expect(page.locator("li")).to_have_count(len(expected))
        if number % 4 == 0:
            host.app.stop()
            host.start_app()
        else:
            kill_workers(host)
        expected.append(f"while the page is away {number}")
        host.publish(expected[-1])
        expect(page.locator("li")).to_have_count(len(expected))
    assert page.locator("li").all_text_contents() == expected
