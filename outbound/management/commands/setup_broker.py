"""`manage.py setup_broker`: declare exchanges and queues, before anything is published."""

from __future__ import annotations

from typing import Any

from celery import current_app
from django.core.management.base import BaseCommand, CommandError, CommandParser

from outbound import topology
from outbound.redaction import sanitise


class Command(BaseCommand):
    help = (
        "Declare the exchanges, queues and dead-letter queues on the broker. Safe to repeat; a "
        "worker does the same when it starts. Exits with 1 when the broker is away, or when a "
        "queue of that name exists with other arguments."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="print what would be declared; connect to nothing",
        )

    def handle(self, *_: Any, dry_run: bool, **__: Any) -> None:
        if dry_run:
            for line in topology.plan(current_app):
                self.stdout.write(line)
            return
        try:
            declared = topology.declare(current_app)
        except Exception as error:  # a broker library may raise anything
            raise CommandError(f"the broker refused or is away: {_reason(error)}") from error
        if declared:
            self.stdout.write(f"declared {len(topology.plan(current_app))} exchanges and queues")
        else:
            self.stdout.write("the broker is inside the worker's process: nothing to declare")


def _reason(error: Exception) -> str:
    return sanitise(" ".join(f"{type(error).__name__}: {error}".split()), limit=300)
