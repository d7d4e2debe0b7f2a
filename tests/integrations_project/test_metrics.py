"""/metrics: off, or for whom it is meant; all processes' counters; bounded whatever hangs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families
from pytest_django import Settings

from integrations_project import checks, exposition, metrics_folder
from integrations_project import parts as asking
from integrations_project.parts import Part
from tests.house.polling import wait_until
from tests.webhooks.rows import make_event
from tests.webhooks.serving import Answer, Server, head, sized

ANYWHERE = {"host": "10.1.2.3:8000"}
TOKEN = "a-token-of-metrics"


def ask(method: str = "get", **headers: str) -> Any:
    return getattr(Client(), method)("/metrics", headers={**ANYWHERE, **headers})


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by its name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Part:
    """One of its own, so that what hangs here hangs nowhere else."""
    part = Part(exposition.read_figures)
    monkeypatch.setattr(exposition, "FIGURES", part)
    return part


@pytest.fixture
def enabled(settings: Settings, figures: Part) -> None:
    settings.METRICS_ENABLED = True
    settings.METRICS_TOKEN = ""


@pytest.mark.parametrize("token", ["", TOKEN])
def test_off(settings: Settings, token: str) -> None:
    """404, whoever asks, and never a redirect."""
    settings.SECURE_SSL_REDIRECT = True
    settings.METRICS_ENABLED, settings.METRICS_TOKEN = False, token
    assert ask(authorization=f"Bearer {token}").status_code == 404


@pytest.mark.usefixtures("enabled")
@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", f"Bearer {TOKEN}x", TOKEN, f"Basic {TOKEN}", "Bearer ü"],
)
def test_without_the_token(settings: Settings, header: str | None) -> None:
    """401, and nothing else is done."""
    settings.METRICS_TOKEN = TOKEN
    answer = ask() if header is None else ask(authorization=header)
    assert (answer.status_code, answer.content) == (401, b"")
    assert answer["WWW-Authenticate"] == "Bearer"


@pytest.mark.usefixtures("enabled")
@pytest.mark.django_db(transaction=True)
class TestOn:
    def test_with_the_token(self, settings: Settings) -> None:
        """Text that Prometheus reads: counters of the process and figures of the database."""
        settings.METRICS_TOKEN = TOKEN
        settings.SECURE_SSL_REDIRECT = True
        make_event(), make_event()
        answer = ask(authorization=f"Bearer {TOKEN}")
        assert answer.status_code == 200
        assert answer["Content-Type"].startswith("text/plain; version=")
        assert answer["Cache-Control"] == "no-store"
        found = samples(answer.content.decode())
        labels = frozenset({("source", "stripe"), ("status", "received")})
        assert found["holdfast_events", labels] == 2
        assert found["holdfast_figures_up", frozenset()] == 1
        names = {name for name, _ in found}
        assert {"holdfast_call_hooks_owed", "python_info", "holdfast_replays"} <= names

    def test_head_and_other_methods(self) -> None:
        answer = ask("head")
        assert (answer.status_code, answer.content) == (200, b"")
        for method in ("post", "put", "delete", "options"):
            assert ask(method).status_code == 405


@pytest.mark.usefixtures("enabled")
class TestTrouble:
    def test_a_database_that_is_away(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The counters are there all the same, and one of them says what is missing."""

        def away() -> str:
            raise OperationalError("password=marked")

        monkeypatch.setattr(exposition, "FIGURES", Part(away))
        answer = ask()
        assert answer.status_code == 200
        assert b"marked" not in answer.content
        found = samples(answer.content.decode())
        assert found["holdfast_figures_up", frozenset()] == 0
        assert "holdfast_replays" not in {name for name, _ in found}

    def test_a_database_that_hangs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nobody waits for longer than the bound, and it is not asked twice meanwhile."""
        monkeypatch.setattr(asking, "SECONDS", 0.05)
        asked, let_go = [], threading.Event()

        def hang() -> str:
            asked.append(1)
            let_go.wait(30)
            return ""

        monkeypatch.setattr(exposition, "FIGURES", Part(hang))
        try:
            for _ in range(3):
                found = samples(ask().content.decode())
                assert found["holdfast_figures_up", frozenset()] == 0
            assert len(asked) == 1
        finally:
            let_go.set()


class TestChecks:
    @pytest.mark.parametrize("enabled,token,problems", [(0, "", 0), (1, TOKEN, 0), (1, "", 1)])
    def test_a_token_is_wanted(
        self, settings: Settings, tmp_path: Path, enabled: int, token: str, problems: int
    ) -> None:
        settings.METRICS_ENABLED, settings.METRICS_TOKEN = bool(enabled), token
        settings.METRICS_DIR = str(tmp_path / "made")
        found = checks.check_metrics(app_configs=None)
        assert [message.id for message in found] == [checks.OPEN_METRICS] * problems

    def test_a_folder_that_is_none(self, settings: Settings, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        settings.METRICS_ENABLED, settings.METRICS_TOKEN = True, TOKEN
        settings.METRICS_DIR = str(tmp_path / "file")
        [message] = checks.check_metrics(app_configs=None)
        assert message.id == checks.METRICS_FOLDER
        assert not metrics_folder.share(settings.METRICS_DIR)


def test_what_the_dead_have_left_is_removed(tmp_path: Path) -> None:
    """What living processes count stays, and what is none of ours."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    kept = [f"counter_{os.getppid()}.db", "notes.txt", "counter_x.db", "gauge_all_1.db"]
    for name in (*kept, f"counter_{process.pid}.db", f"counter_{os.getpid()}.db"):
        (tmp_path / name).touch()
    assert metrics_folder.forget_the_dead(str(tmp_path)) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


