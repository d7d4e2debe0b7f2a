"""Many events are replayed by a row that remembers how far it is: each once, whatever dies."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection

from outbound import dispatcher, hints
from outbound.hints import Hint
from tests.house.polling import wait_until
from tests.services.environment import ROOT
from tests.webhooks.conftest import Clock
from tests.webhooks.rows import make_event
from webhooks import replaying, tasks
from webhooks.announcements import REPLAY_TASK, replay_hint
from webhooks.errors import IllegalMove, ReasonRequired, UnknownReplay, WrongFilter
from webhooks.models import EventNote, Replay, WebhookEvent
from webhooks.services import (
    EventFilter,
    ReplayCount,
    cancel_replay,
    count_replay,
    replay_event,
    start_replay,
)
from webhooks.states import FINISHED, REPLAY_MOVES, EventStatus, ReplayStatus

pytestmark = pytest.mark.django_db

S = EventStatus
STRIPE = EventFilter(source="stripe")


@pytest.fixture
def published(published: list[Hint], monkeypatch: pytest.MonkeyPatch) -> list[Hint]:
    """Also what waits for a commit, which a test that is rolled back never sees."""
    monkeypatch.setattr(hints, "announce_on_commit", published.append)
    return published


def make_events(number: int, virtual: Clock, status: S = S.FAILED, **columns: Any) -> list[Any]:
    """Received now; then a second passes, so that a replay finds them."""
    rows = [make_event(status=status, **columns) for _ in range(number)]
    virtual.forward(1)
    return rows


def start(events: EventFilter = STRIPE, **options: Any) -> Replay:
    return start_replay(events=events, **{"reason": "their fault", "actor": "ada", **options})


def run_to_the_end(virtual: Clock, row: Replay) -> int:
    """As workers do; returns how many steps it took."""
    for steps in range(1, 100):
        replaying.step(replay_id=row.pk)
        row.refresh_from_db()
        if row.status == ReplayStatus.FINISHED:
            return steps
        virtual.now = max(virtual.now, row.due_at)
    raise AssertionError("it never ends")


def notes() -> Counter[uuid.UUID]:
    return Counter(EventNote.objects.values_list("event_id", flat=True))


def armed() -> int:
    return WebhookEvent.objects.filter(status=S.RECEIVED).count()


@pytest.mark.both_databases
class TestSteps:
    def test_each_event_once_and_in_order(self, virtual: Clock, published: list[Hint]) -> None:
        """All that the filter finds, by the guarded move, with a note of who and why."""
        rows = make_events(7, virtual)
        row = start(pace=3)
        assert (row.total, row.status) == (7, ReplayStatus.PENDING)
        assert run_to_the_end(virtual, row) == 3
        assert (row.done, row.skipped) == (7, 0)
        assert notes() == {event.pk: 1 for event in rows}
        note = EventNote.objects.all()[0]
        assert (note.actor, note.reason) == ("ada", "their fault")
        handled = [hint.kwargs["event_ids"][0] for hint in published if hint.task != REPLAY_TASK]
        assert handled == [str(event.pk) for event in sorted(rows, key=lambda e: e.pk)]
        for event in rows:
            event.refresh_from_db()
            assert (event.status, event.failures) == (S.RECEIVED, 0)

    def test_what_cannot_be_replayed_is_skipped_and_counted(self, virtual: Clock) -> None:
        """Without a body, not finished, or not there any more when it is its turn."""
        make_events(2, virtual)
        make_events(1, virtual, body=None)
        make_events(1, virtual, S.PROCESSING)
        assert count_replay(events=STRIPE) == ReplayCount(found=4, ready=2)
        gone = make_event(status=S.PROCESSED)
        virtual.forward(1)
        row = start()
        WebhookEvent.objects.filter(pk=gone.pk).delete()
        run_to_the_end(virtual, row)
        assert (row.total, row.done, row.skipped) == (5, 2, 3)

    def test_what_it_sets_going_is_never_met_again(self, virtual: Clock) -> None:
        """An event that fails anew behind the mark stays; one that comes later is none of it."""
        make_events(4, virtual)
        row = start(EventFilter(status="failed"), pace=2)
        replaying.step(replay_id=row.pk)
        WebhookEvent.objects.filter(status=S.RECEIVED).update(status=S.FAILED)
        make_events(1, virtual)
        virtual.forward(1)
        run_to_the_end(virtual, row)
        assert (row.done, row.skipped) == (4, 0)
        assert set(notes().values()) == {1}

    def test_the_pace_is_kept(self, virtual: Clock) -> None:
        """Before its second is over there is no next step, whoever asks."""
        make_events(6, virtual)
        row = start(pace=2)
        for seconds, expected in ((0, 2), (0, 2), (0.9, 2), (0.2, 4), (0.5, 4), (0.6, 6)):
            virtual.forward(seconds)
            replaying.step(replay_id=row.pk)
            assert armed() == expected

    def test_a_worker_that_dies_within_a_batch(
        self, virtual: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its batch is undone; nobody else may go on until its lease ends, and then it does."""
        make_events(3, virtual)
        row = start()

        def die(*args: object, **options: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(replaying, "_finish", die)
            with pytest.raises(KeyboardInterrupt):
                replaying.step(replay_id=row.pk)
        assert armed() == 0
        assert replaying.step(replay_id=row.pk) is None
        assert replaying.overdue() == {"announced": 0}
        virtual.forward(django_settings.OUTBOUND_LEASE_SECONDS)
        assert replaying.overdue() == {"announced": 1}
        run_to_the_end(virtual, row)
        assert (row.done, set(notes().values())) == (3, {1})

    def test_who_lost_the_lease_commits_nothing(
        self, virtual: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A worker that slept through its lease finds the other one's token."""
        make_events(3, virtual)
        row = start()
        take, slept = replaying._take_batch, list[bool]()

        def sleep_first(*args: Any, **options: Any) -> int | None:
            if not slept:
                slept.append(True)
                virtual.forward(django_settings.OUTBOUND_LEASE_SECONDS)
                assert replaying.step(replay_id=row.pk)
            return take(*args, **options)

        monkeypatch.setattr(replaying, "_take_batch", sleep_first)
        assert replaying.step(replay_id=row.pk) is None
        row.refresh_from_db()
        assert (row.done, row.status) == (3, ReplayStatus.FINISHED)
        assert set(notes().values()) == {1}

    @pytest.mark.parametrize("steps", [0, 1])
    def test_a_cancelled_one_goes_no_further(self, virtual: Clock, steps: int) -> None:
        """What was done stays done, and says so."""
        make_events(4, virtual)
        row = start(pace=2)
        for _ in range(steps):
            replaying.step(replay_id=row.pk)
        cancel_replay(replay_id=row.pk, actor="eva")
        virtual.forward(10)
        assert replaying.step(replay_id=row.pk) is None
        row.refresh_from_db()
        assert (row.status, row.cancelled_by) == (ReplayStatus.CANCELLED, "eva")
        assert (row.done, armed()) == (2 * steps, 2 * steps)
        with pytest.raises(IllegalMove):
            cancel_replay(replay_id=row.pk)

    def test_cancelled_between_two_batches_of_a_step(
        self, virtual: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Who holds the lease notices before the next batch."""
        monkeypatch.setattr(replaying, "BATCH", 2)
        make_events(4, virtual)
        row = start()
        take = replaying._take_batch

        def cancel_behind(*args: Any, **options: Any) -> int | None:
            seen = take(*args, **options)
            if seen is not None:
                cancel_replay(replay_id=row.pk)
            return seen

        monkeypatch.setattr(replaying, "_take_batch", cancel_behind)
        assert replaying.step(replay_id=row.pk) is None
        row.refresh_from_db()
        assert (row.status, armed()) == (ReplayStatus.CANCELLED, 2)


@pytest.mark.faults
@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_many_workers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight that go at it all the time: each event once."""
    monkeypatch.setattr(replaying, "BATCH", 7)
    for _ in range(60):
        make_event(status=S.PROCESSED)
    row = start(pace=1000)

    def work(_: int) -> None:
        try:
            for _again in range(20):
                try:
                    replaying.step(replay_id=row.pk)
                except OperationalError:  # SQLite was busy: somebody else goes on
                    continue
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    row.refresh_from_db()
    assert (row.status, row.done) == (ReplayStatus.FINISHED, 60)
    assert sorted(notes().values()) == [1] * 60


WORKER = """
import sys, django
django.setup()
from webhooks import replaying
take = replaying._take_batch
def tell(*args, **options):
    print(take(*args, **options), flush=True)
    return 5
replaying.BATCH = 5
replaying._take_batch = tell
replaying.step(replay_id=sys.argv[1])
"""


@pytest.mark.faults
@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_a_worker_that_is_killed() -> None:
    """SIGKILL in the middle of a step: another one goes on when its lease has ended, and each
    event has been replayed once."""
    events = 300
    for _ in range(events):
        make_event(status=S.PROCESSED)
    row = start(pace=1000)
    environment = {**os.environ, "LEASE_SECONDS": "2"}
    environment["DJANGO_SETTINGS_MODULE"] = "integrations_project.settings"
    with subprocess.Popen(
        [sys.executable, "-c", WORKER, str(row.pk)],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True,
    ) as worker:  # fmt: skip
        assert worker.stdout is not None
        assert [worker.stdout.readline() for _ in range(4)] == ["5\n"] * 4
        worker.kill()
    row.refresh_from_db()
    assert row.status == ReplayStatus.RUNNING
    assert 20 <= row.done < events
    assert armed() == row.done
    wait_until(lambda: replaying.step(replay_id=row.pk) is not None, what="the lease has ended")
    row.refresh_from_db()
    assert (row.status, row.done) == (ReplayStatus.FINISHED, events)
    assert sorted(notes().values()) == [1] * events


class TestFilters:
    @pytest.mark.both_databases
    @pytest.mark.parametrize(
        "events,found",
        [
            (EventFilter(source="stripe"), "abcd"),
            (EventFilter(event_type="x"), "b"),
            (EventFilter(status="failed"), "a"),
            (EventFilter(status="failed", event_type="x"), ""),
            (EventFilter(event_ids=("evt_a", "evt_d", "evt_z")), "ad"),
            (EventFilter(event_ids=("evt_c",), status="ignored"), "c"),
        ],
    )
    def test_all_that_is_said_holds(self, virtual: Clock, events: EventFilter, found: str) -> None:
        statuses = {"a": S.FAILED, "b": S.PROCESSED, "c": S.IGNORED, "d": S.PROCESSED}
        for name, status in statuses.items():
            make_event(
                event_id=f"evt_{name}", status=status, event_type="x" if name == "b" else "y"
            )
        virtual.forward(1)
        names = {row.event_id[-1] for row in events.events()}
        assert names == set(found)
        assert count_replay(events=events).found == len(found)

    def test_times_and_our_own_ids(self, virtual: Clock) -> None:
        """From then on, and before then."""
        begins = virtual.now
        first, second = (make_events(1, virtual)[0] for _ in range(2))
        for since, until, expected in (
            (0, 1, [first]),
            (1, None, [second]),
            (0, 2, [first, second]),
        ):
            events = EventFilter(
                since=begins + timedelta(seconds=since),
                until=None if until is None else begins + timedelta(seconds=until),
            )
            assert set(events.events()) == set(expected)
        assert list(EventFilter(event_ids=(str(second.pk).upper(),)).events()) == [second]

    @pytest.mark.parametrize(
        "events",
        [
            EventFilter(),
            EventFilter(source="nobody"),
            EventFilter(source="stripe", status="received"),
            EventFilter(source="stripe", status="nonsense"),
            EventFilter(event_type="a\x00b"),
            EventFilter(event_type="\ud800"),
            EventFilter(event_ids=("",)),
            EventFilter(event_ids=("a\x00",)),
            EventFilter(event_ids=("x" * 256,)),
            EventFilter(event_ids=tuple(map(str, range(1001)))),
        ],
    )
    def test_nonsense(self, events: EventFilter) -> None:
        """It is refused by name, never a 500, and never taken for everything."""
        for ask in (count_replay, start):
            with pytest.raises(WrongFilter):
                ask(events=events)
        assert not Replay.objects.exists()

    def test_it_ends_after_it_begins(self, virtual: Clock) -> None:
        now = virtual.now
        with pytest.raises(WrongFilter):
            count_replay(events=EventFilter(since=now, until=now))

    def test_what_must_be_said(self, virtual: Clock) -> None:
        """A reason, a pace within bounds, and events that are there."""
        with pytest.raises(WrongFilter, match="no such event"):
            start()
        make_events(1, virtual)
        with pytest.raises(ReasonRequired):
            start(reason="  ")
        for pace in (0, -1, replaying.MAX_PACE + 1):
            with pytest.raises(WrongFilter):
                start(pace=pace)


class TestMessages:
    def test_it_is_announced_and_announces_itself(
        self, virtual: Clock, published: list[Hint]
    ) -> None:
        """One message after the commit; after each step another one, when the pace allows it;
        after the last none."""
        make_events(3, virtual)
        row = start(pace=2)
        assert published == [replay_hint(row.pk)]
        published.clear()
        self.run(row)
        assert [hint for hint in published if hint.task == REPLAY_TASK] == [
            replay_hint(row.pk, countdown=1)
        ]
        published.clear()
        virtual.forward(1)
        self.run(row)
        assert [hint.task for hint in published] == ["webhooks.process_events"]
        row.refresh_from_db()
        assert row.status == ReplayStatus.FINISHED

    def run(self, row: Replay) -> None:
        """The task, with an argument of tomorrow."""
        kwargs = {"replay_id": str(row.pk), "new": 1}
        tasks.go_on_replaying.apply(kwargs=kwargs, throw=True)

    @pytest.mark.parametrize("replay_id", ["no id", str(uuid.UUID(int=7))])
    def test_a_message_about_nothing(self, replay_id: str, published: list[Hint]) -> None:
        tasks.go_on_replaying.apply(kwargs={"replay_id": replay_id}, throw=True)
        assert published == []

    def test_the_sweep_announces_what_nobody_goes_on_with(
        self, virtual: Clock, published: list[Hint]
    ) -> None:
        """Once in a while, not over and over; a finished one never."""
        make_events(1, virtual)
        row = start()
        published.clear()
        virtual.forward(django_settings.OUTBOUND_HINT_GRACE_SECONDS)
        for _ in range(2):
            tasks.sweep_events.apply(throw=True)
        assert [hint for hint in published if hint.task == REPLAY_TASK] == [replay_hint(row.pk)]
        run_to_the_end(virtual, row)
        published.clear()
        virtual.forward(1000)
        replaying.sweep(limit=10)
        assert published == []

    def test_the_dispatcher_takes_it_up(self, virtual: Clock) -> None:
        """In the embedded form the row is asked, and a dead worker's announcement forgotten."""
        assert replaying in dispatcher.backlogs()
        printed = StringIO()
        call_command("sweep", "--dry-run", stdout=printed)
        assert "replays announced          0 would be handled" in printed.getvalue()
        make_events(1, virtual)
        row, said = start(), list[Hint]()
        assert replaying.announce_due(limit=5, announce=said.append) == 1
        assert replaying.announce_due(limit=5, announce=said.append) == 0
        replaying.forget_announcements()
        assert replaying.announce_due(limit=5, announce=said.append) == 1
        assert said == [replay_hint(row.pk)] * 2

    def test_it_has_a_queue_of_its_own_task(self) -> None:
        """Maintenance: deliveries do not wait behind it."""
        assert tasks.go_on_replaying.name == REPLAY_TASK
        route = django_settings.CELERY_TASK_ROUTES[REPLAY_TASK]
        assert route == {"queue": django_settings.MAINTENANCE_QUEUE}
        assert replay_hint("x").queue == django_settings.MAINTENANCE_QUEUE


def test_there_are_no_other_moves() -> None:
    """Every pair of statuses: moved where the table says so, refused everywhere else."""
    now = make_event().received_at
    for before in ReplayStatus:
        for after in ReplayStatus:
            row = Replay.objects.create(
                status=before, until=now, total=1, pace=1, due_at=now, hint_at=now, reason="x",
                created_at=now, updated_at=now,
            )  # fmt: skip
            moved = Replay.objects.filter(pk=row.pk).move_to(after, now=now)
            assert moved == (after in REPLAY_MOVES[before])


def test_one_event_and_many_share_the_way(virtual: Clock) -> None:
    """Replayed alone or among others it stands the same."""
    alone, among = make_events(1, virtual, source="stripe")[0], make_events(1, virtual)[0]
    replay_event(event_id=alone.pk, actor="ada", reason="r")
    row = start(EventFilter(event_ids=(among.event_id,)))
    run_to_the_end(virtual, row)
    columns = ("status", "rule", "failures", "misses", "crashes", "processed_at", "lease_token")
    one, other = (
        WebhookEvent.objects.filter(pk=each.pk).values(*columns).get() for each in (alone, among)
    )
    assert one == other


class TestCommand:
    def run(self, *arguments: str) -> str:
        printed = StringIO()
        call_command("replay_events", *arguments, stdout=printed)
        return printed.getvalue()

    def test_the_whole_way(self, virtual: Clock) -> None:
        """Count, start, list, look, cancel."""
        make_events(3, virtual)
        make_events(1, virtual, body=None, id=uuid.UUID(int=2**128 - 1))  # the last in its order
        assert self.run("--source", "stripe", "--dry-run") == "3 would be replayed, 1 not\n"
        assert self.run("--list") == "no replay yet\n"
        assert not Replay.objects.exists()
        arguments = ("--source", "stripe", "--status", "failed", "--pace", "2/s", "--reason", "x")
        said = self.run(*arguments)
        row = Replay.objects.get()
        assert said == f"{row.pk} replays 4 events, 2 a second\n"
        assert (row.pace, row.event_status) == (2, "failed")
        replaying.step(replay_id=row.pk)
        assert "2 of 4 replayed, 0 skipped" in self.run("--show", str(row.pk))
        assert self.run("--list") == self.run("--show", str(row.pk))
        assert self.run("--cancel", str(row.pk), "--dry-run") == self.run("--list")
        said = self.run("--cancel", str(row.pk))
        assert said == f"{row.pk} cancelled: 2 of 4 were replayed\n"

    def test_by_time_and_by_name(self, virtual: Clock) -> None:
        rows = make_events(2, virtual)
        assert self.run("--event-id", rows[0].event_id, "--dry-run").startswith("1 would")
        assert self.run("--since", "2030-12-31T23:00:00Z", "--dry-run").startswith("2 would")
        assert self.run("--until", "2030-12-31", "--dry-run").startswith("0 would")

    @pytest.mark.parametrize(
        "arguments",
        [
            (),
            ("--dry-run",),
            ("--reason", "x"),
            ("--source", "stripe"),
            ("--source", "nobody", "--reason", "x"),
            ("--source", "stripe", "--reason", "x", "--pace", "0"),
            ("--source", "stripe", "--reason", "x", "--pace", "-1"),
            ("--source", "stripe", "--reason", "x", "--pace", "many"),
            ("--source", "stripe", "--reason", "x", "--pace", "1001"),
            ("--source", "stripe", "--reason", "x", "--since", "yesterday"),
            ("--source", "stripe", "--reason", "x", "--since", "0001-01-01T00:00:00+23:00"),
            ("--source", "stripe", "--status", "received", "--reason", "x"),
            ("--event-id", "nothing", "--reason", "x"),
            ("--show", "no id"),
            ("--cancel", "no id"),
            ("--cancel", str(uuid.UUID(int=7))),
            ("--show", str(uuid.UUID(int=7)), "--source", "stripe"),
            ("--list", "--show", "x"),
        ],
    )
    def test_bad_input(self, virtual: Clock, arguments: tuple[str, ...]) -> None:
        """One line and a non-zero exit, and nothing has changed."""
        make_events(1, virtual)
        with pytest.raises(CommandError) as caught:
            self.run(*arguments)
        assert len(str(caught.value).splitlines()) == 1
        assert not Replay.objects.exists()

    def test_without_a_reason(self, virtual: Clock) -> None:
        make_events(1, virtual)
        with pytest.raises(CommandError, match="say why"):
            self.run("--source", "stripe")


def test_unknown_replays() -> None:
    for value in ("no id", uuid.uuid4(), None, ""):
        with pytest.raises(UnknownReplay):
            cancel_replay(replay_id=value)


def test_every_finished_status_can_be_asked_for() -> None:
    """The words of the filter are those of the events."""
    for status in FINISHED:
        EventFilter(status=status).demand_sane()
