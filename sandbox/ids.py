"""Identifiers in the provider's style: a prefix that names the kind, and chance.

They never depend on the seed: a second run with the same seed must not repeat the ids of the first,
or its events would be taken for duplicates.
"""

from __future__ import annotations

import secrets
import string

_SIGNS = (string.ascii_letters + string.digits).encode()
_TABLE = bytes(_SIGNS[octet % len(_SIGNS)] for octet in range(256))


def new_id(prefix: str, *, length: int = 24) -> str:
    """`pi_3MtwBwLkdIwHu7ix28a3tqPa`"""
    return f"{prefix}_{random_text(length)}"


def random_text(length: int) -> str:
    """Letters and digits."""
    return secrets.token_bytes(length).translate(_TABLE).decode()
