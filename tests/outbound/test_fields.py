"""Columns that only the holder of a key can read."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from cryptography.fernet import Fernet, InvalidToken
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from outbound.fields import (
    EncryptedBinaryField,
    EncryptedJSONField,
    canonical_json,
    needs_rotation,
    rotate,
)
from outbound.models import OutboundCall
from tests.outbound.rows import enqueue
from tests.outbound.scripted import Script

OLD, NEW, STRANGER = (Fernet.generate_key().decode() for _ in range(3))

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


def stored(value: Any, field: EncryptedBinaryField) -> bytes:
    token: bytes = field.get_prep_value(value)
    return token


def read(token: bytes | memoryview | None, field: EncryptedBinaryField) -> Any:
    return field.from_db_value(token, None, connection)


@given(JSON)
def test_json_round_trip(document: Any) -> None:
    """What was stored is what is read."""
    field = EncryptedJSONField()
    token = field.get_prep_value(document)
    assert read(token, field) == document
    assert document is None or isinstance(token, bytes)


@given(st.binary())
def test_binary_round_trip(body: bytes) -> None:
    """Bytes stay as they are, whatever the driver hands back."""
    field = EncryptedBinaryField()
    token = stored(body, field)
    assert read(token, field) == read(memoryview(token), field) == body


def test_nothing_is_nothing() -> None:
    """NULL is not encrypted, so that it can be asked for."""
    for field in (EncryptedJSONField(), EncryptedBinaryField()):
        assert field.get_prep_value(None) is None
        assert read(None, field) is None


def test_unreadable_at_rest() -> None:
    """The stored bytes hold nothing of the text, and two of the same differ."""
    field = EncryptedJSONField()
    one, other = (stored({"name": "canary"}, field) for _ in range(2))
    assert b"canary" not in one
    assert one != other


@pytest.mark.parametrize("document", [math.nan, [math.inf], {"a": object()}, {"a": b"x"}])
def test_what_json_has_not(document: Any) -> None:
    """What would not be read as it was written is not written."""
    with pytest.raises((ValueError, TypeError)):
        EncryptedJSONField().get_prep_value(document)


def test_canonical_json() -> None:
    """Equal documents have one spelling."""
    one = canonical_json({"b": [1, 2.5, None], "a": {"y": "ü", "x": True}})
    other = canonical_json({"a": {"x": True, "y": "ü"}, "b": [1, 2.5, None]})
    assert one == other == b'{"a":{"x":true,"y":"\\u00fc"},"b":[1,2.5,null]}'


@given(JSON)
def test_canonical_json_is_json(document: Any) -> None:
    """Any document survives its canonical spelling, which is ASCII."""
    text = canonical_json(document)
    assert text.isascii()
    assert json.loads(text) == document
    assert canonical_json(json.loads(text)) == text


class TestKeys:
    """The first key encrypts, all decrypt."""

    def test_rotation(self, settings: Settings) -> None:
        """A new key in front reads the old values, and writes new ones."""
        field = EncryptedJSONField()
        settings.FIELD_ENCRYPTION_KEYS = [OLD]
        token = stored("x", field)
        assert not needs_rotation(token)
        settings.FIELD_ENCRYPTION_KEYS = [NEW, OLD]
        assert read(token, field) == "x"
        assert needs_rotation(token)
        rotated = rotate(token)
        assert not needs_rotation(rotated)
        settings.FIELD_ENCRYPTION_KEYS = [NEW]
        assert read(rotated, field) == "x"

    def test_wrong_key(self, settings: Settings) -> None:
        """A value of another key is a configuration error that names the setting."""
        field = EncryptedJSONField()
        token = stored("x", field)
        settings.FIELD_ENCRYPTION_KEYS = [STRANGER]
        with pytest.raises(ImproperlyConfigured, match="FIELD_ENCRYPTION_KEYS"):
            read(token, field)
        with pytest.raises(InvalidToken):
            rotate(token)

    @pytest.mark.parametrize("token", [b"", b"x", b"\x00" * 100])
    def test_no_token_at_all(self, token: bytes) -> None:
        """Rubbish in the column is told in the same way."""
        with pytest.raises(ImproperlyConfigured, match="FIELD_ENCRYPTION_KEYS"):
            read(token, EncryptedJSONField())

    def test_tampered(self) -> None:
        """A changed byte does not go unnoticed."""
        token = bytearray(stored({"amount": 1}, EncryptedJSONField()))
        token[-5] ^= 1
        with pytest.raises(ImproperlyConfigured):
            read(bytes(token), EncryptedJSONField())

    @pytest.mark.parametrize("keys", [[], ["short"], [OLD, ""], ["\x00"]])
    def test_no_usable_keys(self, settings: Settings, keys: list[str]) -> None:
        """Without keys nothing is stored in the clear instead."""
        settings.FIELD_ENCRYPTION_KEYS = keys
        with pytest.raises(ImproperlyConfigured, match="FIELD_ENCRYPTION_KEYS"):
            EncryptedJSONField().get_prep_value("x")


@pytest.mark.both_databases
@pytest.mark.django_db
def test_on_a_row(script: Script) -> None:
    """The same through the database: read, deferred, refreshed, as values."""
    payload = {"n": 1, "note": "\x00\N{PILE OF POO}", "labels": {}}
    call = enqueue(payload=payload)
    assert OutboundCall.objects.get().payload == payload
    assert OutboundCall.objects.defer("payload").get().payload == payload
    values: Any = OutboundCall.objects.values_list("payload", flat=True).get()
    assert values == payload
    call.refresh_from_db()
    assert call.payload == payload
    assert OutboundCall.objects.filter(result=None).count() == 1
