"""Amazon SNS, which carries what Amazon SES says about mail.
https://docs.aws.amazon.com/sns/latest/dg/sns-http-https-endpoint-as-subscriber.html"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from cryptography.exceptions import InvalidSignature as NoProof
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

from webhooks.certificates import (
    Certificates,
    demand_certificate_url,
    demand_subscribe_url,
    sns_host,
)
from webhooks.envelopes import Envelope, is_name, read_json, read_json_object, read_name
from webhooks.errors import InvalidSignature, MalformedBody, MissingSignature
from webhooks.signatures import demand_fresh, read_base64, tolerance_of, tolerance_problem
from webhooks.sources import Source

NOTIFICATION = "Notification"
CONFIRMATION = "SubscriptionConfirmation"
FAREWELL = "UnsubscribeConfirmation"
# What is signed, in this order; a Subject only where there is one.
SIGNED = {
    NOTIFICATION: ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    **dict.fromkeys(
        (CONFIRMATION, FAREWELL),
        ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"),
    ),
}
HASHES = {"1": SHA1, "2": SHA256}
TOLERANCE_SECONDS = 3600.0  # SNS repeats for up to an hour, under the first time
SES_TYPES = ("eventType", "notificationType")  # event publishing, and feedback notifications


class SnsSource(Source):
    """Amazon SNS: RSA with SHA-1 (version 1) or SHA-256 (version 2) over some of the fields.

    Anybody with an AWS account can sign validly, so what counts is the topic. Options: TOPIC_ARNS
    (the topics that are ours), TOLERANCE (seconds). The type is `ses.bounce` and the like where
    the message is one of SES's, else `Notification`; the message is in the payload's `message` when
    it is a JSON object. A new subscription is confirmed by a worker.
    https://docs.aws.amazon.com/sns/latest/dg/sns-verify-signature-of-message.html
    """

    option_names: ClassVar[frozenset[str]] = frozenset({"TOPIC_ARNS", "TOLERANCE"})
    required_option: ClassVar[str] = "TOPIC_ARNS"
    secret_variable: ClassVar[str] = "SNS_TOPIC_ARNS"  # noqa: S105 - a variable's name
    certificates: ClassVar[Certificates] = Certificates()

    def verify(
        self, body: bytes, headers: Mapping[str, str], *, now: datetime, url: str = ""
    ) -> str:
        """What is cheap to find out comes first: nothing is fetched for somebody else's topic.
        The label is the topic's place and the signature's version."""
        document = read_json_object(body)
        content, signature, version = (
            _signed_content(document),
            _signature(document),
            _version(document),
        )
        topic, region = _text(document, "TopicArn"), region_of(_text(document, "TopicArn"))
        if topic not in self.options["TOPIC_ARNS"]:
            raise InvalidSignature("the topic is none of ours")
        demand_fresh(
            _seconds(_text(document, "Timestamp")),
            now=now,
            tolerance=tolerance_of(self.options, TOLERANCE_SECONDS),
        )
        certificate = _text(document, "SigningCertURL")
        demand_certificate_url(certificate, region=region)
        if document["Type"] == CONFIRMATION:
            demand_subscribe_url(_text(document, "SubscribeURL"), region=region)
        key = self.certificates.key(certificate, now=now)
        try:
            key.verify(signature, content, PKCS1v15(), HASHES[version]())
        except NoProof:
            raise InvalidSignature("the signature does not match") from None
        return f"{list(self.options['TOPIC_ARNS']).index(topic) + 1}-v{version}"

    def parse(self, body: bytes, headers: Mapping[str, str]) -> list[Envelope]:
        document = read_json_object(body)
        kind, message = read_name(document, "Type"), _message(document)
        payload = document if message is None else document | {"message": message}
        return [
            Envelope(
                event_id=read_name(document, "MessageId"),
                event_type=_type_of(kind, message),
                payload=payload,
                occurred_at=_moment(document.get("Timestamp")),
            )
        ]

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> Iterator[str]:
        yield from super().problems(options)
        topics = options.get("TOPIC_ARNS", ())
        if not isinstance(topics, list | tuple):
            yield "TOPIC_ARNS must be a list"
            return
        for topic in topics:
            try:
                region_of(str(topic))
            except InvalidSignature:
                yield f"{str(topic)[:100]!r} in TOPIC_ARNS is no topic's ARN"
        if problem := tolerance_problem(options):
            yield problem


def region_of(topic: str) -> str:
    """The region in arn:aws:sns:REGION:ACCOUNT:NAME. Raises InvalidSignature."""
    parts = topic.split(":")
    if len(parts) != 6 or parts[0] != "arn" or parts[2] != "sns" or not all(parts):
        raise InvalidSignature("the topic is no topic of Amazon SNS")
    sns_host(parts[3])
    return parts[3]


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value:
        raise MissingSignature(f"{name!r} must be a text")
    return value


def _signed_content(document: Mapping[str, Any]) -> bytes:
    names = SIGNED.get(_text(document, "Type"))
    if names is None:
        raise MissingSignature("'Type' is none that is signed")
    there = [name for name in names if name != "Subject" or document.get("Subject") is not None]
    try:
        return "".join(f"{name}\n{_value(document, name)}\n" for name in there).encode()
    except UnicodeEncodeError:
        raise MalformedBody("the message is no text") from None


def _value(document: Mapping[str, Any], name: str) -> str:
    """Only a message and a subject may be empty."""
    value = document.get(name)
    if isinstance(value, str) and (value or name in ("Message", "Subject")):
        return value
    raise MissingSignature(f"{name!r} must be a text")


def _signature(document: Mapping[str, Any]) -> bytes:
    return read_base64(_text(document, "Signature"))


def _version(document: Mapping[str, Any]) -> str:
    version = _text(document, "SignatureVersion")
    if version not in HASHES:
        raise MissingSignature("'SignatureVersion' must be 1 or 2")
    return version


def _seconds(text: str) -> int:
    moment = _moment(text)
    if moment is None:
        raise MissingSignature("'Timestamp' is no time")
    return int(moment.timestamp())


def _moment(text: object) -> datetime | None:
    """2012-04-26T20:45:04.751Z"""
    if not isinstance(text, str) or not text.isascii():
        return None
    for form in ("%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%SZ"):
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
    return None


def _message(document: Mapping[str, Any]) -> dict[str, Any] | None:
    """The message, when it is a JSON object."""
    text = document.get("Message")
    try:
        found = read_json(text.encode()) if isinstance(text, str) else None
    except (MalformedBody, UnicodeEncodeError):
        return None
    return found if isinstance(found, dict) else None


def _type_of(kind: str, message: Mapping[str, Any] | None) -> str:
    if kind != NOTIFICATION or message is None:
        return kind
    said = next((message[name] for name in SES_TYPES if is_name(message.get(name))), None)
    return kind if said is None else f"ses.{str(said).lower()}"[:255]
