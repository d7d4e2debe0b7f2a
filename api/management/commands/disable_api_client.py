"""Let a program in no more."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from api.errors import ClientRefused
from api.services import disable_client


class Command(BaseCommand):
    help = "Disable a client of the HTTP API: none of its keys works any more."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            disable_client(name=options["name"])
        except ClientRefused as error:
            raise CommandError(str(error)) from None
        self.stdout.write(f"{options['name']} is disabled")
