"""Keys: `prefix.secret`. The prefix finds the row, and of the secret only a hash is stored.

The secret is 32 random bytes, so a plain SHA-256 is enough: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

SHAPE = re.compile(r"(hf_[0-9a-f]{16})\.([A-Za-z0-9_-]{20,100})")


@dataclass(frozen=True, slots=True)
class Key:
    """What a client sends."""

    prefix: str
    secret: str

    def __str__(self) -> str:
        return f"{self.prefix}.{self.secret}"

    def __repr__(self) -> str:  # never the secret, not in a traceback either
        return f"Key({self.prefix!r})"

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.secret.encode()).hexdigest()

    def matches(self, digest: str) -> bool:
        """Whether it is the key that was stored as `digest`, in constant time."""
        return hmac.compare_digest(self.digest, digest)


def mint() -> Key:
    """A new key."""
    return Key(f"hf_{secrets.token_hex(8)}", secrets.token_urlsafe(32))


def read(text: str) -> Key | None:
    """The key that is written there; None for what can be none."""
    found = SHAPE.fullmatch(text)
    return Key(found[1], found[2]) if found else None
