"""Client libraries, as their users install them, on one hub: each receives events with keep-alives between, is cut off,
and comes back."""

from __future__ import annotations

import re
from contextlib import ExitStack

import pytest

from clients import Stream
from clients_matrix.client import NAMES, Client, Outcome, commands, publish
from hubs import HubProcess, petasos

EVENTS = 20
CUT_BEFORE = 11


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """The result of each client. They run at the same time, since each event waits for a keep-alive."""
    found, missing = commands()
    outcomes = {name: Outcome(missing=why) for name, why in missing.items()}
    with ExitStack() as stack:
        hub = HubProcess([*petasos(), "--compat", "--keep-alive", "1s"])
        stack.callback(hub.close)
        publish(hub.url, 0)
        folder = tmp_path_factory.mktemp("clients")
        running = {}
        for name, command in found.items():
            running[name] = Client(command, hub.url, folder / name, "http/1.1")
            stack.callback(running[name].close)
        raw = Stream(f"{hub.url}?topic=events")
        stack.callback(raw.close)
        for client in running.values():
            client.wait_for_comment(0)
        for number in range(1, EVENTS + 1):
            before = {name: client.proxy.comments for name, client in running.items()}
            if number == CUT_BEFORE:
                for client in running.values():
                    client.proxy.cut()
            publish(hub.url, number)
            raw.event()
            assert raw.response.readline() == b":\n", "a keep-alive follows the event"
            for name, client in running.items():
                client.wait_for_comment(before[name])
        publish(hub.url, EVENTS + 1, last=True)
        outcomes.update({name: client.outcome() for name, client in running.items()})
    return outcomes


@pytest.mark.parametrize("name", NAMES)
def test_every_event_comes_once_and_in_order_and_nothing_else(name: str, outcomes: dict[str, Outcome]) -> None:
    outcome = outcomes[name]
    if outcome.missing is not None:
        pytest.skip(outcome.missing)
    numbers = outcome.numbers
    assert numbers == [*range(1, EVENTS + 2)], outcome.errors
    assert outcome.ids == [f"urn:x:{number}" for number in numbers]
    assert outcome.comments >= EVENTS, "keep-alives came between the events"
    first, again = outcome.requests
    assert "urn:x:10" not in first
    cursor = r"(?im)^last-event-id: urn:x:10\r$|lasteventid=urn(:|%3A)x(:|%3A)10 "
    assert re.search(cursor, again), again
