"""Files that come with a message: told by their digests."""

from __future__ import annotations

import binascii
import hashlib
from base64 import b64decode
from typing import Any


def described(
    name: str, content_type: str, content: bytes, *, content_id: str = ""
) -> dict[str, Any]:
    """What is kept of a file."""
    return {
        "name": name,
        "type": content_type,
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "content_id": content_id.strip("<>"),
    }


def read_base64(text: object) -> bytes | None:
    """The bytes; None for what is not base64, strictly."""
    try:
        return b64decode(str(text), validate=True) if isinstance(text, str) else None
    except (ValueError, binascii.Error):
        return None
