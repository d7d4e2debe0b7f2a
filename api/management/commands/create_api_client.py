"""Let another program in."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from api.errors import ClientRefused
from api.scopes import Scope
from api.services import RATE, create_client


class Command(BaseCommand):
    help = "Create a client of the HTTP API and print its key, once: it is not stored."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="letters, digits, dots, hyphens, underscores")
        parser.add_argument(
            "--scope",
            action="append",
            default=[],
            metavar="SCOPE",
            help=f"what it may do, several times: {', '.join(Scope.values)}",
        )
        parser.add_argument(
            "--rate", type=int, default=RATE, help="requests a minute (%(default)s)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            key = create_client(name=options["name"], scopes=options["scope"], rate=options["rate"])
        except ClientRefused as error:
            raise CommandError(str(error)) from None
        self.stdout.write(str(key))
