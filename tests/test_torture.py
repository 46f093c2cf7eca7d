"""The judge of ``make torture`` finds what is planted, and a short run on logs that need no server passes."""

from __future__ import annotations

import json
import threading

import pytest

import hubs
from torture.campaign import Campaign
from torture.ledger import MISSED, Ledger
from torture.plan import ENDS_OF_A_NODE, KINDS, LOGS, round_of
from torture.tally import Tally, table
from torture.traffic import Subscriber

TOPICS = {"wide": "news", "other": "news", "narrow": "p0"}


@pytest.fixture
def ledger() -> Ledger:
    """Four acknowledged updates, one after the other, the first and the last of p0."""
    ledger = Ledger()
    for number, publisher in enumerate(("p0", "p1", "p1", "p0")):
        publish(ledger, f"u{number}", publisher)
    return ledger


def publish(ledger: Ledger, id: str, publisher: str = "p1", status: int | None = 200) -> None:
    attempt = ledger.send(id, ("news", publisher))
    if status is not None:
        ledger.answer(attempt, status)


def verdict(ledger: Ledger, wide: str, other: str = "u0 u1 u2 u3", narrow: str = "u0 u3", **options) -> dict[str, int]:
    arrivals = {"wide": wide.split(), "other": other.split(), "narrow": narrow.split()}
    found = {name: [MISSED if id == "MISSED" else id for id in ids] for name, ids in arrivals.items()}
    return dict(ledger.judge(found, TOPICS, **options).breaches)


@pytest.mark.parametrize(
    ("wide", "breaches"),
    [
        ("u0 u1 u2 u3", {}),
        ("u0 u1 u3", {"lost": 1}),
        ("u0 u1", {"lost": 2}),
        ("u0 u1 u1 u2 u3", {"doubled": 1}),
        # Against the order of the others, and against the times of the answers.
        ("u0 u2 u1 u3", {"reordered": 2}),
        ("u0 u1 u2 u3 never-sent", {"invented": 1}),
        ("u0 MISSED u1 u2 u3", {"false alarms": 1}),
    ],
)
def test_a_planted_fault_of_one_subscriber_is_found(wide, breaches, ledger):
    assert verdict(ledger, wide) == breaches


def test_an_order_that_all_share_and_that_no_log_can_have_is_found(ledger):
    assert verdict(ledger, "u1 u0 u2 u3", "u1 u0 u2 u3") == {"reordered": 1}


def test_an_update_that_all_lack_is_lost_to_each(ledger):
    assert verdict(ledger, "u0 u1 u2", "u0 u1 u2", "u0") == {"lost": 3}


def test_an_update_of_an_earlier_round_is_doubled(ledger):
    assert verdict(ledger, "u0 u1 u2 u3") == {}
    publish(ledger, "u4")
    assert verdict(ledger, "u4 u2", "u4", "") == {"doubled": 1}


@pytest.mark.parametrize("status", [503, None])
def test_a_refused_update_and_one_without_an_answer_may_arrive_once(status, ledger):
    publish(ledger, "maybe", status=status)
    assert verdict(ledger, "u0 u1 u2 u3") == {}
    # In a later round, too, and at all subscribers or at none.
    publish(ledger, "u4")
    assert verdict(ledger, "maybe u4", "u4", "") == {"lost": 1}
    publish(ledger, "maybe-2", status=status)
    assert verdict(ledger, "maybe-2 maybe-2", "maybe-2", "") == {"doubled": 1}


@pytest.mark.parametrize(("status", "options"), [(507, {}), (503, {"is_refusal_final": True})])
def test_a_refusal_is_final_where_the_log_says_so(status, options, ledger):
    publish(ledger, "refused", status=status)
    log = "u0 u1 u2 u3 refused"
    assert verdict(ledger, log, log, **options) == {"refused, yet delivered": 1}


def test_an_update_that_was_rejected_for_good_is_never_delivered(ledger):
    publish(ledger, "rejected", status=403)
    log = "u0 u1 u2 u3 rejected"
    assert verdict(ledger, log, log) == {"wrong answers": 1, "invented": 1}


def test_a_log_in_memory_may_lose_the_newest_updates_with_its_node_if_it_says_so(ledger):
    ended_at = ledger.send("on its way", ("news", "p1")).sent
    publish(ledger, "after")
    log = "u0 u1 u2 MISSED after"
    assert verdict(ledger, log, "u0 MISSED after", "MISSED", ended_at=ended_at) == {}


@pytest.mark.parametrize(
    ("wide", "lost"),
    [("u0 u1 u2 after", 1), ("u0 u2 MISSED after", 1), ("u0 u1 u2 u3 MISSED", 1)],
    ids=["not told", "from the middle", "published after it"],
)
def test_what_a_log_in_memory_may_not_lose(wide, lost, ledger):
    ended_at = ledger.send("on its way", ("news", "p1")).sent
    publish(ledger, "after")
    assert verdict(ledger, wide, "u0 u1 u2 u3 MISSED after", "u0 u3 MISSED", ended_at=ended_at) == {"lost": lost}


def test_a_seed_and_a_number_make_one_plan_and_every_kind_of_fault_comes_up():
    for log in LOGS:
        rounds = [round_of(7, log, number) for number in range(300)]
        assert rounds == [round_of(7, log, number) for number in range(300)]
        assert rounds != [round_of(8, log, number) for number in range(300)]
        assert {fault.kind for each in rounds for fault in each.faults} == set(KINDS[log])
    ends = [sum(fault.kind in ENDS_OF_A_NODE for fault in round_of(7, "memory", n).faults) for n in range(300)]
    assert max(ends) == 1


def campaign(log, directory) -> Campaign:
    return Campaign(log, 7, hubs.petasos()[0], directory, lambda tally: None, rate=50, longest=2.0)


def test_a_short_run_keeps_all_promises(tmp_path):
    runs = [campaign(log, tmp_path / log) for log in ("memory", "durable")]
    threads = [threading.Thread(target=run.run, kwargs={"seconds": 60, "rounds": 2}) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for run in runs:
        assert dict(run.tally.breaches) == {}, list(run.directory.glob("*/story.json"))
        assert run.tally.rounds == 2
        assert run.tally.faults.total() >= 2
        assert run.tally.acknowledged > 20
        assert run.tally.received > 4 * run.tally.acknowledged
    tallies = [Tally.from_json(run.tally.to_json()) for run in runs]
    assert tallies == [run.tally for run in runs]
    assert table(tallies).startswith("| | memory | durable |")


def test_a_breach_leaves_its_evidence_and_says_how_to_repeat_it(tmp_path, monkeypatch):
    def take(self: Subscriber, marker: str) -> list[str]:
        taken = whole(self, marker)
        return taken[1:] if self.name == "s1" else taken

    whole = Subscriber.take
    monkeypatch.setattr(Subscriber, "take", take)
    run = campaign("memory", tmp_path)
    run.run(60, first=3, rounds=1)
    assert run.tally.breaches == {"lost": 1}
    story = json.loads((tmp_path / "breach-3" / "story.json").read_text())
    assert story["again"] == "make torture SEED=7 LOGS=memory ROUND=3"
    assert story["plan"]["faults"]
    assert "s1" in story["examples"]["lost"]
    assert (tmp_path / "breach-3" / "node-0.log").exists()
