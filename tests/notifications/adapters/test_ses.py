"""The adapter for Amazon SES keeps to what all for email keep to, and signs as botocore does."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime
from email.header import decode_header, make_header
from typing import Any

import pytest
import time_machine

from notifications.adapters.messages import BulkEmail, Email
from notifications.adapters.replies import (
    OUT_OF_QUOTA,
    RECIPIENTS_REFUSED,
    TRY_AGAIN,
    read_receipts,
)
from notifications.adapters.ses import SesAdapter
from outbound.adapters import Reply
from outbound.errors import (
    DeliveryError,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    TransientError,
)
from tests.contracts.adapter import Sample
from tests.contracts.http_mail import HttpMailContract, Sent
from tests.notifications.adapters import letters
from tests.notifications.adapters.letters import Delivered, mailboxes, read_mime
from tests.outbound import wire

ACCESS_KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
REGION = "eu-west-1"
OK = {"MessageId": "0102018f-ses"}
PLACEHOLDER = re.compile(r"(?<!\\)\{\{\{?\s*(\w+)\s*\}?\}\}")


class TestSes(HttpMailContract):
    """https://docs.aws.amazon.com/ses/latest/APIReference-V2"""

    adapter_class = SesAdapter
    secrets = (SECRET, ACCESS_KEY)
    samples = {  # noqa: RUF012 - declared ClassVar in the contract
        "send_email": Sample(
            letters.note("jo@example.org"),
            json.dumps(OK).encode(),
            OK["MessageId"],
            private=("jo@example.org", "Your receipt", "Thank you"),
        ),
        "send_bulk_email": Sample(
            letters.circular("jo@example.org"),
            json.dumps({"BulkEmailEntryResults": [{"Status": "SUCCESS", **OK}]}).encode(),
            OK["MessageId"],
            private=("jo@example.org",),
        ),
    }

    def options(self, url: str) -> dict[str, Any]:
        return {
            "ACCESS_KEY_ID": ACCESS_KEY,
            "SECRET_ACCESS_KEY": SECRET,
            "REGION": REGION,
            "API_BASE": url,
            "CONFIGURATION_SET": "events",
        }

    def comparable(self, request: bytes) -> bytes:
        """A signature has the second it was made in."""
        return re.sub(rb"(?im)^(x-amz-date|authorization):.*$", rb"\1:", request)

    def answer(self, sent: Sent, refused: tuple[str, ...]) -> bytes:
        assert sent.headers["authorization"].startswith(f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}")
        assert sent.document["ConfigurationSetName"] == "events"
        if sent.path == "/v2/email/outbound-emails":
            return wire.reply(json.dumps(OK).encode())
        assert sent.path == "/v2/email/outbound-bulk-emails"
        results = []
        for n, entry in enumerate(sent.document["BulkEmailEntries"]):
            [(_, address)] = mailboxes(*entry["Destination"]["ToAddresses"])
            if address in refused:
                error = f"Illegal address {address}"
                results.append({"Status": "INVALID_PARAMETER", "Error": error})
            else:
                results.append({"Status": "SUCCESS", "MessageId": f"ses-{n}"})
        return wire.reply(json.dumps({"BulkEmailEntryResults": results}).encode())

    def read(self, sent: Sent) -> list[Delivered]:
        if "BulkEmailEntries" in sent.document:
            return [_filled(sent.document, each) for each in sent.document["BulkEmailEntries"]]
        return [_delivered(sent.document)]

    @pytest.mark.parametrize(
        "status, name, message, kind, ours",
        [
            (429, "TooManyRequestsException", "Rate exceeded", RateLimited, None),
            (
                429,
                "TooManyRequestsException",
                "Daily message quota exceeded.",
                RateLimited,
                OUT_OF_QUOTA,
            ),
            (400, "ThrottlingException", "Maximum sending rate exceeded.", RateLimited, None),
            (400, "SendingPausedException", "paused", RateLimited, OUT_OF_QUOTA),
            (400, "AccountSuspendedException", "suspended", RateLimited, OUT_OF_QUOTA),
            (400, "MailFromDomainNotVerifiedException", "", PermanentError, None),
            (
                400,
                "MessageRejected",
                "Email address is not verified. The following identities failed: jo@example.org",
                PermanentError,
                "not_verified",
            ),
            (400, "MessageRejected", "contains a virus", PermanentError, None),
            (400, "BadRequestException", "Illegal address", PermanentError, RECIPIENTS_REFUSED),
            (403, "InvalidSignatureException", "expired", PermanentError, None),
            (404, "NotFoundException", "Configuration set", PermanentError, None),
        ],
    )
    def test_what_refusals_mean(
        self, status: int, name: str, message: str, kind: type, ours: str | None
    ) -> None:
        """The names of AWS, told apart."""
        header = f"x-amzn-ErrorType: {name}:http://internal.amazon.com/coral/x/"
        error = self.refused_with(f"{status} No", {"message": message}, headers=header)
        assert type(error) is kind
        assert error.code == (name if ours is None else ours)
        assert not error.effect_possible

    def test_the_name_may_be_in_the_body(self) -> None:
        """As JSON 1.1 has it."""
        body = {"__type": "com.amazonaws.ses#SendingPausedException", "message": "paused"}
        assert self.refused_with("400 Bad Request", body).code == OUT_OF_QUOTA

    @pytest.mark.parametrize(
        "status, kind, code",
        [
            ("ACCOUNT_DAILY_QUOTA_EXCEEDED", RateLimited, OUT_OF_QUOTA),
            ("ACCOUNT_SENDING_PAUSED", RateLimited, OUT_OF_QUOTA),
            ("ACCOUNT_THROTTLED", RateLimited, "ACCOUNT_THROTTLED"),
            ("TRANSIENT_FAILURE", TransientError, "TRANSIENT_FAILURE"),
            ("MAIL_FROM_DOMAIN_NOT_VERIFIED", PermanentError, "MAIL_FROM_DOMAIN_NOT_VERIFIED"),
            ("INVALID_PARAMETER", PermanentError, RECIPIENTS_REFUSED),
        ],
    )
    def test_a_batch_that_nobody_got(self, status: str, kind: type, code: str) -> None:
        """What it is for decides who is asked next."""
        error = self._bulk([{"Status": status, "Error": "no"}, {"Status": "INVALID_PARAMETER"}])
        assert type(error) is kind
        assert isinstance(error, DeliveryError)
        assert error.code == code

    @pytest.mark.parametrize("status", ["ACCOUNT_THROTTLED", "MAIL_FROM_DOMAIN_NOT_VERIFIED"])
    def test_a_batch_that_was_stopped(self, status: str) -> None:
        """Who was not reached, by no fault of theirs, may be asked for again."""
        found = self._bulk([{"Status": status}, {"Status": "SUCCESS", **OK}])
        assert isinstance(found, Reply)
        receipts = read_receipts(found.result)
        assert [(each.accepted, each.code) for each in receipts] == [(False, TRY_AGAIN), (True, "")]

    @pytest.mark.parametrize(
        "results",
        [
            [],
            [{"Status": "SUCCESS", **OK}],
            [{"Status": "SUCCESS", **OK}, {"Status": "SUCCESS"}],
            [{"Status": "SUCCESS", **OK}, None],
        ],
    )
    def test_a_batch_answered_in_part(self, results: list[Any]) -> None:
        """Where an answer is missing, somebody may have it."""
        assert isinstance(self._bulk(results), OutcomeUnknown)

    def _bulk(self, results: list[Any]) -> Reply | DeliveryError:
        payload = BulkEmail.model_validate(letters.circular("jo@example.org", "plain@example.org"))
        body = json.dumps({"BulkEmailEntryResults": results}).encode()
        with wire.peer(wire.answers(wire.reply(body))) as peer:
            try:
                return self.mail_adapter(peer.url).perform(
                    "send_bulk_email", payload, letters.context()
                )
            except DeliveryError as error:
                return error

    def test_more_headers_than_ses_takes(self) -> None:
        """Then we make the message ourselves, of seven bits, with everything in it."""
        headers = {f"X-H{n}": "ü" for n in range(14)} | letters.letter()["headers"]
        _, [sent] = self.play(Email.model_validate(letters.letter(headers=headers)))
        raw = base64.b64decode(sent.document["Content"]["Raw"]["Data"], validate=True)
        assert raw.isascii()
        got = read_mime(raw)
        assert got.subject == letters.SUBJECT
        assert [content for _, _, content, _ in got.files] == [
            letters.PDF, letters.CSV, letters.PNG,
        ]  # fmt: skip
        assert got.text.replace("\r\n", "\n").rstrip() == letters.TEXT.rstrip()
        assert raw.count(b"=?utf-8?b?w7w=?=") == 14
        assert b"audit@example.org" not in raw

    def test_more_headers_than_a_batch_takes(self) -> None:
        """Refused before anything is sent: there is another provider."""
        headers = {f"X-H{n}": "v" for n in range(16)}
        fields = letters.circular("jo@example.org", headers=headers)
        found, requests = self.play(BulkEmail.model_validate(fields))
        assert isinstance(found, PermanentError)
        assert found.code == "unsupported"
        assert requests == []

    def test_metadata_that_no_tag_can_hold(self) -> None:
        """It goes along in a header."""
        fields = letters.note("jo@example.org", metadata={"shop": "Söhne & Co", "order": "1"})
        _, [sent] = self.play(Email.model_validate(fields))
        tags = {each["Name"]: each["Value"] for each in sent.document["EmailTags"]}
        assert tags == {**letters.MARKS, "order": "1"}
        [header] = sent.document["Content"]["Simple"]["Headers"]
        assert header["Value"].isascii()
        assert json.loads(header["Value"]) == {"shop": "Söhne & Co"}


