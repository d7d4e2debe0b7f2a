"""Replace a client's key without a moment in which none works."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from api.errors import ClientRefused
from api.services import end_rotation, rotate_client


class Command(BaseCommand):
    help = (
        "Print a second key for a client, once: it is not stored. The first one works until "
        "`rotate_api_client NAME --end`."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--end", action="store_true", help="revoke the older of the two keys")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["end"]:
                prefix = end_rotation(name=options["name"])
                self.stdout.write(f"{prefix} is revoked")
            else:
                self.stdout.write(str(rotate_client(name=options["name"])))
        except ClientRefused as error:
            raise CommandError(str(error)) from None
