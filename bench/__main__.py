"""`./dev bench [NAME ...]`: run benchmarks on each database and print what they found. Those that
take minutes run only when they are named.

The exit status is not 0 when something was found that must never be, or a benchmark broke. A time
that misses its goal is only said.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

from bench.databases import Database, databases
from bench.measuring import Effort
from bench.reports import Report
from tests.services.environment import ROOT

BENCHMARKS = {
    "breaker": "a guarded call against one without a guard",
    "ingest": "webhooks against a view that verifies, inserts and publishes",
    "api": "the HTTP API against a bare view, and a wait against a request of one's own",
    "enqueue": "a stored call against an INSERT",
    "calls": "calls through rows against a plain Celery task",
    "mail": "10,000 recipients by each provider's batch call, against a call for each",
    "ingest_history": "webhooks with many processed events in the table, against none",
    "ingest_outage": "webhooks while the broker stands still",
}
LONG = {"ingest_history", "ingest_outage"}
WITH_BROKER = {"api", "calls", "enqueue", "ingest", "ingest_history", "ingest_outage"}


def main(arguments: list[str]) -> int:
    """0 when nothing failed."""
    options = _parse(arguments)
    effort = Effort(rounds=options.rounds, calls=options.calls, rows=options.rows)
    sound = True
    names = options.names or [name for name in BENCHMARKS if name not in LONG]
    for name in names:
        print(f"{name}: {BENCHMARKS[name]}")
        with databases(broker=name in WITH_BROKER) as found:
            for database in found:
                print(f"\n{database.name}", flush=True)
                sound &= _run(name, database, effort)
    return 0 if sound else 1


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench", description="Run benchmarks.")
    usual = Effort()
    parser.add_argument(
        "names",
        nargs="*",
        type=_known,
        metavar="NAME",
        help=f"{', '.join(BENCHMARKS)}; else all but {' and '.join(sorted(LONG))}",
    )
    parser.add_argument("--rounds", type=_count, default=usual.rounds, help=f"({usual.rounds})")
    parser.add_argument(
        "--calls", type=_count, default=usual.calls, help=f"in a round ({usual.calls})"
    )
    parser.add_argument(
        "--rows", type=_count, default=usual.rows, help=f"for ingest_history ({usual.rows})"
    )
    return parser.parse_args(arguments)


def _known(name: str) -> str:
    if name not in BENCHMARKS:
        known = ", ".join(BENCHMARKS)
        raise argparse.ArgumentTypeError(f"there is no benchmark {name!r} (known: {known})")
    return name


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _run(name: str, database: Database, effort: Effort) -> bool:
    """Whether nothing failed. It has a process of its own, for settings are read once."""
    if database.environment is None:
        print(f"  skipped: {database.missing}")
        return True
    numbers = map(str, (effort.rounds, effort.calls, effort.rows))
    child = subprocess.run(
        [sys.executable, "-m", "bench.child", name, *numbers],
        cwd=ROOT,
        env=database.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if child.returncode:
        print(f"  FAILED: exit status {child.returncode}")
        return False
    report = Report(**json.loads(child.stdout.splitlines()[-1]))
    print("\n".join(report.lines()))
    return not report.failures


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
