"""DATABASE_URL as an entry of DATABASES, with the options that the engines count on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from integrations_project.environment import Environment, scheme_of

POSTGRESQL = ("postgres", "postgresql")
CHECKOUT_SECONDS = 5  # a request that gets no connection by then answers 503
RECONNECT_SECONDS = 10
KEPT_SECONDS = 60  # a SQLite connection; in a worker as well as in a web process
IN_MEMORY = ":memory:"


def database(
    env: Environment, *, default: str, connections: int, parse: Callable[[str], dict[str, Any]]
) -> dict[str, Any]:
    """The entry for DATABASE_URL, read by `parse`; {} (no database) when it cannot be used.

    connections: how many a process may have open on PostgreSQL.
    """
    url = env.secret("DATABASE_URL", default)
    detail = _problem(url)
    if detail:
        env.refuse("DATABASE_URL", detail)
        return {}
    if scheme_of(url) in POSTGRESQL:
        return _postgresql(parse(url), connections)
    entry = _sqlite(parse(url))
    if entry["NAME"] != IN_MEMORY:
        try:
            Path(entry["NAME"]).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            env.refuse("DATABASE_URL", f"names a folder that cannot be made: {error.strerror}")
    return entry


def _problem(url: str) -> str:
    scheme = scheme_of(url)
    if scheme not in ("sqlite", *POSTGRESQL):
        return f"must begin with postgres:// or sqlite:///, not {scheme!r}"
    if url == f"sqlite://{IN_MEMORY}":
        return ""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "is no URL (a special character in the password is written as %XX)"
    if scheme == "sqlite" and (parts.netloc or parts.path in ("", "/")):
        return "names no file: sqlite:///relative/path or sqlite:////absolute/path"
    if scheme != "sqlite" and parts.path in ("", "/"):
        return "names no database: postgres://user:password@host:5432/name"
    return ""


def _sqlite(entry: dict[str, Any]) -> dict[str, Any]:
    """IMMEDIATE, WAL and a timeout belong together: any one alone ends in "database is locked".

    https://docs.djangoproject.com/en/5.2/ref/databases/#sqlite-notes

    Connections are kept: who closes the last one writes back the whole log and removes it, which
    is half of what a request costs. https://www.sqlite.org/wal.html#avoiding_excessively_large_wal_files
    """
    ours = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
    }
    return {
        **entry,
        "CONN_MAX_AGE": KEPT_SECONDS,
        "OPTIONS": {**ours, **entry.get("OPTIONS", {})},
    }


def _postgresql(entry: dict[str, Any], connections: int) -> dict[str, Any]:
    """Celery closes connections after each task: the pool makes that cheap.

    A connection is asked whether it lives before it is handed out, or a restart of the database
    would cost one failure for each that was idle.
    https://www.psycopg.org/psycopg3/docs/api/pool.html
    """
    ours = {
        "connect_timeout": CHECKOUT_SECONDS,
        "pool": {
            "min_size": 2,
            "max_size": connections,
            "timeout": CHECKOUT_SECONDS,
            "reconnect_timeout": RECONNECT_SECONDS,
        },
    }
    return {
        **entry,
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {**ours, **entry.get("OPTIONS", {})},
    }
