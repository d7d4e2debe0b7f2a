"""Amazon SES' events, as Amazon SNS carries them.
https://docs.aws.amazon.com/ses/latest/dg/event-publishing-retrieving-sns-contents.html"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, ClassVar
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from sandbox.messages.tracking.keys import as_pem, read_pem
from sandbox.messages.tracking.telling import (
    BOUNCE,
    CLIENT,
    DEFERRAL,
    DELIVERY,
    LINK,
    SOFT_BOUNCE,
    Telling,
    Tiding,
    as_iso,
)
from sandbox.records import Message
from sandbox.webhooks.posting import Target
from sandbox.webhooks.sealing import Parcel

TOPIC = "arn:aws:sns:eu-west-1:123456789012:holdfast-sandbox"
CERTIFICATE_URL = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-sandbox.pem"
SIGNED = ("Message", "MessageId", "Timestamp", "TopicArn", "Type")

Json = dict[str, Any]


class SesTelling(Telling):
    """Notifications, signed with RSA (version 2).

    What proves it is a certificate, and its address is one at amazonaws.com, where it is not: who
    verifies has to be given it.
    """

    path: ClassVar[str] = "/webhooks/sns"

    def new_secret(self) -> str:
        return as_pem(generate_private_key(public_exponent=65537, key_size=2048))

    def proof(self, secret: str) -> str:
        return _certificate(secret)

    def tell(self, step: str, messages: Sequence[Message], *, now: float) -> Iterator[Tiding]:
        for message in messages if step in EVENTS else ():
            event = _event(*EVENTS[step], message, as_iso(now))
            notification = {
                "Type": "Notification",
                "MessageId": str(uuid4()),
                "TopicArn": TOPIC,
                "Message": json.dumps(event),
            }
            kind = f"ses.{event['eventType'].lower()}"
            yield Tiding(notification["MessageId"], kind, json.dumps(notification).encode())

    def seal(
        self, parcel: Parcel, secrets: tuple[str, ...], target: Target
    ) -> tuple[dict[str, str], bytes]:
        document: Json = json.loads(parcel.event.body)
        document["Timestamp"] = as_iso(time.time() - parcel.policy.age)
        document["SignatureVersion"] = "2"
        document["SigningCertURL"] = CERTIFICATE_URL
        content = "".join(f"{name}\n{document[name]}\n" for name in SIGNED)
        if parcel.policy.signature == "wrong":
            content += "something else"
        document["Signature"] = _signature(secrets[-1], content.encode())
        if parcel.policy.signature == "missing":
            del document["Signature"]
        elif parcel.policy.signature == "malformed":
            document["Signature"] = "no base64!"
        headers = {
            "Content-Type": "text/plain; charset=UTF-8",
            "User-Agent": "Amazon Simple Notification Service Agent",
            "x-amz-sns-message-type": "Notification",
            "x-amz-sns-message-id": document["MessageId"],
            "x-amz-sns-topic-arn": TOPIC,
        }
        return headers, json.dumps(document).encode()


def _bounce(kind: str, subtype: str, diagnosis: str) -> Callable[[Message, str], Json]:
    def details(message: Message, at: str) -> Json:
        recipient = {
            "emailAddress": message.recipient,
            "action": "failed",
            "status": diagnosis.split()[1],
            "diagnosticCode": f"smtp; {diagnosis}",
        }
        return {
            "bounceType": kind,
            "bounceSubType": subtype,
            "bouncedRecipients": [recipient],
            "timestamp": at,
            "feedbackId": f"0100{uuid4()}-000000",
            "reportingMTA": "dsn; sandbox.amazonses.com",
        }

    return details


def _delivery(message: Message, at: str) -> Json:
    return {
        "timestamp": at,
        "processingTimeMillis": 642,
        "recipients": [message.recipient],
        "smtpResponse": DELIVERY,
        "reportingMTA": "sandbox.amazonses.com",
    }


def _delay(message: Message, at: str) -> Json:
    recipient = {"emailAddress": message.recipient, "status": "4.7.1", "diagnosticCode": DEFERRAL}
    return {"timestamp": at, "delayType": "TransientCommunicationFailure",
            "expirationTime": at, "delayedRecipients": [recipient]}  # fmt: skip


def _complaint(message: Message, at: str) -> Json:
    return {"complainedRecipients": [{"emailAddress": message.recipient}], "timestamp": at,
            "feedbackId": f"0100{uuid4()}-000000", "complaintFeedbackType": "abuse"}  # fmt: skip


def _visit(message: Message, at: str) -> Json:
    return {"ipAddress": CLIENT["ip"], "timestamp": at, "userAgent": CLIENT["agent"]}


def _click(message: Message, at: str) -> Json:
    return {**_visit(message, at), "link": LINK, "linkTags": None}


def _subscription(message: Message, at: str) -> Json:
    return {"contactList": "sandbox", "timestamp": at, "source": "UnsubscribeHeader",
            "newTopicPreferences": {"unsubscribeAll": True}}  # fmt: skip


def _unrendered(message: Message, at: str) -> Json:
    return {"templateName": "inline", "errorMessage": "Attribute is not present in the data"}


EVENTS: dict[str, tuple[str, str, Callable[[Message, str], Json]]] = {
    "sent": ("Send", "send", lambda _message, _at: {}),
    "deferred": ("DeliveryDelay", "deliveryDelay", _delay),
    "delivered": ("Delivery", "delivery", _delivery),
    "bounced": ("Bounce", "bounce", _bounce("Permanent", "General", BOUNCE)),
    "soft_bounced": ("Bounce", "bounce", _bounce("Transient", "MailboxFull", SOFT_BOUNCE)),
    "dropped": ("Bounce", "bounce", _bounce("Permanent", "OnAccountSuppressionList", BOUNCE)),
    "complained": ("Complaint", "complaint", _complaint),
    "opened": ("Open", "open", _visit),
    "clicked": ("Click", "click", _click),
    "unsubscribed": ("Subscription", "subscription", _subscription),
    "rendering_failed": ("Rendering Failure", "failure", _unrendered),
    "failed": ("Reject", "reject", lambda _message, _at: {"reason": "Bad content"}),
}


def _event(
    kind: str, member: str, details: Callable[[Message, str], Json], message: Message, at: str
) -> Json:
    return {
        "eventType": kind,
        "mail": {
            "timestamp": as_iso(message.at),
            "source": message.sender,
            "sourceArn": "arn:aws:ses:eu-west-1:123456789012:identity/example.com",
            "sendingAccountId": "123456789012",
            "messageId": message.object,
            "destination": [message.recipient],
            "headersTruncated": False,
            "headers": [{"name": name, "value": value} for name, value in message.headers.items()],
            "commonHeaders": {
                "from": [message.sender],
                "to": message.to,
                "messageId": message.object,
                "subject": message.subject,
            },
            "tags": {
                "ses:configuration-set": [message.account],
                **{name: [value] for name, value in message.metadata.items()},
            },
        },
        member: details(message, at),
    }


def _private(secret: str) -> RSAPrivateKey:
    key = read_pem(secret)
    if not isinstance(key, RSAPrivateKey):
        raise TypeError("SNS signs with an RSA key")
    return key


def _signature(secret: str, content: bytes) -> str:
    return base64.b64encode(_private(secret).sign(content, PKCS1v15(), SHA256())).decode()


@cache
def _certificate(secret: str) -> str:
    """For the key, by itself."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    key, now = _private(secret), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .sign(key, SHA256())
    )
    return certificate.public_bytes(Encoding.PEM).decode()
