"""Fetch what a provider has failed to deliver."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from outbound.redaction import sanitise
from webhooks.catching_up import catch_up, listing_sources
from webhooks.errors import CannotCatchUp, UnknownSource
from webhooks.management.times import TIME, read_time


class Command(BaseCommand):
    help = (
        "Read a provider's own list of events since it was last complete, and store what was "
        "never delivered. Can be interrupted and run again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("source", help="a source whose provider has such a list: stripe")
        parser.add_argument("--since", metavar="TIME", help=TIME)

    def handle(self, *args: Any, **options: Any) -> None:
        source = options["source"]
        since = read_time(options["since"], option="--since")
        try:
            caught = catch_up(source=source, since=since)
        except UnknownSource:
            known = ", ".join(listing_sources()) or "none"
            raise CommandError(f"{source!r} is no enabled source (with a list: {known})") from None
        except CannotCatchUp as error:
            raise CommandError(sanitise(str(error))) from None
        if caught is None:
            raise CommandError(f"another process is catching up with {source!r}")
        self.stdout.write(
            f"{source}: {caught.listed} events listed since {caught.since:%Y-%m-%d %H:%M:%S} UTC, "
            f"{caught.missing} were missing"
        )
