"""The pooler that tests stand behind."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.services.missing import ServiceMissing
from tests.services.pgbouncer import PrivatePgBouncer, find_program
from tests.services.postgres import PrivatePostgres


@pytest.mark.services
@pytest.mark.faults
def test_it_hands_connections_on(
    private_postgres: PrivatePostgres, pgbouncer: PrivatePgBouncer
) -> None:
    """Between transactions, and not within one."""
    ours = pgbouncer.url(private_postgres.url("postgres"))
    with psycopg.connect(ours) as one, psycopg.connect(ours) as other:
        first = process_of(one)
        assert process_of(one) == first
        one.commit()
        assert process_of(other) == first
        assert process_of(one) != first


def test_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tests.services.pgbouncer.ELSEWHERE", str(tmp_path / "sbin"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServiceMissing, match="no pgbouncer on PATH"):
        find_program()


def process_of(connection: psycopg.Connection) -> int:
    """The server process that serves it now."""
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    assert row
    process: int = row[0]
    return process
