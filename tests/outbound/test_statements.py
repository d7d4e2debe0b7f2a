"""Statements that are put together once store what Django's own would."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, models, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from api.models import ApiClient, IdempotentRequest
from outbound.ids import uuid7
from outbound.models import CallAttempt, OutboundCall
from outbound.statements import find, insert, insert_if_new, reread, update
from outbound.states import AttemptTrigger
from payments.models import Customer, Payment, Refund
from tests.api.rows import make_call

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

NOW = timezone.now()
METADATA = {"é": "%s", "n": "\x7f"}


def rows() -> list[models.Model]:
    """One of each kind, as their apps make them."""
    call, client = make_call(), ApiClient(name="shop", scopes=["a"], rate=1, created_at=NOW)
    client.save()
    made: dict[str, Any] = {"created_at": NOW, "updated_at": NOW, "metadata": METADATA}
    payment = Payment(amount=5, currency="usd", provider_id="pi_1", **made)
    payment.save()
    return [
        CallAttempt(
            call=call, number=1, trigger=AttemptTrigger.AUTO, started_at=NOW,
            duration=timedelta(seconds=1.5), effect_possible=False, request_summary={"a": [1]},
        ),
        IdempotentRequest(client=client, key="k%s", answer_due_at=NOW, created_at=NOW,
                          expires_at=NOW, first_status=202),
        Customer(call=call, profile={"email": "é@example.com"}, **made),
        Payment(call=call, amount=2**40, currency="usd", **made),
        Refund(payment=payment, payment_intent="pi_1", amount=2, everything=True, **made),
    ]  # fmt: skip


def stored(row: models.Model) -> dict[str, Any]:
    found = type(row)._default_manager.get(pk=row.pk)
    return {f.attname: getattr(found, f.attname) for f in row._meta.concrete_fields}


def test_as_django_stores_it() -> None:
    """Column by column."""
    for row in rows():
        row.save(force_insert=True)
        expected = stored(row)
        for store in (insert, insert_if_new):
            type(row)._default_manager.filter(pk=row.pk).delete()
            row._state.adding = True
            store(row)
            assert stored(row) == expected
            assert (row._state.adding, row._state.db) == (False, "default")


def test_columns() -> None:
    """Only those that are named are written."""
    call = make_call(rule="first", reference="a")
    call.rule, call.reference, call.due_at = "second", "b", NOW
    update(call, "rule", "due_at")
    found = OutboundCall.objects.get()
    assert (found.rule, found.reference, found.due_at) == ("second", "a", NOW)


def test_one_statement() -> None:
    """Nothing is read before or after."""
    (row,) = [row for row in rows() if isinstance(row, Refund)]
    with CaptureQueriesContext(connection) as statements:
        insert(row)
    assert len(statements) == 1


def test_not_new() -> None:
    """What is there already stays as it is; `insert` says so."""
    call = make_call(rule="first")
    call.rule = "second"
    assert not insert_if_new(call)
    assert call._state.adding
    with pytest.raises(IntegrityError), transaction.atomic():
        insert(call)
    assert OutboundCall.objects.get().rule == "first"


def test_other_constraints_hold() -> None:
    """Only a row that is there already is left out in silence."""
    call = make_call()
    call.pk, call.idempotency_key, call.status = uuid7(), "another", "nonsense"
    for store in (insert, insert_if_new):
        with pytest.raises(IntegrityError), transaction.atomic():
            store(call)
    assert OutboundCall.objects.count() == 1


def test_found_as_django_finds_it() -> None:
    """Column by column, with the types that the fields have; what is encrypted can be read."""
    for row in rows():
        row.save(force_insert=True)
        found = find(type(row), row.pk)
        assert found is not None
        assert {f.attname: getattr(found, f.attname) for f in row._meta.concrete_fields} == stored(
            row
        )
        assert (found._state.adding, found._state.db) == (False, "default")
    call = make_call(payload={"é": ["%s"]}, result={"n": 1.5})
    found = find(OutboundCall, str(call.pk))
    assert found == call
    assert (found.payload, found.result) == ({"é": ["%s"]}, {"n": 1.5})


def test_not_found() -> None:
    """None for who finds, the model's own error for who had it."""
    assert find(OutboundCall, uuid7()) is None
    call = make_call()
    OutboundCall.objects.all().delete()
    with pytest.raises(OutboundCall.DoesNotExist):
        reread(call)


def test_reread() -> None:
    """The same object, with what others have written; what was known of related rows is
    forgotten."""
    (refund,) = [row for row in rows() if isinstance(row, Refund)]
    insert(refund)
    other = Payment(amount=9, currency="usd", created_at=NOW, updated_at=NOW)
    other.save()
    known = refund.payment
    Refund.objects.update(amount=7, payment=other, metadata={"new": "1"})
    assert known is not None
    refund.reason = "never stored"
    reread(refund)
    assert (refund.amount, refund.metadata, refund.reason) == (7, {"new": "1"}, "")
    assert refund.payment == other


def test_one_statement_to_read() -> None:
    """Nothing else is asked."""
    call = make_call()
    with CaptureQueriesContext(connection) as statements:
        find(OutboundCall, call.pk)
        reread(call)
    assert len(statements) == 2
