"""What every adapter for email keeps to, whatever its provider's wire looks like.

`deliver` has the adapter send a payload to a provider that takes it, and tells what its recipients
get: so a provider's own filling in of placeholders is part of the rule.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import pytest

from notifications.adapters import MessageAdapter
from notifications.adapters.messages import BulkEmail, Email
from notifications.adapters.replies import RECIPIENTS_REFUSED, Receipt, read_receipts
from outbound.adapters import Reply
from outbound.errors import PermanentError
from tests.notifications.adapters import letters
from tests.notifications.adapters.letters import Delivered

JO, PLAIN, BOOKS, AUDIT = (
    "jo@example.org",
    "plain@example.org",
    "books@example.org",
    "audit@example.org",
)
AWKWARD = "<b>\"Jo\" & 'Söhne'</b> $1 %s {{ name }} {{{x}}} %recipient.t_name% -t_name- \\1 \\"


class MailContract(ABC):
    """Rules for adapters of email."""

    adapter_class: ClassVar[type[MessageAdapter]]
    keeps_marks: ClassVar[bool] = True
    keeps_tags: ClassVar[bool] = True

    @abstractmethod
    def mail_adapter(self, url: str = "http://127.0.0.1:9") -> MessageAdapter:
        """The adapter, with its provider at `url`."""

    @abstractmethod
    def deliver(self, payload: Email | BulkEmail) -> tuple[Reply, list[Delivered]]:
        """Send to a provider that takes everybody."""

    @abstractmethod
    def deliver_refusing(
        self, payload: Email | BulkEmail, *refused: str
    ) -> tuple[Reply, list[str]]:
        """Send to a provider that does not take these addresses. Returns the addresses of each
        message that was taken, once for each time."""

    def send(self, **fields: Any) -> tuple[Reply, list[Delivered]]:
        return self.deliver(Email.model_validate(fields))

    def send_bulk(self, **fields: Any) -> tuple[Reply, list[Delivered]]:
        return self.deliver(BulkEmail.model_validate(fields))

    def test_a_letter_arrives_whole(self) -> None:
        """Names, subject and bodies in any script; copies, headers; files byte for byte."""
        reply, [got] = self.send(**letters.letter())
        assert got.sender == ("Köhler & Söhne, Inc.", "shop@example.com")
        assert got.to == [('Jo "Süß" <Doe>', JO), ("", PLAIN)]
        assert got.cc == [("Books", BOOKS)]
        assert [address for _, address in got.bcc] == [AUDIT]
        assert got.reply_to == [("Hilfe für Sie", "help@example.com"), ("", "desk@example.com")]
        assert got.subject == letters.SUBJECT
        assert got.text.replace("\r\n", "\n").rstrip() == letters.TEXT.rstrip()
        assert got.html.rstrip() == letters.HTML
        assert {name.lower(): value for name, value in got.headers.items()} == {
            name.lower(): value for name, value in letters.letter()["headers"].items()
        }
        assert got.files == [
            ("Beleg für Jo.pdf", "application/pdf", letters.PDF, ""),
            ("list.csv", "text/csv", letters.CSV, ""),
            self.inline_file(),
        ]
        receipts = read_receipts(reply.result)
        assert [receipt.address for receipt in receipts] == [JO, PLAIN, BOOKS, AUDIT]
        assert all(receipt.accepted and receipt.message_id for receipt in receipts)
        assert reply.provider_reference == receipts[0].message_id

    def inline_file(self) -> tuple[str, str, bytes, str]:
        return ("logo.png", "image/png", letters.PNG, "logo@shop")

    def test_what_comes_back_with_events(self) -> None:
        """Our call and its key go along, and the message's own metadata and tags."""
        _, [got] = self.send(**letters.letter())
        if self.keeps_marks:
            assert got.marks == letters.MARKS
        if self.keeps_tags:
            assert got.tags == ["receipt"]
            assert got.metadata == {"order": "6735", "shop": "main"}

    def test_a_file_that_is_no_utf8(self) -> None:
        """Text in another encoding is not touched."""
        file = letters.attached("old.csv", "text/csv", letters.LATIN)
        _, [got] = self.send(**letters.note(JO, attachments=[file]))
        assert [content for _, _, content, _ in got.files] == [letters.LATIN]

    @pytest.mark.parametrize("field", ["text", "html"])
    def test_one_body_only(self, field: str) -> None:
        """A message has what it was given: nothing is made of the other kind."""
        _, [got] = self.send(**letters.note(JO, **{"text": "", field: "<p>Thank you.</p>"}))
        bodies = {"text": got.text.strip(), "html": got.html.strip()}
        assert bodies == {"text": "", "html": "", field: "<p>Thank you.</p>"}

    def test_a_file_only(self) -> None:
        """A message can be a file and nothing else."""
        file = letters.attached("receipt.pdf", "application/pdf", letters.PDF)
        _, [got] = self.send(**letters.note(JO, text="", attachments=[file]))
        assert (got.text.strip(), got.html.strip()) == ("", "")
        assert [content for _, _, content, _ in got.files] == [letters.PDF]

    def test_each_address_once(self) -> None:
        """Who stands there twice gets it once."""
        fields = letters.note(JO, PLAIN, "Jo@example.org", cc=[{"address": PLAIN}])
        reply, [got] = self.send(**fields)
        assert [address for _, address in got.to] == [JO, PLAIN]
        assert not got.cc
        assert [receipt.address for receipt in read_receipts(reply.result)] == [JO, PLAIN]

    def bulk_sizes(self) -> int:
        return min(self.adapter_class.batch_limit, 3)

    def test_bulk_has_each_ones_own_words(self) -> None:
        """One message to each, nobody sees another; values are text, whatever they look like."""
        people: list[dict[str, Any]] = [
            {
                "address": JO,
                "name": "Jö",
                "variables": {"name": AWKWARD, "code": "1\r\n2", "x": "-"},
            },
            {"address": PLAIN, "variables": {"name": "B", "code": "b", "x": "-"}},
            {"address": BOOKS, "variables": {"name": "C", "code": "c", "x": "-"}},
        ][: self.bulk_sizes()]
        fields = letters.circular(
            subject="Für {{name}} {{ code }}",
            text="Dear {{name}}: \\{{code}} {{{x}}} {{not one}} }} {{",
            html="<style>a{b:c}@x{d{e:f}}</style><p title='{{name}}'>{{ name }}</p>{{code}}",
            recipients=people,
        )
        reply, messages = self.send_bulk(**fields)
        assert len(messages) == len(people)
        for person, got in zip(people, messages, strict=True):
            name, code = person["variables"]["name"], person["variables"]["code"]
            escaped = self.escaped(name)
            assert got.to == [(person.get("name", ""), person["address"])]
            assert (got.cc, got.bcc) == ([], [])
            assert got.subject == f"Für {name} {' '.join(code.split())}"
            assert got.text.replace("\r\n", "\n").rstrip("\n") == (
                f"Dear {name}: \\{code} {{-}} {{{{not one}}}} }}}} {{{{".replace("\r\n", "\n")
            )
            assert got.html.replace("\r\n", "\n").rstrip("\n") == (
                "<style>a{b:c}@x{d{e:f}}</style>"
                f"<p title='{escaped}'>{escaped}</p>{code}".replace("\r\n", "\n")
            )
            if self.keeps_marks:
                assert got.marks == letters.MARKS
        receipts = read_receipts(reply.result)
        assert [receipt.address for receipt in receipts] == [each["address"] for each in people]
        assert all(receipt.accepted and receipt.message_id for receipt in receipts)

    def escaped(self, text: str) -> str:
        pairs = (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&#x27;"))
        for character, entity in pairs:
            text = text.replace(character, entity)
        return text

    def test_bulk_without_placeholders(self) -> None:
        """A message may be the same for all, and still nobody sees another."""
        addresses = [JO, PLAIN, BOOKS][: self.bulk_sizes()]
        _, messages = self.send_bulk(
            **letters.circular(*addresses, subject="News", text="The same.")
        )
        assert [(got.to, got.text.strip()) for got in messages] == [
            ([("", address)], "The same.") for address in addresses
        ]

    def test_bulk_of_more_than_the_limit(self) -> None:
        """More than the provider takes is refused before anything is sent."""
        too_many = [f"p{n}@example.org" for n in range(self.adapter_class.batch_limit + 1)]
        if len(too_many) > 1000:
            pytest.skip("no payload has so many")
        payload = BulkEmail.model_validate(letters.circular(*too_many))
        with pytest.raises(PermanentError) as caught:
            self.mail_adapter().perform("send_bulk_email", payload, letters.context())
        assert caught.value.code == "too_many_recipients"

    def test_bulk_with_a_missing_value(self) -> None:
        """Nobody gets a message with a hole in it."""
        fields = letters.circular(JO, text="{{name}} {{lost}}")
        with pytest.raises(PermanentError) as caught:
            self.send_bulk(**fields)
        assert caught.value.code == "variable_missing"

    def test_one_bad_address_fails_nobody(self) -> None:
        """The others get it, once; the receipts tell who does not, and why."""
        if self.bulk_sizes() == 1:
            pytest.skip("one at a time")
        payload = BulkEmail.model_validate(letters.circular(JO, PLAIN, BOOKS))
        reply, taken = self.deliver_refusing(payload, PLAIN)
        self.assert_refused(read_receipts(reply.result), PLAIN)
        assert sorted(taken) == [BOOKS, JO]

    def test_all_bad(self) -> None:
        """Nobody was accepted: permanent, and the recipients' fault, not the provider's."""
        payload = BulkEmail.model_validate(letters.circular(*[JO, PLAIN][: self.bulk_sizes()]))
        with pytest.raises(PermanentError) as caught:
            self.deliver_refusing(payload, JO, PLAIN)
        assert caught.value.code == RECIPIENTS_REFUSED
        assert not caught.value.effect_possible
        for private in (JO, PLAIN):
            assert private not in caught.value.message

    def assert_refused(self, receipts: list[Receipt], *refused: str) -> None:
        assert {r.address for r in receipts if not r.accepted} == set(refused)
        for receipt in receipts:
            if receipt.accepted:
                assert receipt.message_id
                assert (receipt.code, receipt.reason) == ("", "")
            else:
                assert receipt.code
                assert receipt.reason
                assert "@" not in receipt.reason
