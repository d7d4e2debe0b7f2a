"""Forget what has been kept for long enough, from a shell or a cron."""

from __future__ import annotations

from argparse import ArgumentParser
from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from webhooks.pruning import BATCH, overdue, prune


class Command(BaseCommand):
    help = (
        "Forget bodies and rows of finished webhook events that are older than WEBHOOK_BODY_DAYS "
        "and WEBHOOK_ROW_DAYS, and refused deliveries older than the former. Can be interrupted "
        "and run again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="count only, change nothing")
        parser.add_argument(
            "--batch", type=int, default=BATCH, help="rows of one transaction (%(default)s)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        batch = options["batch"]
        if batch < 1:
            raise CommandError("--batch must be at least 1")
        done = Counter(overdue() if options["dry_run"] else {})
        while not options["dry_run"]:
            pruned = prune(limit=batch)
            done.update(pruned)
            if max(pruned.values()) < batch:
                break
        verb = "would be" if options["dry_run"] else "were"
        for sort in ("bodies", "rows", "rejects"):
            self.stdout.write(f"{sort:<7} {done[sort]} {verb} forgotten")
