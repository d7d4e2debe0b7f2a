"""Refusals are counted, all of them; a few are logged and stored; a burst raises one alert."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sentry_sdk
from django.core.management import call_command
from django.db import OperationalError, connection
from django.test import Client
from prometheus_client import REGISTRY
from pytest_django import Settings
from structlog.testing import capture_logs

from outbound import clock
from tests.house.polling import wait_until
from tests.webhooks.conftest import Clock
from tests.webhooks.deliveries import OLD_SECRET, signature, stripe_body
from tests.webhooks.serving import Server, head, sized
from webhooks import checks, reject_rows, rejects, sweep
from webhooks.errors import BodyTooLarge, InvalidSignature, MissingSignature, UnknownSource
from webhooks.models import Reject, RejectWatch
from webhooks.reject_rows import KEPT, QUIET, Sample
from webhooks.rejects import STORED, Recorder, RejectCounter
from webhooks.signals import rejects_burst

WINDOW = 60.0
THRESHOLD = 10


class Seconds:
    """A monotonic clock, turned by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_every_refusal_is_counted() -> None:
    """By source and kind."""
    counter = RejectCounter(samples=1)
    for _ in range(3):
        counter.note("stripe", InvalidSignature("x"))
    counter.note("stripe", MissingSignature("x"))
    counter.note("other", BodyTooLarge("x"))
    assert counter.counts == {
        ("stripe", "wrong_signature"): 3,
        ("stripe", "no_signature"): 1,
        ("other", "too_large"): 1,
    }


def test_names_that_anybody_makes_up_share_one_place() -> None:
    """The counter does not grow with what is asked for."""
    counter = RejectCounter()
    for number in range(1000):
        counter.note(f"source-{number}", UnknownSource("x"))
    assert counter.counts == {("", "unknown_source"): 1000}


def test_a_few_lines_per_window() -> None:
    """In the next window lines are written again, and the first says how many were not."""
    seconds = Seconds()
    counter = RejectCounter(samples=2, window=WINDOW, monotonic=seconds)
    with capture_logs() as lines:
        for _ in range(10):
            counter.note("stripe", InvalidSignature("the signature does not match"))
        seconds.now += WINDOW - 0.1
        counter.note("stripe", InvalidSignature("x"))
        assert len(lines) == 2
        seconds.now += 0.1
        counter.note("stripe", InvalidSignature("x"))
        counter.note("stripe", InvalidSignature("x"))
    assert [line["silenced_before"] for line in lines] == [0, 0, 9, 0]
    assert lines[0]["status"] == 401
    assert lines[0]["kind"] == "wrong_signature"


def sample(source: str = "stripe", kind: str = "wrong_signature", **columns: Any) -> Sample:
    usual: dict[str, Any] = {
        "status": 401,
        "network": "8.8.8.0/24",
        "user_agent": "curl",
        "length": 7,
    }
    return Sample(source=source, kind=kind, **(usual | columns))