FROZEN = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)


class TestAgainstBotocore:
    """The whole request, its signature included, as botocore's own client makes it."""

    @pytest.mark.parametrize("token", ["", "session/token+=="])
    @pytest.mark.parametrize("operation", ["send_email", "send_bulk_email"])
    def test_the_same_request(self, operation: str, token: str) -> None:
        fields = letters.letter()
        people = fields["to"]
        if operation == "send_bulk_email":
            for name in ("to", "cc", "bcc"):
                del fields[name]
            fields["recipients"] = [{**each, "variables": {"name": "Jö"}} for each in people]
            fields["text"] = "Dear {{name}}"
        model: type[Email | BulkEmail] = Email if operation == "send_email" else BulkEmail
        contract = TestSes()
        options = {**contract.options(""), "SESSION_TOKEN": token}
        contract.options = lambda url: {**options, "API_BASE": url}  # type: ignore[method-assign]
        with time_machine.travel(FROZEN, tick=False):
            found, [sent] = contract.play(model.model_validate(fields))
            assert isinstance(found, Reply)
            theirs = _sent_by_botocore(operation, sent, token)
        assert theirs["path"] == sent.path
        assert theirs["body"] == sent.body
        for name in ("authorization", "x-amz-date", "x-amz-security-token", "content-type"):
            assert theirs["headers"].get(name) == sent.headers.get(name), name


