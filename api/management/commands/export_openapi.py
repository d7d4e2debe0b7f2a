"""Write the API's description where it is committed."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from api.pages import document


class Command(BaseCommand):
    help = "Print the OpenAPI document, or write it to a file."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--output", type=Path, help="write to this file (docs/openapi.json)")
        parser.add_argument("--check", type=Path, help="fail unless this file is current")

    def handle(self, *args: Any, **options: Any) -> None:
        text = json.dumps(document(), indent=2) + "\n"
        try:
            if options["check"]:
                self._check(options["check"], text)
            elif options["output"]:
                options["output"].write_text(text)
            else:
                self.stdout.write(text, ending="")
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}") from None

    def _check(self, path: Path, text: str) -> None:
        if path.read_text() != text:
            raise CommandError(f"{path} is not current: export_openapi --output {path}")