class TestSamples:
    """What is stored of a refusal."""

    def refuse(self, client: Client, path: str = "/webhooks/stripe", **meta: Any) -> Sample:
        """The sample that the view takes of one refusal."""
        taken: list[Sample] = []
        recorder = Recorder(lambda counts, samples: taken.extend(samples))
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(rejects.rejects, "_recorder", recorder)
            client.generic("POST", path, b"{}", **meta)
        recorder.flush()
        [found] = taken
        return found

    def test_who_about_and_why(self, client: Client) -> None:
        """The network instead of the address, and nothing of what was sent."""
        found = self.refuse(
            client,
            REMOTE_ADDR="8.8.4.4",
            HTTP_USER_AGENT="curl/8",
            HTTP_STRIPE_SIGNATURE="t=1,v1=0",
        )
        assert found == Sample(
            source="stripe", kind="wrong_signature", status=401, network="8.8.4.0/24",
            user_agent="curl/8", length=2,
        )  # fmt: skip

    @pytest.mark.parametrize(
        "path,source",
        [("/webhooks/nobody", ""), ("/webhooks/closed", "closed"), ("/webhooks/" + "x" * 999, "")],
    )
    def test_which_source(self, client: Client, path: str, source: str) -> None:
        """A name of ours that has lost its secret is told from a name that somebody made up."""
        assert self.refuse(client, path).source == source

    @pytest.mark.parametrize(
        "meta,column,stored",
        [
            ({"HTTP_USER_AGENT": "x" * 5000}, "user_agent", "x" * 119 + "…"),
            ({"HTTP_USER_AGENT": "\x00"}, "user_agent", "\N{REPLACEMENT CHARACTER}"),
            ({"HTTP_USER_AGENT": "a@example.com"}, "user_agent", "[hidden]"),
            ({"REMOTE_ADDR": ""}, "network", ""),
            ({"REMOTE_ADDR": "2a00:1450:1:2::3"}, "network", "2a00:1450:1::/48"),
            ({"CONTENT_LENGTH": "9" * 5000}, "length", None),
            ({"CONTENT_LENGTH": str(2**31)}, "length", None),
            ({"CONTENT_LENGTH": "-1"}, "length", None),
            ({"CONTENT_LENGTH": "٣"}, "length", None),
            ({"CONTENT_LENGTH": ""}, "length", None),
        ],
    )
    def test_odd_requests(
        self, client: Client, meta: dict[str, str], column: str, stored: Any
    ) -> None:
        """Cut and cleaned to what the columns hold."""
        assert getattr(self.refuse(client, **meta), column) == stored

    @pytest.mark.django_db
    def test_nothing_that_was_sent_is_stored(self, client: Client) -> None:
        found = self.refuse(
            client, "/webhooks/stripe?token=marked", HTTP_STRIPE_SIGNATURE="t=1,v1=marked",
            HTTP_X_OTHER="marked", REMOTE_ADDR="8.8.4.4",
        )  # fmt: skip
        reject_rows.record({"stripe": 1}, [found])
        row = Reject.objects.values().get()
        assert "marked" not in str(row)
        assert "8.8.4.4" not in str(row)


class TestRecorder:
    """The way to the database never holds up an answer, and never writes at a flood's pace."""

    def test_a_flood_is_one_write(self) -> None:
        """All counts, and a sample of each sort."""
        writes: list[tuple[Mapping[str, int], list[Sample]]] = []
        recorder = Recorder(lambda counts, samples: writes.append((counts, samples)))
        for _ in range(1000):
            recorder.put("a", "x", lambda: sample("a", "x"))
            recorder.put("b", "y", lambda: sample("b", "y"))
        recorder.flush()
        assert writes == [({"a": 1000, "b": 1000}, [sample("a", "x"), sample("b", "y")])]

    def test_samples_are_bounded(self) -> None:
        taken: list[Sample] = []
        recorder = Recorder(lambda counts, samples: taken.extend(samples))
        for number in range(100):
            recorder.put(f"s{number}", "x", sample)
        recorder.flush()
        assert len(taken) == STORED

    def test_while_the_database_is_away(self) -> None:
        """Counts wait for it, samples do not; nothing is raised."""
        seen: list[Mapping[str, int]] = []

        def record(counts: Mapping[str, int], samples: list[Sample]) -> None:
            seen.append(dict(counts))
            if len(seen) < 3:
                raise OperationalError
            assert samples == []

        recorder = Recorder(record)
        recorder.put("a", "x", sample)
        assert not recorder.flush()
        assert not recorder.flush()
        assert recorder.flush()
        assert seen == [{"a": 1}] * 3

    def test_the_thread_writes_and_rests(self) -> None:
        """One write, then a pause, then what came meanwhile."""
        rested, go_on = threading.Semaphore(0), threading.Semaphore(0)
        writes: list[int] = []

        def record(counts: Mapping[str, int], samples: list[Sample]) -> None:
            writes.append(counts["a"])

        def pause(seconds: float) -> None:
            assert seconds == rejects.PAUSE_SECONDS
            rested.release()
            go_on.acquire()

        recorder = Recorder(record, pause=pause)
        thread = threading.Thread(target=recorder._run, daemon=True)
        thread.start()
        recorder.put("a", "x", sample)
        assert rested.acquire(timeout=30)
        for _ in range(5):
            recorder.put("a", "x", sample)
        assert writes == [1]
        go_on.release()
        assert rested.acquire(timeout=30)
        assert writes == [1, 5]

    @pytest.mark.parametrize("path", ["/webhooks/stripe", "/webhooks/nobody"])
    def test_a_refusal_needs_no_database(self, client: Client, path: str) -> None:
        """This test may not touch one: the answer is what it always is."""
        answer = client.post(path, b"{}", content_type="application/json")
        assert answer.status_code in (400, 404)


