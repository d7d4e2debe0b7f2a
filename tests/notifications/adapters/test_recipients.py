"""Who an email goes to, and how that is written."""

from __future__ import annotations

import pytest
from anymail.utils import parse_address_list
from django.core.mail.message import sanitize_address
from pydantic import ValidationError

from notifications.adapters.messages import Email, Mailbox
from notifications.adapters.mime import addr_spec, formatted
from notifications.adapters.recipients import everybody, without
from notifications.adapters.replies import Receipt
from tests.notifications.adapters import letters

ODD = """
    jo@example.org JO+tag@Example.ORG u@[127.0.0.1] u@[::1] "a@b"@example.org "a,b"@example.org
    "<>"@example.org "ab"@example.org a'b+c/d=e?f^g`h{i|j}k~l!#$%&*@example.org jo@bücher.example
"""


@pytest.mark.parametrize(
    "name", ["", "Jo", 'Doe, "J" <x> (y) [z] \\ ; : .', "Jörg 🧾", "=?utf-8?q?x?="]
)
@pytest.mark.parametrize("address", ODD.split())
def test_what_we_take_can_be_written(address: str, name: str) -> None:
    """Every address that a message may have, under any name: anymail and Django read the same."""
    mailbox = Mailbox(address=address, name=name)
    [parsed] = parse_address_list([formatted(mailbox)])
    assert (parsed.display_name, parsed.addr_spec) == (name, addr_spec(mailbox))
    assert sanitize_address(formatted(mailbox), "utf-8").isascii()


def test_nobody_at_a_host() -> None:
    """An empty mailbox is none."""
    with pytest.raises(ValidationError):
        Mailbox(address='""@example.org')


def test_without_some() -> None:
    """Whatever the case of their addresses; and nobody hidden comes to light."""
    email = Email.model_validate(letters.letter())
    rest = without(email, [Receipt("JO@example.org", False), Receipt("audit@example.org", False)])
    assert rest is not None
    assert [each.address for each in everybody(rest)] == ["plain@example.org", "books@example.org"]
    assert without(email, [Receipt(each.address, False) for each in email.to]) is None
