"""`./dev bench`: what it measures, how it says it, and when it fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import transaction

from bench import __main__ as program
from bench import breaker, databases
from bench.databases import Database
from bench.measuring import Effort, Ratio, interleaved, ratio, statements
from bench.reports import Report, columns, goal, rated
from outbound.errors import RateLimited
from outbound.models import RateBucket
from outbound.tallies import AttemptTally
from tests.services.environment import ROOT, kept, project_environment, sqlite_url

TINY = Effort(rounds=2, calls=2, seconds=0.001)
NOWHERE = "postgres://nobody@127.0.0.1:9/none"


def cell(report: Report, name: str, column: str) -> str:
    row = next(row for row in report.rows if row[0] == name)
    return row[report.header.index(column)]


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
class TestBreaker:
    def test_the_table(self) -> None:
        """A row for each guard below the bare call, and nothing written where all is well."""
        report = breaker.measure(TINY)
        assert [row[0] for row in report.rows] == [
            "no guard",
            "breaker over attempts",
            "breaker by itself",
            "gate",
            "gate with limits",
        ]
        assert {len(row) for row in report.rows} == {len(report.header)}
        assert report.failures == []
        assert [cell(report, row[0], "writes/call") for row in report.rows] == [
            "0.00",
            "0.00",
            "0.00",
            "0.00",
            "3.00",
        ]
        for row in report.rows[1:]:
            assert float(cell(report, row[0], "ratio")) > 0
            assert cell(report, row[0], "<= 1.05") in ("goal met", "goal not met")

    def test_a_guard_that_fails(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The bench fails, and says which guard writes although all is well, and which lets calls
        through an open circuit."""
        made = breaker._breaker("made", AttemptTally())

        def writing(call: Any) -> None:
            made.call(call)
            RateBucket.objects.filter(name="x").update(full_at=1)

        @contextmanager
        def guards() -> Iterator[dict[str, breaker.Guard]]:
            yield {
                "writing": breaker.Guard(writing, made),
                "may write": breaker.Guard(writing, made, writes=True),
                "useless": breaker.Guard(lambda call: call(), made),
            }

        monkeypatch.setattr(breaker, "make_guards", guards)
        report = breaker.measure(TINY)
        writes, useless = report.failures
        assert writes.startswith("writing: a healthy call writes: UPDATE")
        assert useless == "useless: lets a call through an open circuit"
        assert any("FAILED: writing" in line for line in report.lines())

    def test_a_guard_that_refuses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A bench that measures refusals would measure nothing: it ends."""
        no_more = {"bench": {}, "limited": {"LIMITS": {"rate": 0.001}}}
        monkeypatch.setattr(breaker, "ADAPTERS", no_more)
        with pytest.raises(RateLimited):
            breaker.measure(TINY)

    def test_what_is_counted(self) -> None:
        """Every statement; and as writes those that change or lock rows."""
        rows = RateBucket.objects.filter(name="x")
        with statements() as found:
            RateBucket.objects.create(name="x", full_at=0)
            list(rows)
            rows.update(full_at=1)
            with transaction.atomic():
                list(rows.select_for_update())
        verbs = [sql.split()[0] for sql in found.writes]
        assert verbs[:2] == ["INSERT", "UPDATE"]
        assert len(verbs) == 3, "the lock: BEGIN IMMEDIATE, or FOR UPDATE"
        assert len(found.all) in (4, 5)


class TestMeasuring:
    def test_interleaved(self) -> None:
        """Each act as often as asked for, and another one first in each round."""
        seen: list[str] = []
        acts = {name: lambda name=name: seen.append(name) for name in "abc"}
        found = interleaved(acts, rounds=3, calls=2)
        assert "".join(seen) == "aabbcc" + "bbccaa" + "ccaabb"
        assert list(found) == ["a", "b", "c"]
        assert [len(calls) for calls in found["c"]] == [2, 2, 2]

    def test_ratio(self) -> None:
        """Of the medians of all; with the middle half of what the rounds say."""
        base = [[1.0, 1.0, 9.0]] * 4
        slower = [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [4.0, 4.0]]
        assert ratio(slower, base) == Ratio(2.5, 1.25, 3.75)

    def test_one_round(self) -> None:
        assert ratio([[3.0]], [[2.0]]) == Ratio(1.5, 1.5, 1.5)


class TestReports:
    def test_columns(self) -> None:
        """Names to the left, numbers to the right, nothing behind the last."""
        rows = [("", "ms"), ("long name", "1.0"), ("x", "")]
        assert columns(rows) == ["            ms", "long name  1.0", "x"]

    def test_rated(self) -> None:
        """Against another, round by round; of the one that all are held against only the rate."""
        base = [100.0, 200.0, 400.0]
        assert rated("base", base, base, 0.5) == ("base", "200", "1.00", "", "")
        assert rated("half", [50.0, 100.0, 200.0], base, 0.5) == (
            "half", "100", "0.50", "0.50 to 0.50", "goal met",
        )  # fmt: skip
        assert rated("less", [10.0, 80.0, 160.0], base, 0.5)[-1] == "goal not met"

    def test_goals(self) -> None:
        assert (goal(True), goal(False)) == ("goal met", "goal not met")

    def test_lines(self) -> None:
        report = Report("title", ("", "n"), [("row", "5")], notes=["note"], failures=["broken"])
        assert report.lines() == ["title", "       n", "  row  5", "  note", "  FAILED: broken"]


class TestProgram:
    """`python -m bench`, with databases that cost nothing."""

    @pytest.fixture(autouse=True)
    def only(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        url = sqlite_url(tmp_path / "bench.sqlite3")
        environment = kept(os.environ) | project_environment(state=tmp_path, database_url=url)

        @contextmanager
        def one(*, broker: bool) -> Iterator[list[Database]]:
            asked.append(broker)
            yield [Database("SQLite", environment), Database("Other", missing="it is not there")]

        asked: list[bool] = []
        self.asked_for_a_broker = asked
        monkeypatch.setattr(program, "databases", one)

    @pytest.fixture
    def finds(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        """What the child processes find."""

        def set_outcome(stdout: str, returncode: int = 0) -> None:
            ended = SimpleNamespace(stdout=stdout, returncode=returncode)
            monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)

        return set_outcome

    def test_all_is_well(self, finds: Any, capsys: pytest.CaptureFixture[str]) -> None:
        """The table of each database, and why one is missing; a time fails nothing."""
        finds('a log line\n{"title": "t", "header": ["", "n"], "rows": [["r", "goal not met"]]}\n')
        assert program.main(["breaker"]) == 0
        printed = capsys.readouterr().out
        assert "r  goal not met" in printed
        assert "skipped: it is not there" in printed
        assert self.asked_for_a_broker == [False]

    def test_what_takes_long(self, finds: Any, capsys: pytest.CaptureFixture[str]) -> None:
        """What takes minutes is run when it is named, and not with all others."""
        finds('{"title": "t", "header": [""], "rows": []}')
        program.main([])
        assert "ingest_history:" not in capsys.readouterr().out
        program.main(["ingest_history"])
        assert "ingest_history:" in capsys.readouterr().out

    def test_a_failure(self, finds: Any, capsys: pytest.CaptureFixture[str]) -> None:
        finds('{"title": "t", "header": [""], "rows": [["r"]], "failures": ["it writes"]}')
        assert program.main([]) == 1
        assert "FAILED: it writes" in capsys.readouterr().out

    def test_a_benchmark_that_breaks(self, finds: Any, capsys: pytest.CaptureFixture[str]) -> None:
        finds("", returncode=1)
        assert program.main(["ingest"]) == 1
        assert "FAILED: exit status 1" in capsys.readouterr().out

    def test_databases_of_its_own(self, finds: Any) -> None:
        """Each benchmark, with a broker where it wants one: what one has stored is no other's."""
        finds('{"title": "t", "header": [""], "rows": []}')
        assert program.main(["api", "breaker", "enqueue"]) == 0
        assert self.asked_for_a_broker == [True, False, True]

    @pytest.mark.parametrize(
        "arguments", [["nope"], ["--rounds", "0"], ["--calls", "x"], ["--rounds", "²"], ["--no"]]
    )
    def test_wrong_arguments(
        self, arguments: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """One line that says what is wrong, and how it is used."""
        with pytest.raises(SystemExit) as ended:
            program.main(arguments)
        assert ended.value.code == 2
        assert "./dev bench: error:" in capsys.readouterr().err


class TestDatabases:
    def test_without_postgresql(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server that is named and does not answer is said to be missing."""
        monkeypatch.setenv("TEST_DATABASE_URL", NOWHERE)
        with databases.databases() as [sqlite, postgresql]:
            assert sqlite.environment is not None
            assert sqlite.environment["DEBUG"] == "0"
            state = Path(sqlite.environment["STATE_DIR"])
            assert state.exists()
            assert postgresql.environment is None
            assert "TEST_DATABASE_URL (127.0.0.1:9)" in postgresql.missing
        assert not state.exists()


@pytest.mark.faults
@pytest.mark.parametrize(
    "name, row",
    [
        ("breaker", "no guard"),
        ("api", "POST /refunds"),
        ("ingest", "POST /webhooks/stripe"),
        ("ingest_history", "POST /webhooks/stripe, 20 events"),
        ("ingest_outage", "broker frozen"),
        ("enqueue", "enqueue_call"),
        ("calls", "50 ms: outbound call"),
        ("mail", "sendgrid"),
    ],
)
def test_for_real(name: str, row: str) -> None:
    """`./dev bench NAME`, as short as it can be."""
    ended = subprocess.run(
        [sys.executable, "-m", "bench", name, "--rounds", "1", "--calls", "1", "--rows", "20"],
        cwd=ROOT,
        env=kept(os.environ),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = ended.stdout.splitlines()
    assert lines.count("SQLite") == 1
    assert len([line for line in lines if line.startswith("PostgreSQL")]) == 1
    assert len([line for line in lines if line.startswith(f"  {row}")]) in (1, 2)
