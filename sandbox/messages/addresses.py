"""Addresses, and the tags in them that tell what becomes of a message: `bounce+ada@example.com`."""

from __future__ import annotations

import re
from email.headerregistry import Address
from email.utils import getaddresses

ADDRESS = re.compile(r"[^@\s<>,;:\"\\()\[\]]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+")
REFUSED_TAG, GONE_TAG = "bad", "gone"


def is_address(text: object) -> bool:
    """Whether a provider would take it for one."""
    return isinstance(text, str) and len(text) <= 254 and ADDRESS.fullmatch(text) is not None


def tag_of(recipient: str) -> str:
    """`bounce` of bounce+ada@example.com, of a device's token `bounce-…`; '' without one."""
    if "@" in recipient:
        return recipient.partition("@")[0].partition("+")[0].lower() if "+" in recipient else ""
    return recipient.partition("-")[0].lower() if "-" in recipient else ""


def read_mailboxes(text: str) -> list[tuple[str, str]]:
    """Names and addresses of a list such as `Ada <ada@example.com>, bob@example.com`."""
    return [(name, address) for name, address in getaddresses([text]) if name or address]


def mailbox(name: str, address: str) -> str:
    """As it stands in a header."""
    return str(Address(display_name=name, addr_spec=address)) if name else address