@pytest.mark.django_db
@pytest.mark.both_databases
class TestRows:
    def test_the_newest_are_kept(self) -> None:
        """Of each source by itself."""
        for number in range(3):
            reject_rows.keep([sample("other", length=number)])
        rows = [sample(length=number) for number in range(KEPT)]
        reject_rows.keep(rows)
        reject_rows.keep([sample(length=KEPT), sample(length=KEPT + 1)])
        kept = set(Reject.objects.filter(source="stripe").values_list("length", flat=True))
        assert len(kept) == KEPT
        assert kept >= {KEPT, KEPT + 1}
        assert Reject.objects.filter(source="other").count() == 3

    def test_they_are_forgotten_with_the_bodies(self, virtual: Clock) -> None:
        reject_rows.keep([sample()])
        virtual.forward(30 * 86_400)
        call_command("prune")
        assert Reject.objects.count() == 1
        virtual.forward(1)
        call_command("prune")
        assert not Reject.objects.exists()


@pytest.fixture
def told(settings: Settings) -> Iterator[list[tuple[str, bool]]]:
    """What the signal has told: (source, began)."""
    settings.WEBHOOK_REJECTS_ALERT = THRESHOLD
    heard: list[tuple[str, bool]] = []

    def hear(*, watch: RejectWatch, incident: uuid.UUID, began: bool, **_: Any) -> None:
        heard.append((watch.source, began))

    rejects_burst.connect(hear)
    yield heard
    rejects_burst.disconnect(hear)


