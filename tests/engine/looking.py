"""Rows as an onlooker sees them after every step: queries that are compiled only once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

from django.db import connection
from django.db.models import QuerySet

from outbound.models import CallAttempt, CallNote, OutboundCall

CALLS = (
    "id", "operation", "status", "attempts", "max_attempts", "due_at", "hint_at", "deadline_at",
    "key_expires_at", "lease_token", "lease_expires_at", "idempotency_key", "hook_due_at",
    "hook_error", "finished_at", "provider_reference", "rule", "updated_at",
)  # fmt: skip
ATTEMPTS = (
    "call_id", "number", "finished_at", "idempotency_key", "outcome", "effect_possible",
    "http_status",
)  # fmt: skip
Row = dict[str, Any]


@dataclass(slots=True)
class Picture:
    """The rows as they are, without their encrypted columns; `told`: both halves of what the tenant
    has written down."""

    calls: dict[str, Row] = field(default_factory=dict)
    attempts: dict[str, list[Row]] = field(default_factory=dict)
    told: dict[str, tuple[str, str]] = field(default_factory=dict)


def take_picture() -> Picture:
    picture = Picture({str(row["id"]): row for row in _calls().rows()})
    picture.attempts = {call_id: [] for call_id in picture.calls}
    for row in _attempts().rows():
        picture.attempts[str(row["call_id"])].append(row)
    picture.told = {str(row["call_id"]): (row["action"], row["reason"]) for row in _told().rows()}
    return picture


def see_call(call_id: str) -> Row:
    return next(row for row in _calls().rows() if str(row["id"]) == call_id)


class Look:
    """A query over some columns, compiled by Django once and run many times."""

    def __init__(self, queryset: QuerySet[Any, Any], *names: str) -> None:
        self._names = names
        compiler = queryset.values_list(*names).query.get_compiler("default")
        self._sql, self._parameters = compiler.as_sql()
        columns = [column for column, *_ in compiler.select]
        converters = compiler.get_converters(columns)
        self._converters = [
            _converter(*converters[index]) if index in converters else None
            for index in range(len(names))
        ]

    def rows(self) -> list[Row]:
        with connection.cursor() as cursor:
            cursor.execute(self._sql, self._parameters)
            return [self._row(values) for values in cursor.fetchall()]

    def _row(self, values: tuple[Any, ...]) -> Row:
        cells = zip(self._names, self._converters, values, strict=True)
        return {name: convert(value) if convert else value for name, convert, value in cells}


def _converter(converters: list[Any], expression: Any) -> Callable[[Any], Any]:
    """Django's converters of one column, in one, with a memory: most values are seen again."""

    @lru_cache(maxsize=10_000)
    def convert(value: Any) -> Any:
        for converter in converters:
            value = converter(value, expression, connection)
        return value

    return convert


@cache
def _calls() -> Look:
    return Look(OutboundCall.objects.order_by("id"), *CALLS)


@cache
def _attempts() -> Look:
    return Look(CallAttempt.objects.order_by("number"), *ATTEMPTS)


@cache
def _told() -> Look:
    return Look(CallNote.objects.filter(actor="tenant").order_by(), "call_id", "action", "reason")
