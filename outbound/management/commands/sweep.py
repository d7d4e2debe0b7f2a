"""Run the periodic repair once, from a shell or a cron."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from outbound import clock
from outbound.models import OutboundCall
from outbound.sweep import BATCH, sweep


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
        counts = overdue() if options["dry_run"] else dict(sweep(limit=options["limit"]))
        verb = "would be" if options["dry_run"] else "were"
        for name, count in counts.items():
            self.stdout.write(f"{name.replace('_', ' '):<18} {count} {verb} handled")


def overdue() -> dict[str, int]:
    """How many rows a sweep would take up, by sort."""
    now, calls = clock.now(), OutboundCall.objects
    return {
        "leases_expired": calls.expired_leases(now).count(),
        "out_of_time": calls.out_of_time(now).count(),
        "hooks_run": calls.owing_hooks(now).count(),
        "lookups_announced": calls.unknown().filter(due_at__lte=now).count(),
        "announced": calls.unannounced(now).count(),
    }