@pytest.mark.django_db
@pytest.mark.both_databases
class TestBursts:
    def test_one_alert_for_an_incident(self, virtual: Clock, told: list[Any]) -> None:
        """However long it lasts, and whoever counts."""
        reject_rows.add("stripe", THRESHOLD - 1)
        assert told == []
        with capture_logs() as lines:
            for _ in range(50):
                reject_rows.add("stripe", 1)
                virtual.forward(5)
        assert told == [("stripe", True)]
        [line] = [line for line in lines if line["event"] == "rejects_burst"]
        assert (line["source"], line["log_level"]) == ("stripe", "warning")

    def test_it_is_over_after_a_quiet_time(self, virtual: Clock, told: list[Any]) -> None:
        """And the next burst is another incident."""
        reject_rows.add("stripe", THRESHOLD)
        virtual.forward(QUIET.total_seconds() - 1)
        assert (reject_rows.unsettled(), reject_rows.settle(limit=9)) == (0, 0)
        virtual.forward(1)
        assert (reject_rows.unsettled(), sweep.sweep(limit=9)["bursts_settled"]) == (1, 1)
        assert reject_rows.settle(limit=9) == 0
        watch = RejectWatch.objects.get()
        assert (watch.incident, watch.ended_at) == (None, virtual.now)
        reject_rows.add("stripe", THRESHOLD)
        assert told == [("stripe", True), ("stripe", False), ("stripe", True)]

    def test_a_trickle_is_no_burst(self, virtual: Clock, told: list[Any]) -> None:
        """The window begins anew."""
        for _ in range(5 * THRESHOLD):
            reject_rows.add("stripe", 1)
            virtual.forward(WINDOW / (THRESHOLD - 1))
        assert told == []

    def test_each_source_by_itself(self, virtual: Clock, told: list[Any]) -> None:
        for source in ("a", "", "b"):
            reject_rows.add(source, THRESHOLD - 1)
        reject_rows.add("", 1)
        assert told == [("", True)]

    def test_a_winner_that_dies_before_it_tells(
        self, virtual: Clock, told: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The sweep raises the alert, once."""
        with monkeypatch.context() as patched:
            patched.setattr(reject_rows, "tell", lambda source, incident: False)
            reject_rows.add("stripe", THRESHOLD)
        assert reject_rows.settle(limit=9) == 0  # it may still be about to
        virtual.forward(10)
        assert [reject_rows.settle(limit=9) for _ in range(3)] == [1, 0, 0]
        assert told == [("stripe", True)]

    def test_sentry_hears_of_it_once(
        self, virtual: Clock, told: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With the incident as its fingerprint; the end is no event."""
        captured: list[str] = []
        monkeypatch.setattr(
            sentry_sdk, "capture_message", lambda text, level: captured.append(text)
        )
        reject_rows.add("stripe", 5 * THRESHOLD)
        virtual.forward(QUIET.total_seconds())
        reject_rows.settle(limit=9)
        assert captured == ["deliveries of stripe are refused"]
        assert told == [("stripe", True), ("stripe", False)]


@pytest.mark.faults
@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_many_processes_at_once_raise_one_alert(told: list[Any]) -> None:
    """Eight that count the same flood."""

    def count(_: int) -> None:
        try:
            for _again in range(20):
                reject_rows.add("stripe", 3)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    assert told == [("stripe", True)]
    assert RejectWatch.objects.get().refused == 8 * 20 * 3


@pytest.mark.parametrize("name", ["WEBHOOK_REJECTS_ALERT", "WEBHOOK_FAILURES_PER_MINUTE"])
@pytest.mark.parametrize("value,problems", [(1, 0), (0, 1), (-1, 1), (True, 1), ("5", 1), (1.5, 1)])
def test_bounds_that_make_no_sense(
    settings: Settings, name: str, value: object, problems: int
) -> None:
    """`manage.py check` names them."""
    setattr(settings, name, value)
    found = checks.check_bounds(app_configs=None)
    assert [name in message.msg for message in found] == [True] * problems


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0


def test_a_metric_counts_them(client: Client) -> None:
    """By source and kind."""
    labels = {"source": "stripe", "kind": "no_signature"}
    before = metric("holdfast_webhook_rejects_total", **labels)
    for _ in range(3):
        client.post("/webhooks/stripe", b"{}", content_type="application/json")
    assert metric("holdfast_webhook_rejects_total", **labels) == before + 3


@pytest.mark.django_db
def test_a_metric_tells_which_secret_matched(client: Client) -> None:
    """By its place; the secret and its fingerprint are nowhere."""
    labels = {"source": "stripe", "secret": "2"}
    before = metric("holdfast_webhook_verified_total", **labels)
    body = stripe_body()
    header = signature(body, secret=OLD_SECRET)
    client.generic("POST", "/webhooks/stripe", body, headers={"Stripe-Signature": header})
    assert metric("holdfast_webhook_verified_total", **labels) == before + 1


@pytest.mark.faults
def test_a_served_flood(tmp_path: Path) -> None:
    """Two web processes and 300 refusals: counted in full, one alert, and a handful of rows."""
    server = Server(tmp_path, WEBHOOK_REJECTS_ALERT="100")
    garbage = head("/webhooks/stripe", b"Stripe-Signature: t=1,v1=0", sized(b"{}")) + b"\r\n{}"
    counted = "SELECT refused FROM webhooks_rejectwatch WHERE source = 'stripe'"
    try:
        with ThreadPoolExecutor(8) as pool:
            answers = Counter(a.status for a in pool.map(server.send, [garbage] * 300))
        wait_until(lambda: server.rows(counted) == [(300,)], what="all are counted")
        stored = server.rows("SELECT count(*) FROM webhooks_reject WHERE source = 'stripe'")[0][0]
        wait_until(lambda: "rejects_burst" in server.log(), what="the alert")
        log = server.log()
    finally:
        server.stop()
    assert answers == {401: 300}
    assert 1 <= stored < 60
    assert log.count('"event": "rejects_burst"') == 1


@pytest.mark.django_db
def test_the_admin_shows_them(admin_client: Client) -> None:
    """For reading."""
    reject_rows.record({"stripe": 1, "": 5}, [sample(), sample("", "unknown_source")])
    page = admin_client.get("/admin/webhooks/reject/").content.decode()
    assert "8.8.8.0/24" in page
    assert "unknown" in page
    assert admin_client.get("/admin/webhooks/reject/add/").status_code == 403
    RejectWatch.objects.filter(source="").update(
        incident=uuid.uuid4(), began_at=clock.now() - timedelta(minutes=1)
    )
    page = admin_client.get("/admin/webhooks/rejectwatch/").content.decode()
    assert "Too many" in page
    assert "Quiet" in page
