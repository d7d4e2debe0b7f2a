"""Columns encrypted at rest with Fernet (AES-128-CBC + HMAC-SHA256).

The keys are `settings.FIELD_ENCRYPTION_KEYS`: the first encrypts, all decrypt, so a key is
rotated by putting a new one in front and running `manage.py rotate_encryption`.
https://cryptography.io/en/latest/fernet/
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import models

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper


@lru_cache(maxsize=8)
def _cipher(keys: tuple[str, ...]) -> MultiFernet:
    try:
        return MultiFernet([Fernet(key) for key in keys])
    except ValueError as error:
        raise ImproperlyConfigured(
            "FIELD_ENCRYPTION_KEYS must be a comma list of Fernet keys"
        ) from error


def cipher() -> MultiFernet:
    """The cipher for the configured keys. Raises ImproperlyConfigured when there is none."""
    keys = tuple(settings.FIELD_ENCRYPTION_KEYS)
    if not keys:
        raise ImproperlyConfigured("FIELD_ENCRYPTION_KEYS is empty: nothing can be stored")
    return _cipher(keys)


def _decrypt(token: bytes) -> bytes:
    try:
        return cipher().decrypt(token)
    except InvalidToken as error:
        raise ImproperlyConfigured(
            "a stored value cannot be read with any of FIELD_ENCRYPTION_KEYS"
        ) from error


def needs_rotation(token: bytes) -> bool:
    """Whether `token` was made with another key than the first one."""
    try:
        Fernet(settings.FIELD_ENCRYPTION_KEYS[0]).decrypt(token)
    except InvalidToken:
        return True
    return False


def rotate(token: bytes) -> bytes:
    """`token` encrypted again with the first key. Raises InvalidToken if no key opens it."""
    return cipher().rotate(token)


class EncryptedBinaryField(models.BinaryField):  # type: ignore[type-arg]
    """Bytes, readable only with one of FIELD_ENCRYPTION_KEYS."""

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        return None if value is None else cipher().encrypt(self.to_bytes(value))

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> Any:
        return None if value is None else self.from_bytes(_decrypt(bytes(value)))

    def to_bytes(self, value: Any) -> bytes:
        return bytes(value)

    def from_bytes(self, value: bytes) -> Any:
        return value


class EncryptedJSONField(EncryptedBinaryField):
    """A JSON document, readable only with one of FIELD_ENCRYPTION_KEYS."""

    def to_bytes(self, value: Any) -> bytes:
        return canonical_json(value)

    def from_bytes(self, value: bytes) -> Any:
        return json.loads(value)

    def to_python(self, value: Any) -> Any:
        return value

    def value_to_string(self, obj: models.Model) -> str:
        return json.dumps(self.value_from_object(obj))


def canonical_json(value: Any) -> bytes:
    """One spelling for equal documents: sorted names, no spaces, ASCII, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True
    ).encode()
