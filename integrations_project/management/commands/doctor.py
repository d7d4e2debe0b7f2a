"""Look at everything, and say in one line each what somebody should know."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.management.base import BaseCommand, CommandError

from integrations_project.probes import OK, PARTS
from outbound.findings import Finding
from outbound.redaction import sanitise


class Command(BaseCommand):
    help = (
        "Look at the configuration, the database, the broker and the rows; one line for each thing "
        "that somebody should know. Changes nothing. Exits 0 when there is none, else 1."
    )
    # They are a part of what is looked at, and must not end it.
    requires_system_checks: tuple[str, ...] = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON document")

    def handle(self, *args: Any, **options: Any) -> None:
        found = list(examine())
        if options["json"]:
            document = {"healthy": not found, "findings": [asdict(each) for each in found]}
            self.stdout.write(json.dumps(document, indent=1))
        else:
            for each in found:
                self.stdout.write(str(each))
        if found:
            raise CommandError("1 finding" if len(found) == 1 else f"{len(found)} findings")
        if not options["json"]:
            self.stdout.write("healthy")


def examine() -> Iterator[Finding]:
    """All findings. Of the rows only where there is a database with the tables that we expect."""
    yield from _configuration()
    broken = list(_dependencies())
    yield from broken
    if not {"database", "migrations"} & {each.about for each in broken}:
        for name in settings.VITALS:
            yield from _vitals(name)


def _configuration() -> Iterator[Finding]:
    messages = checks.run_checks(include_deployment_checks=not settings.DEBUG)
    for message in messages:
        if message.level >= checks.WARNING and not message.is_silenced():
            yield Finding(str(message.id), _one_line(message.msg), _one_line(message.hint or ""))


def _dependencies() -> Iterator[Finding]:
    """As /readyz asks: at the same time, and each for a second at the most."""
    for part in PARTS.values():
        part.ask()
    for name, part in PARTS.items():
        answer = part.answer()
        if answer not in OK:
            yield Finding(name, _one_line(answer))


def _vitals(name: str) -> Iterator[Finding]:
    try:
        yield from import_module(name).findings()
    except Exception as error:  # noqa: BLE001 - what cannot be looked at is a finding, too
        why = _one_line(sanitise(f"{type(error).__name__}: {error}"))
        yield Finding(name.partition(".")[0], f"could not be looked at: {why}")


def _one_line(text: str) -> str:
    return " ".join(text.split())
