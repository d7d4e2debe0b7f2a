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

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from outbound.transactions import takes_several

WHAT_AND_WHERE = re.compile(r'\s*(INSERT|UPDATE)(?: INTO)? "?(\w{1,40})')
MOST = 100  # of one connection, each of which takes the server some memory

_made: weakref.WeakKeyDictionary[object, dict[str, str]] = weakref.WeakKeyDictionary()
"""For each connection of psycopg's, what it is told instead of a statement."""


def prepared(text: str) -> str:
    """What to execute instead of a statement, with the same values. text: one that is kept, with
    `%s` for values and no other `%`.

    That is the statement itself where nothing is prepared: on SQLite, where the server binds the
    values, and behind a pooler that hands connections on between transactions, of which Django is
    told by DISABLE_SERVER_SIDE_CURSORS.
    """
    database = connections[DEFAULT_DB_ALIAS]
    if not _prepares(database):
        return text
    database.ensure_connection()
    made = _made.setdefault(database.connection, {})
    if text not in made:
        if len(made) >= MOST:
            return text
        made[text] = _prepare(database, text)
    return made[text]


def _prepares(database: BaseDatabaseWrapper) -> bool:
    pooled = database.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS")
    return takes_several(database) and not pooled


def _prepare(database: BaseDatabaseWrapper, text: str) -> str:
    """Past Django, for what waits in a `whole` has no part in it: a statement is prepared for the
    connection, whatever becomes of the transaction."""
    preparation, execution = _spelled(text)
    with database.wrap_database_errors, database.connection.cursor() as cursor:
        cursor.execute(preparation)
    return execution


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
