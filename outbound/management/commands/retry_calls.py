"""Retry failed calls by id or by filter, with the same key."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError

from outbound.engine import ENCRYPTED
from outbound.errors import CallRefused
from outbound.models import OutboundCall
from outbound.services import retry_call, retry_call_as_new
from outbound.states import CallStatus


class Command(BaseCommand):
    help = "Retry FAILED calls. Same key unless --as-new is given together with --reason."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("ids", nargs="*", metavar="ID", help="ids of calls")
        parser.add_argument("--adapter", help="all failed calls of this adapter")
        parser.add_argument("--operation", help="only this operation")
        parser.add_argument("--error-kind", help="only calls that failed with this kind of error")
        parser.add_argument("--limit", type=int, default=1000, help="calls at most (%(default)s)")
        parser.add_argument("--as-new", action="store_true", help="with a new idempotency key")
        parser.add_argument("--reason", default="", help="why; needed with --as-new")
        parser.add_argument("--dry-run", action="store_true", help="list only, change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["as_new"] and not options["reason"].strip():
            raise CommandError("--as-new needs --reason")
        if options["limit"] < 1:
            raise CommandError("--limit must be at least 1")
        calls = self._chosen(options)
        if options["dry_run"]:
            for call in calls:
                self.stdout.write(f"{call.pk} {call} {call.status} {call.error_kind}")
            self.stdout.write(f"{len(calls)} would be retried")
            return
        retried, refused = 0, 0
        for call in calls:
            try:
                self._retry(call, options)
                retried += 1
            except (CallRefused, ImproperlyConfigured) as error:
                refused += 1
                self.stderr.write(f"{call.pk}: {error}")
        self.stdout.write(f"{retried} retried, {refused} skipped")
        if refused:
            raise CommandError(f"{refused} of {len(calls)} calls were not retried")

    def _chosen(self, options: dict[str, Any]) -> list[OutboundCall]:
        filters = {
            name: options[name]
            for name in ("adapter", "operation", "error_kind")
            if options[name] is not None
        }
        if bool(options["ids"]) == bool(filters):
            raise CommandError("name calls by id, or choose them with --adapter and the like")
        calls = OutboundCall.objects.defer(*ENCRYPTED)
        if filters:
            chosen = calls.filter(status=CallStatus.FAILED, **filters)
            return list(chosen.order_by("created_at")[: options["limit"]])
        found = [(wanted, calls.with_id(wanted).first()) for wanted in options["ids"]]
        for wanted, call in found:
            if call is None:
                raise CommandError(f"there is no call {wanted!r}")
        return [call for _, call in found if call is not None]

    def _retry(self, call: OutboundCall, options: dict[str, Any]) -> None:
        actor, reason = "manage.py retry_calls", options["reason"]
        if options["as_new"]:
            retry_call_as_new(call_id=call.pk, reason=reason, actor=actor)
        else:
            retry_call(call_id=call.pk, reason=reason, actor=actor)
