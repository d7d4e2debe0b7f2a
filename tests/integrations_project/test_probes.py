"""The probes: cheap, honest, and bounded whatever hangs."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
from celery import Celery
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client

from integrations_project import parts as asking
from integrations_project import probes
from integrations_project.parts import TIMED_OUT, Part
from tests.services.broker import Broker

ANYWHERE = {"host": "10.1.2.3:8000"}  # an orchestrator asks by address


def ask(path: str, method: str = "get") -> Any:
    return getattr(Client(), method)(path, headers=ANYWHERE)


class TestLive:
    def test_it_needs_nothing(self) -> None:
        """No database, no host name, no https."""
        answer = ask("/livez")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})
        assert answer.headers["Cache-Control"] == "no-store"

    @pytest.mark.parametrize("path", ["/livez", "/readyz"])
    @pytest.mark.parametrize("method", ["post", "put", "delete", "options"])
    def test_only_get_and_head(self, path: str, method: str) -> None:
        """Anything else says what is allowed."""
        answer = ask(path, method)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.django_db(transaction=True)
class TestReady:
    @pytest.fixture(autouse=True)
    def parts(self, monkeypatch: pytest.MonkeyPatch) -> dict[str, Part]:
        """New ones, so that what hangs here hangs nowhere else."""
        questions = (probes.database, probes.migrations, probes.broker)
        parts = {question.__name__: Part(question) for question in questions}
        monkeypatch.setattr(probes, "PARTS", parts)
        return parts

    def test_all_is_well(self) -> None:
        """Each part answers for itself; the embedded broker is the worker's own."""
        answer = ask("/readyz")
        assert answer.json() == {
            "status": "ok",
            "checks": {"database": "ok", "migrations": "ok", "broker": "embedded"},
        }
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "no-store"

    def test_head_has_the_status_and_no_body(self) -> None:
        """As load balancers ask."""
        answer = ask("/readyz", "head")
        assert (answer.status_code, answer.content) == (200, b"")

    def test_a_migration_that_is_missing(self) -> None:
        """New code on old tables is not ready."""
        recorder = MigrationRecorder(connection)
        newest = max(name for app, name in recorder.applied_migrations() if app == "outbound")
        recorder.record_unapplied("outbound", newest)
        try:
            answer = ask("/readyz")
        finally:
            recorder.record_applied("outbound", newest)
        assert answer.status_code == 503
        assert answer.json()["checks"]["migrations"] == "not applied: outbound"
        assert ask("/readyz").status_code == 200

    def test_a_failure_is_named_by_its_kind_only(self, parts: dict[str, Part]) -> None:
        """Its text could hold an address or a password."""

        def fail() -> str:
            raise ConnectionError("amqp://user:hunter22@host")

        parts["broker"] = Part(fail)
        answer = ask("/readyz")
        assert answer.status_code == 503
        assert answer.json() == {
            "status": "unavailable",
            "checks": {"database": "ok", "migrations": "ok", "broker": "ConnectionError"},
        }

    def test_what_hangs_is_not_waited_for_and_not_asked_twice(
        self, parts: dict[str, Part], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Probes come every few seconds: they must not pile up threads."""
        monkeypatch.setattr(asking, "SECONDS", 0.05)
        asked, let_go = [], threading.Event()

        def hang() -> str:
            asked.append(1)
            let_go.wait(30)
            return "ok"

        parts["broker"] = Part(hang)
        try:
            for _ in range(3):
                parts["broker"].ask()
                assert parts["broker"].answer() == TIMED_OUT
            assert len(asked) == 1
        finally:
            let_go.set()


@pytest.mark.faults
class TestBroker:
    """On the way to a real one."""

    @pytest.fixture
    def aim(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
        settings.EMBEDDED_BROKER = False

        def at(url: str) -> None:
            app = Celery("tests", set_as_current=False)
            app.conf["broker_write_url"] = url
            monkeypatch.setattr(probes, "app", app)

        return at

    @pytest.mark.services
    def test_one_that_answers(self, aim: Any, rabbitmq: Broker) -> None:
        """With a connection of its own."""
        aim(rabbitmq.url)
        assert probes.broker() == "ok"

    def test_one_that_is_away(self, aim: Any) -> None:
        """Refused at once."""
        aim("amqp://127.0.0.1:9//")
        with pytest.raises(ConnectionRefusedError):
            probes.broker()

    def test_one_that_is_frozen(self, aim: Any) -> None:
        """The kernel accepts for it, and nobody answers: the question ends all the same."""
        with socket.socket() as frozen:
            frozen.bind(("127.0.0.1", 0))
            frozen.listen()
            aim(f"amqp://127.0.0.1:{frozen.getsockname()[1]}//")
            with pytest.raises(OSError, match="timed out"):
                probes.broker()
