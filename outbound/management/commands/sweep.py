"""Run the periodic repair once, from a shell or a cron."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from outbound.dispatcher import Backlog, backlogs
from outbound.redaction import sanitise
from outbound.sweep import BATCH


class Command(BaseCommand):
    help = "Repair what is overdue: expired leases, late calls, owed hooks, lost hints."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="count only, change nothing")
        parser.add_argument(
            "--limit", type=int, default=BATCH, help="rows of each sort at the most (%(default)s)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["limit"] < 1:
            raise CommandError("--limit must be at least 1")
        verb = "would be" if options["dry_run"] else "were"
        for backlog in sorted(backlogs(), key=lambda backlog: backlog.ROWS):
            counts = backlog.overdue() if options["dry_run"] else self._sweep(backlog, options)
            for sort, count in counts.items():
                name = sort.replace("_", " ")
                self.stdout.write(f"{backlog.ROWS:<7} {name:<18} {count} {verb} handled")

    def _sweep(self, backlog: Backlog, options: dict[str, Any]) -> Mapping[str, int]:
        try:
            return backlog.sweep(limit=options["limit"])
        except ExceptionGroup as group:
            reasons = "; ".join(f"{type(e).__name__}: {e}" for e in group.exceptions)
            raise CommandError(f"{group.message}: {sanitise(reasons)}") from group
