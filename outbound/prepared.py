"""Statements that PostgreSQL reads and plans once for each connection, and not for each row: that
is a fifth of what a refund costs it. https://www.postgresql.org/docs/current/sql-prepare.html

They are made and named in SQL, so that several still fit into one message with the values written
into it (docs/decisions/0007-statements-share-round-trips.md).
"""

from __future__ import annotations

import hashlib
import itertools
import re
import weakref
from functools import cache
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from outbound.transactions import takes_several

WHAT_AND_WHERE = re.compile(r'\s*(INSERT|UPDATE)(?: INTO)? "?(\w{1,40})')
MOST = 100  # of one connection, each of which takes the server some memory

Made = dict[str, str]

_made: weakref.WeakKeyDictionary[object, Made | None] = weakref.WeakKeyDictionary()
"""What each connection of psycopg's is told instead of a statement; None behind a pooler."""


def prepared(text: str) -> str:
    """What to execute instead of a statement, with the same values. text: one that is kept, with
    `%s` for values and no other `%`.

    That is the statement itself where nothing is prepared: on SQLite, where the server binds the
    values, and behind a pooler, whether Django was told of it (DISABLE_SERVER_SIDE_CURSORS) or not.
    """
    database = connections[DEFAULT_DB_ALIAS]
    if not takes_several(database):
        return text
    made = _made_on(database)
    if made is None:
        return text
    if text not in made:
        if len(made) >= MOST:
            return text
        preparation, execution = _spelled(text)
        _execute(database, preparation)
        made[text] = execution
    return made[text]


def is_pooled(database: BaseDatabaseWrapper) -> bool:
    """Whether something stands between us and PostgreSQL, and may hand its connections on from one
    transaction to the next: the server's process is not the one that this connection was told of
    when it was made, for a pooler tells of none that is real.
    https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP
    """
    database.ensure_connection()
    (process,) = _execute(database, "SELECT pg_backend_pid()").fetchone()
    return bool(process != database.connection.info.backend_pid)


def _made_on(database: BaseDatabaseWrapper) -> Made | None:
    database.ensure_connection()
    raw = database.connection
    if raw not in _made:
        named = database.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS")
        _made[raw] = None if named or is_pooled(database) else {}
    return _made[raw]


def _execute(database: BaseDatabaseWrapper, text: str) -> Any:
    """Past Django, for what waits in a `whole` has no part in it: a statement is prepared for the
    connection, whatever becomes of the transaction."""
    with database.wrap_database_errors:
        return database.connection.execute(text)


@cache
def _spelled(text: str) -> tuple[str, str]:
    """How it is prepared, and how it is executed then. Its name says what a log would like to
    know."""
    words = WHAT_AND_WHERE.match(text)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    name = "_".join([*(words.groups() if words else ("statement",)), digest]).lower()
    places = itertools.count(1)
    numbered, count = re.subn("%s", lambda _: f"${next(places)}", text)
    values = ", ".join(["%s"] * count)
    return f"PREPARE {name} AS {numbered}", f"EXECUTE {name}({values})"
