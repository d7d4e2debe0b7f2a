"""Asking for a call: it exists if and only if the caller's transaction commits."""

from __future__ import annotations

import math
import traceback
import uuid
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from outbound.errors import (
    CallRefused,
    InvalidPayload,
    KeyReused,
    UnknownAdapter,
    UnknownOperation,
)
from outbound.hints import Hint
from outbound.models import OutboundCall
from outbound.request_ids import bind_request_id
from outbound.services import enqueue_call, find_call
from outbound.states import CallStatus
from tests.outbound.conftest import VirtualTime
from tests.outbound.rows import PAYLOAD, attempt, enqueue, reread
from tests.outbound.scripted import Item, Script
from tests.outbound.threads import at_once

pytestmark = pytest.mark.both_databases


CANARY = "ada" + "lovelace"


def undone(ask: Callable[[], OutboundCall]) -> OutboundCall:
    """What was asked for in a transaction, or a savepoint, that was then rolled back."""
    with transaction.atomic():
        call = ask()
        transaction.set_rollback(True)
    return call


@pytest.mark.django_db(transaction=True)
class TestAtomicity:
    """Invariant 1."""

    def test_commit(self, script: Script, announced: list[Hint]) -> None:
        """The row and, after the commit, the hint: its queue, and nothing but an id."""
        with transaction.atomic():
            call = enqueue()
            assert announced == []
        assert reread(call).status == CallStatus.PENDING
        assert announced == [
            Hint("outbound.deliver_call", "payments-v1", {"call_id": str(call.pk)})
        ]

    def test_rollback(self, script: Script, announced: list[Hint]) -> None:
        """Neither row nor hint."""
        call = undone(enqueue)
        assert find_call(call.pk) is None
        assert announced == []

    def test_rollback_to_a_savepoint(self, script: Script, announced: list[Hint]) -> None:
        """What an inner block undid is not there, what the outer one did is."""
        with transaction.atomic():
            kept = enqueue()
            lost = undone(enqueue)
        assert find_call(lost.pk) is None
        assert [hint.kwargs for hint in announced] == [{"call_id": str(kept.pk)}]

    def test_without_a_transaction(self, script: Script, announced: list[Hint]) -> None:
        """The row is there at once, and so is the hint."""
        call = enqueue()
        assert reread(call).status == CallStatus.PENDING
        assert len(announced) == 1

    def test_inline(self, script: Script, announced: list[Hint]) -> None:
        """A caller who makes the first attempt himself tells nobody."""
        enqueue(inline=True)
        assert announced == []

    def test_not_before(self, script: Script, announced: list[Hint], time: VirtualTime) -> None:
        """A call for later is announced by the sweep when its time has come."""
        later = time.now + timedelta(hours=5)
        call = enqueue(not_before=later)
        assert announced == []
        assert (call.due_at, call.hint_at) == (later, later)
        assert call.deadline_at == later + timedelta(hours=24)

    def test_not_before_in_the_past(self, script: Script, time: VirtualTime) -> None:
        """A time that has passed means now."""
        assert enqueue(not_before=time.now - timedelta(hours=5)).due_at == time.now

    def test_the_same_key_gives_no_second_hint(self, script: Script, announced: list[Hint]) -> None:
        """A call that is there already has been announced."""
        first = enqueue(idempotency_key="k")
        assert enqueue(idempotency_key="k").pk == first.pk
        assert len(announced) == 1


