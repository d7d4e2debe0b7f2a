"""The commands of the engine: help, dry runs, honest exit codes, errors of one line."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from cryptography.fernet import Fernet
from django.core.management import load_command_class
from django.db import connection
from pytest_django import Settings

from outbound import fields
from outbound.management.commands import rotate_encryption
from outbound.models import CallNote, OutboundCall
from outbound.services import cancel_call
from outbound.states import CallStatus
from tests.outbound.conftest import VirtualTime
from tests.outbound.rows import attempt, call_in, enqueue, reread
from tests.outbound.scripted import Script

pytestmark = pytest.mark.django_db(transaction=True)

S = CallStatus
OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))


class Ended(NamedTuple):
    """How a command ended, and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """`manage.py` with these arguments, in this process."""

    def run(name: str, *arguments: object) -> Ended:
        capsys.readouterr()
        status: Any = 0
        try:
            load_command_class("outbound", name).run_from_argv(
                ["manage.py", name, *map(str, arguments)]
            )
        except SystemExit as end:
            status = end.code
        captured = capsys.readouterr()
        return Ended(status or 0, captured.out, captured.err.strip())

    return run


@pytest.mark.parametrize("command", ["sweep", "retry_calls", "rotate_encryption"])
def test_help(command: str, run: Callable[..., Ended]) -> None:
    """Each says what it does and has a dry run."""
    ended = run(command, "--help")
    assert ended.status == 0
    assert "--dry-run" in ended.out
    assert f"manage.py {command}" in ended.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["sweep", "--limit", "0"],
        ["sweep", "--limit", "-1"],
        ["sweep", "--limit", "x"],
        ["sweep", "extra"],
        ["retry_calls"],
        ["retry_calls", "--limit", "0", "--adapter", "scripted"],
        ["retry_calls", "x"],
        ["retry_calls", str(uuid.UUID(int=7))],
        ["retry_calls", str(uuid.UUID(int=7)), "--adapter", "scripted"],
        ["retry_calls", "--as-new", "--adapter", "scripted"],
        ["retry_calls", "--as-new", "--reason", " ", "--adapter", "scripted"],
        ["rotate_encryption", "--limit", "5"],
    ],
)
def test_bad_input(arguments: list[str], run: Callable[..., Ended], script: Script) -> None:
    """A non-zero exit and a last line that says why, never a traceback."""
    ended = run(*arguments)
    assert ended.status in (1, 2)
    assert ended.out == ""
    assert "Traceback" not in ended.err
    assert "rror: " in ended.err.splitlines()[-1]


def of_calls(ended: Ended) -> list[str]:
    """What a sweep says of calls; each app above has rows of its own."""
    assert all(line.endswith(" handled") for line in ended.lines)
    return [line for line in ended.lines if line.startswith("calls ")]


@pytest.mark.both_databases
class TestSweep:
    @pytest.fixture
    def overdue(self, script: Script, time: VirtualTime) -> list[OutboundCall]:
        calls = [call_in(S.RUNNING, script), call_in(S.UNKNOWN, script), enqueue()]
        time.passes(seconds=30)
        return calls

    def test_run(
        self,
        run: Callable[..., Ended],
        overdue: list[OutboundCall],
        announced: list[Any],
    ) -> None:
        """Does what is overdue, and counts it."""
        ended = run("sweep")
        assert (ended.status, ended.err) == (0, "")
        assert of_calls(ended) == [
            "calls   leases expired     1 were handled",
            "calls   out of time        0 were handled",
            "calls   hooks run          0 were handled",
            "calls   circuits told      0 were handled",
            "calls   lookups announced  1 were handled",
            "calls   announced          2 were handled",
        ]
        assert reread(overdue[0]).status == S.RETRYING
        assert len(announced) == 3

    def test_dry_run(
        self,
        run: Callable[..., Ended],
        overdue: list[OutboundCall],
        announced: list[Any],
    ) -> None:
        """Counts the same sorts and changes nothing."""
        before = list(OutboundCall.objects.order_by("pk").values())
        ended = run("sweep", "--dry-run")
        assert ended.status == 0
        assert of_calls(ended) == [
            "calls   leases expired     1 would be handled",
            "calls   out of time        0 would be handled",
            "calls   hooks run          0 would be handled",
            "calls   circuits told      0 would be handled",
            "calls   lookups announced  1 would be handled",
            "calls   announced          1 would be handled",
        ]
        assert list(OutboundCall.objects.order_by("pk").values()) == before
        assert announced == []

    def test_limit(self, run: Callable[..., Ended], script: Script, time: VirtualTime) -> None:
        """No more rows of a sort than asked for."""
        calls = [call_in(S.RUNNING, script) for _ in range(3)]
        time.passes(seconds=30)
        run("sweep", "--limit", 2)
        assert sum(reread(call).status == S.RETRYING for call in calls) == 2