def _sent_by_botocore(operation: str, sent: Sent, token: str) -> dict[str, Any]:
    """What botocore sends for the same parameters; blobs are bytes there."""
    import botocore.session  # loaded for these tests alone
    from botocore.awsrequest import AWSResponse

    seen: dict[str, Any] = {}

    def instead(request: Any, **_: Any) -> AWSResponse:
        headers = {k.lower(): _text(v) for k, v in request.headers.items()}
        seen.update(path=request.url.partition("/v2/")[2], headers=headers, body=request.body)
        seen["path"] = f"/v2/{seen['path']}"
        answer = AWSResponse(request.url, 200, {}, None)
        answer._content = b"{}"
        return answer

    session = botocore.session.Session()
    client = session.create_client(
        "sesv2",
        region_name=REGION,
        endpoint_url=f"http://{sent.headers['host']}",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET,
        aws_session_token=token or None,
    )
    client.meta.events.register("before-send", instead)
    getattr(client, operation)(**_with_bytes(sent.document))
    return seen


def _with_bytes(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: base64.b64decode(each) if name == "RawContent" else _with_bytes(each)
            for name, each in value.items()
        }
    return [_with_bytes(each) for each in value] if isinstance(value, list) else value


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _delivered(document: dict[str, Any]) -> Delivered:
    simple = document["Content"]["Simple"]
    body = simple["Body"]
    got = _common(document, simple, document["EmailTags"])
    got.to, got.cc, got.bcc = (
        _people(document["Destination"].get(f"{field}Addresses", []))
        for field in ("To", "Cc", "Bcc")
    )
    got.subject = simple["Subject"]["Data"]
    got.text, got.html = (body.get(name, {}).get("Data", "") for name in ("Text", "Html"))
    return got


def _filled(document: dict[str, Any], entry: dict[str, Any]) -> Delivered:
    """As Handlebars does it: {{name}} for its value, and nothing is escaped. Braces that would be
    anything else are an error at SES."""
    template = document["DefaultContent"]["Template"]
    replacement = entry["ReplacementEmailContent"]["ReplacementTemplate"]
    values = {
        **json.loads(template["TemplateData"]),
        **json.loads(replacement["ReplacementTemplateData"]),
    }

    def filled(text: str) -> str:
        bare = PLACEHOLDER.sub("", text)
        assert "{{" not in bare
        assert "}}" not in bare
        assert "{{{" not in text
        assert "}}}" not in text
        assert "\\{{" not in text
        return PLACEHOLDER.sub(lambda found: values[found[1]], text)

    got = _common(document, template, document["DefaultEmailTags"])
    content = template["TemplateContent"]
    got.to = _people(entry["Destination"]["ToAddresses"])
    got.subject = filled(content["Subject"])
    got.text, got.html = (filled(content.get(name, "")) for name in ("Text", "Html"))
    return got


def _common(
    document: dict[str, Any], content: dict[str, Any], tags: list[dict[str, str]]
) -> Delivered:
    metadata = {each["Name"]: each["Value"] for each in tags}
    return Delivered(
        sender=_people([document["FromEmailAddress"]])[0],
        to=[],
        subject="",
        reply_to=_people(document.get("ReplyToAddresses", [])),
        headers={each["Name"]: each["Value"] for each in content.get("Headers", [])},
        files=[
            (
                file["FileName"],
                file["ContentType"],
                base64.b64decode(file["RawContent"], validate=True),
                file.get("ContentId", ""),
            )
            for file in content.get("Attachments", [])
        ],
        marks={key: metadata.pop(key) for key in letters.MARKS},
        tags=[tag for tag in metadata.pop("holdfast_tags", "").split(".") if tag],
        metadata=metadata,
    )


def _people(texts: list[str]) -> list[tuple[str, str]]:
    """Names are in encoded words: SES wants ASCII."""
    assert all(text.isascii() for text in texts)
    return [(str(make_header(decode_header(name))), address) for name, address in mailboxes(*texts)]