@pytest.mark.django_db
class TestRow:
    """What is on the row before anything was sent."""

    def test_columns(self, script: Script, time: VirtualTime, announced: list[Hint]) -> None:
        """Everything that was asked for, a key of its own, and times from the one clock."""
        call = reread(
            enqueue(reference="order 7", account="acct", request_id="req", created_by="ada")
        )
        assert (call.adapter, call.operation, call.account) == ("scripted", "create", "acct")
        assert call.payload == {"n": 1, "labels": {}}
        assert (call.reference, call.request_id, call.created_by) == ("order 7", "req", "ada")
        assert (call.status, call.attempts, call.max_attempts) == (CallStatus.PENDING, 0, 9)
        assert call.idempotency_key == f"hf-{call.pk}"
        assert (call.dedupe_key, call.key_expires_at, call.lease_token) == (None, None, None)
        assert call.created_at == call.updated_at == call.due_at == time.now
        assert call.hint_at == time.now + timedelta(seconds=10)
        assert call.deadline_at == time.now + timedelta(hours=24)

    def test_the_request_id_of_the_moment(self, script: Script) -> None:
        """Without a request id of its own a call takes the one of the request it is made in."""
        with bind_request_id("req-9"):
            assert (enqueue().request_id, enqueue(request_id="").request_id) == ("req-9", "")

    def test_embedded(self, script: Script, settings: Settings, time: VirtualTime) -> None:
        """Where no hint can reach a worker, the row asks to be announced at once."""
        settings.EMBEDDED_BROKER = True
        assert enqueue().hint_at == time.now
        assert enqueue(inline=True).hint_at == time.now + timedelta(seconds=60)

    def test_a_model_as_payload(self, script: Script) -> None:
        """The operation's own model may be given instead of a dict."""
        assert enqueue(payload=Item(n=2, note="x")).payload == {"n": 2, "note": "x", "labels": {}}

    def test_encrypted_at_rest(self, script: Script) -> None:
        """Nobody reads a payload or a result in the table."""
        call = attempt(enqueue(payload={"n": 1, "note": "canary"}))
        with connection.cursor() as cursor:
            cursor.execute("SELECT payload, result FROM outbound_outboundcall")
            [row] = cursor.fetchall()
        assert all(b"canary" not in bytes(column) for column in row)
        assert all(b"obj-1" not in bytes(column) for column in row)
        assert (call.payload["note"], call.result) == ("canary", {"id": "obj-1"})

    def test_finding_a_call(self, script: Script) -> None:
        """By its id in any form; nothing for what is no id."""
        call = enqueue()
        for given_id in (call.pk, str(call.pk), call.pk.hex):
            assert find_call(given_id) == call
        for nothing in (uuid.uuid4(), "", "x", None, 5, "\x00", "9" * 5000):
            assert find_call(nothing) is None


INVALID: list[tuple[Any, list[str]]] = [
    ({}, ["/n"]),
    ({"n": 0}, ["/n"]),
    ({"n": 1001}, ["/n"]),
    ({"n": "1"}, ["/n"]),
    ({"n": 1.0}, ["/n"]),
    ({"n": True}, ["/n"]),
    ({"n": None}, ["/n"]),
    ({"n": Decimal(1)}, ["/n"]),
    ({"n": 1, "extra": 2}, ["/extra"]),
    ({"n": 1, "note": 5}, ["/note"]),
    ({"n": 1, "note": b"x"}, ["/note"]),
    ({"n": 1, "labels": {"a": 1}}, ["/labels/a"]),
    ({"n": 1, "labels": {"a/b~c": 1}}, ["/labels/a~1b~0c"]),
    ({"n": 1, "labels": [1]}, ["/labels"]),
    ({"n": 0, "note": 5}, ["/n", "/note"]),
    ([], [""]),
    ("text", [""]),
    (None, [""]),
    ({"n": 1, "anything": math.nan}, [""]),
    ({"n": 1, "anything": [math.inf]}, [""]),
    ({"n": 1, "anything": 10**5000}, [""]),
    ({"n": 1, "anything": object()}, [""]),
    ({"n": 1, "anything": {1: "a"}}, [""]),
    ({"n": 1, "anything": "\ud800"}, [""]),
    ({"n": 1, "note": "\ud800"}, [""]),
]