class TestRetryCalls:
    def test_by_id(self, run: Callable[..., Ended], script: Script) -> None:
        """The calls that are named, with a note of who did it."""
        chosen, other = call_in(S.FAILED, script), call_in(S.FAILED, script)
        ended = run("retry_calls", chosen.pk, "--reason", "cause is gone")
        assert (ended.status, ended.lines) == (0, ["1 retried, 0 skipped"])
        assert (reread(chosen).status, reread(other).status) == (S.PENDING, S.FAILED)
        note = CallNote.objects.get(call=chosen)
        assert (note.actor, note.reason) == ("manage.py retry_calls", "cause is gone")

    def test_by_filter(self, run: Callable[..., Ended], script: Script, settings: Settings) -> None:
        """The FAILED calls that fit every filter, oldest first, no more than the limit."""
        calls = [call_in(S.FAILED, script, op) for op in ("create", "charge", "create", "create")]
        call_in(S.UNKNOWN, script)
        ended = run(
            "retry_calls", "--adapter", "scripted", "--operation", "create",
            "--error-kind", "permanent_error", "--limit", 2,
        )  # fmt: skip
        assert (ended.status, ended.lines) == (0, ["2 retried, 0 skipped"])
        assert [reread(call).status for call in calls] == ["pending", "failed", "pending", "failed"]

    def test_nothing_fits(self, run: Callable[..., Ended], script: Script) -> None:
        """Nothing to do is no failure."""
        ended = run("retry_calls", "--adapter", "nobody")
        assert (ended.status, ended.lines) == (0, ["0 retried, 0 skipped"])

    def test_as_new(self, run: Callable[..., Ended], script: Script) -> None:
        """With another key, and a reason."""
        call = call_in(S.FAILED, script)
        ended = run("retry_calls", call.pk, "--as-new", "--reason", "other card")
        assert ended.status == 0
        assert reread(call).idempotency_key != call.idempotency_key

    def test_dry_run(self, run: Callable[..., Ended], script: Script) -> None:
        """Lists what it would retry, and changes nothing."""
        call = call_in(S.FAILED, script)
        ended = run("retry_calls", "--adapter", "scripted", "--dry-run")
        assert ended.status == 0
        assert ended.lines == [
            f"{call.pk} scripted.create {call.pk} failed permanent_error",
            "1 would be retried",
        ]
        assert reread(call).status == S.FAILED

    def test_skipped(self, run: Callable[..., Ended], script: Script) -> None:
        """What could not be retried is named with the reason, and the exit says so."""
        good, bad = call_in(S.FAILED, script), call_in(S.SUCCEEDED, script)
        ended = run("retry_calls", bad.pk, good.pk)
        assert ended.status == 1
        assert ended.lines == ["1 retried, 1 skipped"]
        assert ended.err.splitlines() == [
            f"{bad.pk}: a succeeded call cannot be retried",
            "CommandError: 1 of 2 calls were not retried",
        ]
        assert (reread(good).status, reread(bad).status) == (S.PENDING, S.SUCCEEDED)

    def test_unreadable_rows(
        self, run: Callable[..., Ended], script: Script, settings: Settings
    ) -> None:
        """A row whose key is lost is retried like any other: the worker parks it."""
        call = call_in(S.FAILED, script)
        settings.FIELD_ENCRYPTION_KEYS = [NEW]
        assert run("retry_calls", call.pk).status == 0
        assert run("retry_calls", "--adapter", "scripted").status == 0


