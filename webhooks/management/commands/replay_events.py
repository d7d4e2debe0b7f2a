"""Replay many events by filter, look at how far that is, and stop it."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils.timezone import localtime

from webhooks.errors import EventRefused
from webhooks.management.times import TIME, read_time
from webhooks.replaying import MAX_PACE, PACE
from webhooks.services import (
    EventFilter,
    Replay,
    cancel_replay,
    count_replay,
    start_replay,
)
from webhooks.states import FINISHED

ACTOR = "manage.py replay_events"
SHOWN = 20


class Command(BaseCommand):
    help = (
        "Have finished webhook events handled once more: all that every given filter finds. "
        "Workers do it at the given pace; it can be looked at and cancelled."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--source", default="", help="only events of this source")
        parser.add_argument("--type", default="", help="only events of this type")
        parser.add_argument(
            "--status", default="", help=f"only events that are {' or '.join(sorted(FINISHED))}"
        )
        parser.add_argument("--since", metavar="TIME", help=f"received then or later: {TIME}")
        parser.add_argument("--until", metavar="TIME", help="received before then")
        parser.add_argument(
            "--event-id", nargs="+", default=[], metavar="ID", help="the provider's ids, or ours"
        )
        parser.add_argument(
            "--pace",
            default=str(PACE),
            metavar="N",
            help=f"events a second at the most, up to {MAX_PACE} (%(default)s)",
        )
        parser.add_argument("--reason", default="", help="why; kept with every event")
        parser.add_argument("--dry-run", action="store_true", help="count only, change nothing")
        other = parser.add_mutually_exclusive_group()
        other.add_argument("--list", action="store_true", help="the newest replays, one a line")
        other.add_argument("--show", metavar="REPLAY", help="how far a replay is")
        other.add_argument("--cancel", metavar="REPLAY", help="stop a replay")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._handle(options)
        except EventRefused as refusal:
            raise CommandError(str(refusal)) from None

    def _handle(self, options: dict[str, Any]) -> None:
        asked = _filter(options)
        looks = options["list"] or options["show"] or options["cancel"]
        if looks and asked != EventFilter():
            raise CommandError("filters are for a new replay")
        if options["list"]:
            self._list()
        elif options["show"]:
            self._show(options["show"])
        elif options["cancel"]:
            self._cancel(options["cancel"], options)
        else:
            self._start(asked, options)

    def _list(self) -> None:
        rows = list(Replay.objects.order_by("-created_at")[:SHOWN])
        for row in rows:
            self.stdout.write(_line(row))
        if not rows:
            self.stdout.write("no replay yet")

    def _show(self, replay_id: str) -> None:
        row = Replay.objects.with_id(replay_id).first()
        if row is None:
            raise CommandError(f"there is no replay {replay_id[:60]!r}")
        self.stdout.write(_line(row))

    def _cancel(self, replay_id: str, options: dict[str, Any]) -> None:
        if options["dry_run"]:
            self._show(replay_id)
            return
        row = cancel_replay(replay_id=replay_id, actor=ACTOR, reason=options["reason"])
        self.stdout.write(f"{row.pk} cancelled: {row.done} of {row.total} were replayed")

    def _start(self, asked: EventFilter, options: dict[str, Any]) -> None:
        pace = _pace(options["pace"])
        if options["dry_run"]:
            count = count_replay(events=asked)
            self.stdout.write(f"{count.ready} would be replayed, {count.found - count.ready} not")
            return
        row = start_replay(events=asked, reason=options["reason"], actor=ACTOR, pace=pace)
        self.stdout.write(f"{row.pk} replays {row.total} events, {row.pace} a second")


def _filter(options: dict[str, Any]) -> EventFilter:
    return EventFilter(
        source=options["source"],
        event_type=options["type"],
        status=options["status"],
        since=read_time(options["since"], option="--since"),
        until=read_time(options["until"], option="--until"),
        event_ids=tuple(options["event_id"]),
    )


def _pace(text: str) -> int:
    digits = text.removesuffix("/s")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= len(str(MAX_PACE))):
        raise CommandError(f"--pace {text[:20]!r} must be 1 to {MAX_PACE}")
    return int(digits)


def _line(row: Replay) -> str:
    return (
        f"{row.pk} {row.status:<9} {row.done} of {row.total} replayed, {row.skipped} skipped, "
        f"since {localtime(row.created_at):%Y-%m-%d %H:%M:%S} by {row.created_by or '-'}: "
        f"{' '.join(row.reason.split())}"
    )