@pytest.mark.django_db
class TestRefusals:
    """What cannot be done is refused at the caller, with the field, and leaves no row."""

    @pytest.mark.parametrize("payload,pointers", INVALID, ids=range(len(INVALID)))
    def test_invalid_payload(self, script: Script, payload: Any, pointers: list[str]) -> None:
        """Every wrong field is named by a JSON pointer, and no value is quoted."""
        with pytest.raises(InvalidPayload) as caught:
            enqueue(payload=payload)
        assert [error.pointer for error in caught.value.errors] == pointers
        assert all(error.detail for error in caught.value.errors)
        assert not OutboundCall.objects.exists()

    def test_refusals_quote_nothing(self, script: Script) -> None:
        """A refusal names fields, not what was in them; its traceback does neither."""
        payload = {"n": CANARY, "note": [CANARY], "labels": {"a": [CANARY]}}
        with pytest.raises(InvalidPayload) as caught:
            enqueue(payload=payload)
        story = "".join(traceback.format_exception(caught.value))
        assert CANARY not in f"{story} {caught.value.errors}"

    @pytest.mark.parametrize(
        "arguments,pointer",
        [
            ({"idempotency_key": ""}, "/idempotency_key"),
            ({"idempotency_key": " "}, "/idempotency_key"),
            ({"idempotency_key": "a b"}, "/idempotency_key"),
            ({"idempotency_key": "ü"}, "/idempotency_key"),
            ({"idempotency_key": "a\x00"}, "/idempotency_key"),
            ({"idempotency_key": "a\r\nX-Evil: 1"}, "/idempotency_key"),
            ({"idempotency_key": "k" * 256}, "/idempotency_key"),
            ({"idempotency_key": 5}, "/idempotency_key"),
            ({"reference": "a\x00"}, "/reference"),
            ({"reference": "\ud800"}, "/reference"),
            ({"reference": "r" * 256}, "/reference"),
            ({"reference": None}, "/reference"),
            ({"account": "\x00"}, "/account"),
            ({"account": "a" * 101}, "/account"),
            ({"request_id": "\x00"}, "/request_id"),
            ({"request_id": "r" * 129}, "/request_id"),
            ({"created_by": "\ud800"}, "/created_by"),
            ({"created_by": "c" * 151}, "/created_by"),
        ],
    )
    def test_unusable_texts(self, script: Script, arguments: dict[str, Any], pointer: str) -> None:
        """A text that no column holds, or that could break a header, is refused by its name."""
        with pytest.raises(InvalidPayload) as caught:
            enqueue(**arguments)
        assert [error.pointer for error in caught.value.errors] == [pointer]
        assert not OutboundCall.objects.exists()

    @pytest.mark.parametrize("key", ["k", "k" * 255, "!~", "a/b?c=d&e"])
    def test_usable_keys(self, script: Script, key: str) -> None:
        """Any visible ASCII text of up to 255 characters is a key, and is sent as it is."""
        attempt(enqueue(idempotency_key=key))
        assert script.seen[0].key == key

    def test_nul_in_a_payload(self, script: Script) -> None:
        """A payload is stored as bytes: whether NUL makes sense there is the schema's business."""
        assert reread(enqueue(payload={"n": 1, "note": "a\x00b"})).payload["note"] == "a\x00b"

    def test_unknown_adapter(self, script: Script) -> None:
        """The error names the known ones."""
        with pytest.raises(UnknownAdapter, match=r"no adapter 'acme'.*known: scripted"):
            enqueue_call(adapter="acme", operation="create", payload=PAYLOAD)

    def test_unknown_operation(self, script: Script) -> None:
        """The error names the known ones."""
        with pytest.raises(UnknownOperation, match=r"'creat' \(known: charge, create, look"):
            enqueue("creat")

    def test_all_are_call_refused(self) -> None:
        """A caller can catch them all at once, and each is a ValueError."""
        for kind in (InvalidPayload, UnknownAdapter, UnknownOperation, KeyReused):
            assert issubclass(kind, CallRefused)
        assert issubclass(CallRefused, ValueError)

    @given(
        payload=st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["n", "note", "labels", "x"]), inner, max_size=4)
            ),
            max_leaves=6,
        )
    )
    @hypothesis_settings(
        max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    def test_any_payload(self, script: Script, payload: Any) -> None:
        """Whatever is given, it is stored and reads the same, or it is refused by name."""
        try:
            call = enqueue(payload=payload)
        except InvalidPayload:
            return
        stored = reread(call).payload
        assert {name: stored.get(name) for name in payload} == payload


@pytest.mark.django_db
class TestOwnKeys:
    """A caller's own key makes asking twice harmless."""

    def test_same_content(self, script: Script) -> None:
        """The call that is there is returned, as it stands by now."""
        first = enqueue(idempotency_key="k")
        attempt(first)
        again = enqueue(idempotency_key="k")
        assert (again.pk, again.status) == (first.pk, CallStatus.SUCCEEDED)
        assert OutboundCall.objects.count() == 1

    @pytest.mark.parametrize(
        "operation,payload",
        [
            ("charge", PAYLOAD),
            ("create", {"n": 2}),
            ("create", {"n": 1, "note": "x"}),
            ("create", {"n": 1, "anything": True}),
            ("create", {"n": 1, "anything": 1.0}),
        ],
    )
    def test_other_content(self, script: Script, operation: str, payload: dict[str, Any]) -> None:
        """Another operation or payload under the key is an error, however alike they look."""
        enqueue(payload={"n": 1, "anything": 1}, idempotency_key="k")
        enqueue(payload=PAYLOAD, idempotency_key="l")
        key = "k" if "anything" in payload else "l"
        with pytest.raises(KeyReused, match="with another operation or payload"):
            enqueue(operation, payload=payload, idempotency_key=key)
        assert OutboundCall.objects.count() == 2

    def test_the_transaction_goes_on(
        self,
        script: Script,
        announced: list[Hint],
        django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
    ) -> None:
        """After a key was found in use, the caller's transaction can still write."""
        enqueue(idempotency_key="k")
        with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
            with pytest.raises(KeyReused):
                enqueue(payload={"n": 2}, idempotency_key="k")
            other = enqueue()
        assert reread(other).status == CallStatus.PENDING

    def test_the_account_belongs_to_the_key(self, script: Script) -> None:
        """Two accounts of a provider may use the same key."""
        keys = [enqueue(idempotency_key="k", account=account).pk for account in ("", "a", "b")]
        assert len(set(keys)) == 3

    def test_a_key_that_another_call_minted(self, script: Script) -> None:
        """A key that was minted for another call cannot be taken."""
        minted = enqueue()
        with pytest.raises(KeyReused, match="belongs to another call"):
            enqueue(idempotency_key=minted.idempotency_key)

    def test_the_order_of_fields_does_not_matter(self, script: Script) -> None:
        """Equal documents are equal, however they were spelled."""
        first = enqueue(payload={"n": 1, "labels": {"a": "1", "b": "2"}}, idempotency_key="k")
        again = enqueue(payload={"labels": {"b": "2", "a": "1"}, "n": 1}, idempotency_key="k")
        assert again.pk == first.pk


@pytest.mark.django_db(transaction=True)
class TestRaces:
    """The unique constraint decides, not a look before the leap."""

    def test_one_key_from_twenty_threads(self, script: Script, announced: list[Hint]) -> None:
        """Twenty threads ask under one key: one row, one hint, and all get the same call."""

        def ask() -> uuid.UUID:
            with transaction.atomic():
                return enqueue(idempotency_key="k").pk

        found = at_once(20, ask)
        assert len(set(found)) == 1
        assert OutboundCall.objects.count() == len(announced) == 1

    def test_one_key_for_different_content(self, script: Script) -> None:
        """Of twenty threads with different content one wins, and the others are told."""
        numbers = iter(range(1, 21))

        def ask() -> int:
            number = next(numbers)
            with transaction.atomic():
                enqueue(payload={"n": number}, idempotency_key="k")
            return number

        found = at_once(20, ask)
        [winner] = [number for number in found if isinstance(number, int)]
        assert sum(isinstance(error, KeyReused) for error in found) == 19
        assert OutboundCall.objects.get().payload["n"] == winner