@pytest.mark.both_databases
class TestRotateEncryption:
    @pytest.fixture
    def old(self, script: Script, settings: Settings) -> list[OutboundCall]:
        """Two calls under the old key, one of them with a result; the new key is in front."""
        settings.FIELD_ENCRYPTION_KEYS = [OLD]
        calls = [attempt(enqueue(payload={"n": 1, "note": "one"})), enqueue()]
        settings.FIELD_ENCRYPTION_KEYS = [NEW, OLD]
        return calls

    def test_run(
        self, run: Callable[..., Ended], old: list[OutboundCall], settings: Settings
    ) -> None:
        """Everything is readable with the new key alone; a second run finds nothing."""
        updated = reread(old[0]).updated_at
        ended = run("rotate_encryption")
        assert (ended.status, ended.err) == (0, "")
        assert "OutboundCall.payload: 2 of 2 were rotated" in ended.lines
        assert "OutboundCall.result: 1 of 1 were rotated" in ended.lines
        settings.FIELD_ENCRYPTION_KEYS = [NEW]
        assert reread(old[0]).payload["note"] == "one"
        assert reread(old[0]).result == {"id": "obj-1"}
        assert reread(old[0]).updated_at == updated
        assert "OutboundCall.payload: 0 of 2 were rotated" in run("rotate_encryption").lines

    def test_dry_run(
        self, run: Callable[..., Ended], old: list[OutboundCall], settings: Settings
    ) -> None:
        """Counts, and changes nothing."""
        ended = run("rotate_encryption", "--dry-run")
        assert ended.status == 0
        assert "OutboundCall.payload: 2 of 2 would be rotated" in ended.lines
        settings.FIELD_ENCRYPTION_KEYS = [OLD]
        assert reread(old[0]).payload["note"] == "one"

    def test_in_batches(
        self,
        run: Callable[..., Ended],
        script: Script,
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """More rows than a batch holds are all reached, each once."""
        settings.FIELD_ENCRYPTION_KEYS = [OLD]
        for _ in range(7):
            enqueue()
        settings.FIELD_ENCRYPTION_KEYS = [NEW, OLD]
        monkeypatch.setattr(rotate_encryption, "BATCH", 3)
        assert "OutboundCall.payload: 7 of 7 were rotated" in run("rotate_encryption").lines

    def test_unreadable(
        self, run: Callable[..., Ended], old: list[OutboundCall], settings: Settings
    ) -> None:
        """What no key opens is counted, left as it is, and makes the exit a failure."""
        settings.FIELD_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
        enqueue()
        settings.FIELD_ENCRYPTION_KEYS = [NEW, OLD]
        ended = run("rotate_encryption")
        assert ended.status == 1
        assert "OutboundCall.payload: 2 of 3 were rotated" in ended.lines
        assert ended.err == "CommandError: 1 values cannot be read with any of the keys"

    def test_a_concurrent_change(
        self,
        run: Callable[..., Ended],
        old: list[OutboundCall],
        settings: Settings,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A value that was written while it was being rotated is not written over."""
        real = fields.rotate

        def rotate(token: bytes) -> bytes:
            rotated = real(token)
            OutboundCall.objects.filter(pk=old[0].pk).update(payload={"n": 2}, result={"new": 1})
            return rotated

        monkeypatch.setattr(rotate_encryption, "rotate", rotate)
        ended = run("rotate_encryption")
        assert ended.status == 0
        assert "OutboundCall.payload: 1 of 2 were rotated" in ended.lines
        call = reread(old[0])
        assert (call.payload, call.result) == ({"n": 2}, {"new": 1})

    def test_it_does_not_touch_the_rest(
        self, run: Callable[..., Ended], old: list[OutboundCall]
    ) -> None:
        """Rotating is no move: a call that is cancelled meanwhile stays cancelled."""
        cancel_call(call_id=old[1].pk)
        run("rotate_encryption")
        assert reread(old[1]).status == S.CANCELLED
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM outbound_outboundcall")
            assert cursor.fetchone() == (2,)
