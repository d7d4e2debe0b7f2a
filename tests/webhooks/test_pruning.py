"""What has been kept for long enough is forgotten, piece by piece; nothing unfinished ever is."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import Q
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from outbound import clock
from tests.webhooks.conftest import Clock
from tests.webhooks.rows import make_event
from webhooks import checks, pruning, tasks
from webhooks.errors import BodyGone
from webhooks.models import EventNote, WebhookEvent
from webhooks.pruning import BATCH, overdue, prune
from webhooks.services import replay_event
from webhooks.states import FINISHED, EventStatus

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

DAY = timedelta(days=1)


def aged(days: float, status: EventStatus = EventStatus.PROCESSED, **columns: Any) -> WebhookEvent:
    return make_event(status=status, received_at=clock.now() - days * DAY, **columns)


def run(*arguments: str) -> list[str]:
    printed = StringIO()
    call_command("prune", *arguments, stdout=printed)
    return [" ".join(line.split()) for line in printed.getvalue().splitlines()]


@pytest.mark.usefixtures("virtual")
class TestPrune:
    @pytest.mark.parametrize("status", sorted(FINISHED))
    def test_by_age(self, status: EventStatus) -> None:
        """Whole, then without its body, then gone: to the second."""
        second = 1 / 86_400
        ages = (29, 30, 30 + second, 179, 180, 180 + second, 400)
        rows = {days: aged(days, status) for days in ages}
        assert overdue() == {"bodies": 3, "rows": 2, "rejects": 0}
        prune()
        left = {row.pk: row.body is not None for row in WebhookEvent.objects.all()}
        assert [left.get(rows[days].pk) for days in ages] == [
            True, True, False, False, False, None, None,
        ]  # fmt: skip
        assert overdue() == prune() == {"bodies": 0, "rows": 0, "rejects": 0}

    @pytest.mark.parametrize("status", sorted(set(EventStatus) - FINISHED))
    def test_what_is_not_finished_stays(self, status: EventStatus) -> None:
        row = aged(1000, status)
        assert overdue() == prune() == {"bodies": 0, "rows": 0, "rejects": 0}
        row.refresh_from_db()
        assert row.body is not None

    def test_notes_go_along(self) -> None:
        row = aged(181)
        EventNote.objects.create(event=row, at=clock.now(), action="replay")
        assert prune()["rows"] == 1
        assert not EventNote.objects.exists()

    def test_the_oldest_first_and_no_more_than_asked(self) -> None:
        for days in (40, 33, 36):
            aged(days)
        assert prune(limit=2) == {"bodies": 2, "rows": 0, "rejects": 0}
        left = WebhookEvent.objects.get(body__isnull=False)
        assert left.received_at == clock.now() - 33 * DAY

    def test_without_a_body_there_is_no_replay(self) -> None:
        row = aged(31)
        prune()
        with pytest.raises(BodyGone):
            replay_event(event_id=row.pk)

    def test_armed_anew_in_between(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Somebody replays the event between the look and the deed: it stays whole."""
        row = aged(31)
        looked = pruning.without_body

        def then_armed(now: Any) -> Any:
            found = looked(now)
            batch = list(found.values_list("pk", flat=True))
            replay_event(event_id=row.pk)
            assert batch == [row.pk]
            return found.filter(pk__in=batch)

        monkeypatch.setattr(pruning, "without_body", then_armed)
        assert prune()["bodies"] == 0
        row.refresh_from_db()
        assert row.body is not None

    def test_the_days_can_be_set(self, settings: Settings) -> None:
        settings.WEBHOOK_BODY_DAYS, settings.WEBHOOK_ROW_DAYS = 1, 2
        for days in (0.5, 1.5, 2.5):
            aged(days)
        assert overdue() == {"bodies": 1, "rows": 1, "rejects": 0}

    def test_the_task(self) -> None:
        aged(31)
        tasks.prune_events()
        assert WebhookEvent.objects.get().body is None


def said(verb: str, *, bodies: int, rows: int) -> list[str]:
    counts = {"bodies": bodies, "rows": rows, "rejects": 0}
    return [f"{sort} {count} {verb} forgotten" for sort, count in counts.items()]


@pytest.mark.usefixtures("virtual")
class TestCommand:
    def test_all_of_it(self) -> None:
        for days in (31, 32, 33, 181):
            aged(days)
        assert run("--dry-run") == said("would be", bodies=3, rows=1)
        assert WebhookEvent.objects.filter(body__isnull=False).count() == 4
        assert run("--batch", "2") == said("were", bodies=3, rows=1)
        assert run() == said("were", bodies=0, rows=0)

    def test_a_wrong_batch(self) -> None:
        with pytest.raises(CommandError, match="at least 1"):
            run("--batch", "0")


def multiply(row: WebhookEvent, count: int) -> None:
    """Make it `count` rows, with one statement."""
    quoted = {str(f.column): f"e.{f.column}" for f in WebhookEvent._meta.concrete_fields}
    new_id = (
        "gen_random_uuid()" if connection.vendor == "postgresql" else "lower(hex(randomblob(16)))"
    )
    quoted |= {"id": new_id, "event_id": "e.event_id || '-' || n"}
    table = WebhookEvent._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers"
            f" WHERE n < %s) INSERT INTO {table} ({', '.join(quoted)})"
            f" SELECT {', '.join(quoted.values())} FROM {table} e, numbers WHERE e.event_id = %s",
            [count - 1, row.event_id],
        )


@pytest.mark.parametrize("body, row, right", [(1, 1, True), (0, 1, False), (2, 1, False)])
def test_the_check(settings: Settings, body: int, row: int, right: bool) -> None:
    settings.WEBHOOK_BODY_DAYS, settings.WEBHOOK_ROW_DAYS = body, row
    assert [m.id for m in checks.check_retention(app_configs=None)] == (
        [] if right else ["webhooks.E005"]
    )


@pytest.mark.faults
@pytest.mark.slow
def test_two_hundred_thousand(virtual: Clock) -> None:
    """Only what is due goes, in statements that touch 500 rows at most, found by an index."""
    kinds = [
        (EventStatus.PROCESSED, 200, 60_000),
        (EventStatus.FAILED, 100, 60_000),
        (EventStatus.IGNORED, 10, 60_000),
        (EventStatus.RECEIVED, 200, 10_000),
        (EventStatus.RETRYING, 100, 10_000),
    ]
    for status, days, count in kinds:
        multiply(aged(days, status), count)
    done: Counter[str] = Counter()
    most = 0
    while max((pruned := prune()).values()):
        done.update(pruned)
        most = max(most, *pruned.values())
    assert most == BATCH
    assert done["rows"] == 60_000
    rows = WebhookEvent.objects.annotate(empty=Q(body__isnull=True))
    left = Counter(rows.values_list("status", "empty"))
    assert left == {
        (EventStatus.FAILED, True): 60_000,
        (EventStatus.IGNORED, False): 60_000,
        (EventStatus.RECEIVED, False): 10_000,
        (EventStatus.RETRYING, False): 10_000,
    }
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert prune() == {"bodies": 0, "rows": 0, "rejects": 0}
    assert len(queries) <= 6
