"""``python -m torture --seed 7 --for 10m --logs durable,redis``: each log in a process of its own, side by side.

Prints a line for each log every ten seconds, and a table at the end. The exit code is 1 if a promise was not kept: the
evidence is then in .build/torture/SEED/LOG."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from torture.campaign import Campaign
from torture.plan import LOGS
from torture.stage import binary_of
from torture.tally import Tally, table

ROOT = Path(__file__).resolve().parents[2]
PRINT_SECONDS, LOOK_SECONDS = 10.0, 0.2
PROGRAMS = {"redis": "redis-server", "nats": "nats-server"}
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def main() -> int:
    arguments = parsed()
    if arguments.log is not None:
        return campaign(arguments)
    place = Path(arguments.out) / str(arguments.seed)
    shutil.rmtree(place, ignore_errors=True)
    print(f"seed {arguments.seed}, {arguments.seconds:.0f} seconds, {binary_of(ROOT)}, files in {place}", flush=True)
    runs = [Run(log, arguments) for log in arguments.logs]

    def stop(number: int, frame: object) -> None:
        for run in runs:
            run.process.terminate()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    printed, pause = time.monotonic(), threading.Event()
    while any(run.process.poll() is None for run in runs):
        pause.wait(LOOK_SECONDS)
        if time.monotonic() - printed >= PRINT_SECONDS:
            printed = time.monotonic()
            print(*(f"{run.tally.line()}" for run in runs), "", sep="\n", flush=True)
    for run in runs:
        run.reader.join()
    tallies = [run.tally for run in runs]
    print(table(tallies))
    failed = [run.log for run in runs if run.process.returncode != 0]
    for log in failed:
        print(f"{log} failed: {place / log}; again: make torture SEED={arguments.seed} LOGS={log}")
    return 1 if failed else 0


class Run:
    """A campaign in a process of its own, and the last tally that it has reported."""

    def __init__(self, log: str, arguments: argparse.Namespace) -> None:
        self.log, self.tally = log, Tally(log)
        options = [f"--seed={arguments.seed}", f"--for={arguments.seconds}", f"--rate={arguments.rate}"]
        options += [f"--log={log}", f"--out={arguments.out}", f"--round={arguments.round}"]
        # A session of its own: Ctrl-C reaches its hubs and stores only through it.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "torture", *options], stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.tally = Tally.from_json(line)


def campaign(arguments: argparse.Namespace) -> int:
    place = Path(arguments.out) / str(arguments.seed) / arguments.log

    def report(tally: Tally) -> None:
        print(tally.to_json(), flush=True)

    missing = PROGRAMS.get(arguments.log)
    if missing is not None and shutil.which(missing) is None:
        report(Tally(arguments.log, skipped=f"{missing} is not installed"))
        return 0
    run = Campaign(arguments.log, arguments.seed, binary_of(ROOT), place, report, rate=arguments.rate)
    signal.signal(signal.SIGTERM, lambda *_: run.ends.set())
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent and not run.ends.wait(1):
            pass
        run.ends.set()

    threading.Thread(target=watch, daemon=True).start()
    return 1 if run.run(arguments.seconds, arguments.round).breaches else 0


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="torture", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="what is chosen by chance follows from it")
    parser.add_argument("--for", dest="seconds", type=duration, default=60.0, help="such as 90s, 10m, 24h")
    parser.add_argument("--logs", default=",".join(LOGS), help="of " + ", ".join(LOGS))
    parser.add_argument("--rate", type=float, default=20.0, help="updates a second of each of three publishers")
    parser.add_argument("--round", type=int, default=0, help="the first round, to repeat one")
    parser.add_argument("--out", default=str(ROOT / ".build" / "torture"), help="directory for evidence")
    parser.add_argument("--log", default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.logs = arguments.logs.split(",")
    unknown = set(arguments.logs) - set(LOGS)
    if unknown:
        parser.error(f"no such log: {', '.join(sorted(unknown))}; there are {', '.join(LOGS)}")
    if arguments.seed is None:
        arguments.seed = time.time_ns() % 10**6
    return arguments


def duration(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError("a number and s, m or h, such as 10m")
    return float(match[1]) * UNITS[match[2]]


if __name__ == "__main__":
    raise SystemExit(main())
