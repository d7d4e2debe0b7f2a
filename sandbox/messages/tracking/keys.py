"""Private keys as texts."""

from __future__ import annotations

from functools import cache

from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)


def as_pem(key: PrivateKeyTypes) -> str:
    """PKCS 8, unencrypted: it is made up."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@cache
def read_pem(text: str) -> PrivateKeyTypes:
    """Raises ValueError for what is none."""
    return load_pem_private_key(text.encode(), None)
