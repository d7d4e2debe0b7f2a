"""PostgreSQL reads and plans a statement once for each connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.utils import timezone

from outbound.statements import insert, update
from outbound.transactions import whole
from payments.models import Customer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql]

NOW = timezone.now()


@pytest.fixture(autouse=True)
def new_connection() -> Iterator[None]:
    """One that knows no statements, for the pool would hand out another test's."""
    lose_connections()
    yield
    lose_connections()


def lose_connections() -> None:
    pooled: Any = connection
    pooled.close()
    pooled.close_pool()


def kept_by_the_server() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_prepared_statements")
        count: int = cursor.fetchone()[0]
    return count


def customer(**fields: Any) -> Customer:
    return Customer(created_at=NOW, updated_at=NOW, **fields)


def insert_and_give_up() -> None:
    with transaction.atomic():
        insert(customer())
        transaction.set_rollback(True)


def test_once() -> None:
    for _ in range(3):
        insert(customer())
    assert kept_by_the_server() == 1
    assert Customer.objects.count() == 3


def test_a_transaction_that_is_given_up() -> None:
    """It is prepared all the same."""
    insert_and_give_up()
    insert(customer())
    assert kept_by_the_server() == 1
    assert Customer.objects.count() == 1


def fail_and_go_on(row: Customer) -> None:
    with transaction.atomic():
        with suppress(IntegrityError):
            Customer.objects.bulk_create([row])
        insert(customer(provider_id="cus_1"))


def test_a_transaction_that_has_failed() -> None:
    """Nothing can be prepared in it; after it everything can."""
    row = customer()
    insert(row)
    with pytest.raises(DatabaseError):
        fail_and_go_on(row)
    assert kept_by_the_server() == 1
    insert(customer(provider_id="cus_2"))
    assert kept_by_the_server() == 2
    assert Customer.objects.count() == 2


def test_in_a_whole() -> None:
    """Before its BEGIN has been sent, and together with what waits."""
    with whole():
        insert(customer(reference="a"))
        insert(customer(reference="b"))
        insert(customer())
    assert Customer.objects.count() == 3


def test_a_lost_connection() -> None:
    """The next one is told anew."""
    insert(customer())
    lose_connections()
    insert(customer())
    assert kept_by_the_server() == 1
    assert Customer.objects.count() == 2


def test_a_new_column() -> None:
    """A migration while the process is connected."""
    insert(customer())
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE payments_customer ADD COLUMN later integer")
    try:
        insert(customer())
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE payments_customer DROP COLUMN later")
    insert(customer())
    assert Customer.objects.count() == 3


def test_no_more_than_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    insert(customer())
    monkeypatch.setattr("outbound.prepared.MOST", 1)
    insert(customer(reference="another statement"))
    assert kept_by_the_server() == 1
    assert Customer.objects.count() == 2


@pytest.mark.parametrize("option", ["DISABLE_SERVER_SIDE_CURSORS", "server_side_binding"])
def test_not_where_it_would_not_last(monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    """Behind a pooler a transaction may be another connection's, which knows nothing of it."""
    settings = connection.settings_dict
    place = settings if option.isupper() else settings["OPTIONS"]
    monkeypatch.setitem(place, option, True)
    insert(customer())
    update(Customer.objects.get(), "reference")
    assert kept_by_the_server() == 0


def test_names() -> None:
    """They say what is done, and where; statements of one table have names of their own."""
    insert(customer())
    insert(customer(reference="a"))
    update(Customer.objects.all()[0], "reference")
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM pg_prepared_statements ORDER BY name")
        names = [name.rpartition("_")[0] for (name,) in cursor.fetchall()]
    assert names == [
        "insert_payments_customer",
        "insert_payments_customer",
        "update_payments_customer",
    ]
