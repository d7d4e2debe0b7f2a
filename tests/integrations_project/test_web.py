"""The web process as it is started everywhere, by gunicorn with its own configuration file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from tests.house.polling import wait_until
from tests.services.environment import ROOT, kept, project_environment, sqlite_url
from tests.services.ports import free_port
from tests.services.process import Process

pytestmark = [pytest.mark.faults, pytest.mark.slow]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "web.log"
    path.touch()
    return path


@pytest.fixture
def start(tmp_path: Path, log: Path) -> Iterator[Any]:
    """Starts gunicorn; returns its port. Killed after the test."""
    started: list[Process] = []

    def start_web(**changes: str) -> int:
        port = free_port()
        environment = project_environment(
            state=tmp_path, database_url=sqlite_url(tmp_path / "db.sqlite3")
        )
        process = Process(
            name="web",
            command=[
                *(sys.executable, "-m", "gunicorn", "--workers", "1"),
                *("--bind", f"127.0.0.1:{port}", "integrations_project.wsgi"),
            ],
            environment={**kept(os.environ), **environment, **changes},
            log=log,
            cwd=ROOT,
        )
        started.append(process)
        wait_until(lambda: alive(port) or not process.running, seconds=30, what="an answer")
        assert process.running, process.tail()
        return port

    yield start_web
    for process in started:
        process.stop()


def get(port: int, path: str, **headers: str) -> HTTPResponse:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def alive(port: int) -> bool:
    try:
        return get(port, "/livez").status == 200
    except OSError:
        return False


@pytest.mark.parametrize("trusted, status", [("0", 301), ("1", 200)])
def test_a_proxy_is_believed_only_when_it_was_named(start: Any, trusted: str, status: int) -> None:
    """gunicorn by itself would believe whoever calls from this machine."""
    port = start(PUBLIC_URL="https://127.0.0.1", TRUST_PROXY=trusted)
    assert get(port, "/admin/login/", **{"X-Forwarded-Proto": "https"}).status == status


def test_its_lines_are_json_like_all_others(start: Any, log: Path) -> None:
    """The master's too; and no line for each request, which would hold its query."""
    port = start()
    assert get(port, "/admin/login/?next=/hunter22").status == 200
    wait_until(lambda: "Booting worker" in log.read_text())
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["logger"] for line in lines} == {"gunicorn.error"}
    assert "hunter22" not in log.read_text()


def test_styles_need_no_build_step(start: Any) -> None:
    """A checkout and gunicorn are enough for the admin."""
    answer = get(start(), "/static/admin/css/base.css")
    assert (answer.status, answer.headers["Content-Type"]) == (200, 'text/css; charset="utf-8"')