@pytest.mark.faults
def test_all_processes_count_together(tmp_path: Path) -> None:
    """Whichever web process answers, also after one of them was killed; a new start begins anew."""
    server = Server(tmp_path, METRICS_ENABLED="1", METRICS_TOKEN=TOKEN)
    garbage = head("/webhooks/stripe", b"Stripe-Signature: t=1,v1=0", sized(b"{}")) + b"\r\n{}"
    wanted = head("/metrics", f"Authorization: Bearer {TOKEN}".encode(), method="GET") + b"\r\n"
    counter = ("holdfast_webhook_rejects_total",
               frozenset({("source", "stripe"), ("kind", "wrong_signature")}))  # fmt: skip

    def counted() -> float:
        answer = server.send(wanted)
        assert answer.status == 200
        return samples(answer.body.decode()).get(counter, 0)

    def counting() -> set[int]:
        found = (tmp_path / "metrics").glob("counter_*.db")
        return {int(path.stem.partition("_")[2]) for path in found}

    try:
        sent = 0
        while len(counting()) < 2:  # until both have had one
            assert server.send(garbage).status == 401
            sent += 1
        assert [counted() for _ in range(10)] == [sent] * 10
        os.kill(counting().pop(), signal.SIGKILL)
        wait_until(lambda: status(server, garbage) == 401, what="the other one answers")
        assert counted() == sent + 1
        log = server.log()
        assert TOKEN not in log
    finally:
        server.stop()
    server = Server(tmp_path, METRICS_ENABLED="1", METRICS_TOKEN=TOKEN)
    try:
        assert counted() == 0
    finally:
        server.stop()


def status(server: Server, request: bytes) -> int:
    try:
        answer: Answer = server.send(request)
    except (OSError, AssertionError):
        return 0
    return answer.status


@pytest.mark.faults
def test_off_as_served(tmp_path: Path) -> None:
    """404 without a word, and no folder is made."""
    server = Server(tmp_path)
    try:
        assert server.send(head("/metrics", method="GET") + b"\r\n").status == 404
        assert not (tmp_path / "metrics").exists()
    finally:
        server.stop()


def test_each_metric_is_documented() -> None:
    """The reference names every metric of ours, and no other."""
    root = Path(__file__).resolve().parents[2]
    pattern = r'(?:Counter|Histogram|Gauge|GaugeMetricFamily)\(\s*"(holdfast_[a-z_]+)"'
    named = {
        found
        for app in (
            "api",
            "payments",
            "notifications",
            "webhooks",
            "outbound",
            "integrations_project",
        )
        for path in (root / app).rglob("*.py")
        for found in re.findall(pattern, path.read_text())
    }
    text = (root / "docs/reference.md").read_text()
    told = set(re.findall(r"`(holdfast_[a-z_]+?)(?:_total)?[`{]", text))
    assert told == named
