"""One plain message for each provider, as its documentation shows it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from tests.sandbox.api import Answer, Api
from tests.sandbox.messages.wire import post_json

CALL, KEY = "call-1", "key-1"
MARKS = {"holdfast_call": CALL, "holdfast_key": KEY}
SENDER = "Shop <shop@example.com>"
ACCOUNT, TOKEN = "AC" + "0" * 32, "twilio-token"
FORM = "application/x-www-form-urlencoded"


def basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def signed_head(*, key: str = "AKIDEXAMPLE", service: str = "ses", at: str = "") -> dict[str, str]:
    """As an AWS signature looks; it proves nothing."""
    stamp = at or datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/eu-west-1/{service}/aws4_request"
    return {
        "X-Amz-Date": stamp,
        "Authorization": f"AWS4-HMAC-SHA256 Credential={key}/{scope}, "
        f"SignedHeaders=host;x-amz-date, Signature={'0' * 64}",
    }


def sendgrid(api: Api, to: Sequence[str], **changes: Any) -> Answer:
    document = {
        "personalizations": [{"to": [{"email": each} for each in to]}],
        "from": {"email": "shop@example.com", "name": "Shop"},
        "subject": "Receipt",
        "content": [{"type": "text/plain", "value": "Thanks"}],
        "custom_args": MARKS,
        **changes,
    }
    return post_json(api, "/sendgrid/v3/mail/send", document, Authorization="Bearer SG.test.key")


def mailgun(api: Api, to: Sequence[str], **changes: Any) -> Answer:
    marks = {f"v:{name}": value for name, value in MARKS.items()}
    fields = {"from": SENDER, "to": list(to), "subject": "Receipt", "text": "Thanks", **marks}
    headers = {"Authorization": basic("api", "key-test"), "Content-Type": FORM}
    body = urlencode({k: v for k, v in {**fields, **changes}.items() if v is not None}, doseq=True)
    return api.send("POST", "/mailgun/v3/mg.example.com/messages", body, headers)


def ses(api: Api, to: Sequence[str], **changes: Any) -> Answer:
    document = {
        "FromEmailAddress": SENDER,
        "Destination": {"ToAddresses": list(to)},
        "Content": {"Simple": {"Subject": {"Data": "Receipt"},
                               "Body": {"Text": {"Data": "Thanks"}}}},
        "EmailTags": [{"Name": name, "Value": value} for name, value in MARKS.items()],
        **changes,
    }  # fmt: skip
    return post_json(api, "/ses/v2/email/outbound-emails", document, **signed_head())


def postmark(api: Api, to: Sequence[str], **changes: Any) -> Answer:
    document = {
        "From": SENDER,
        "To": ", ".join(to),
        "Subject": "Receipt",
        "TextBody": "Thanks",
        "Metadata": MARKS,
        **changes,
    }
    return post_json(api, "/postmark/email", document, X_Postmark_Server_Token="server-token")


def resend(api: Api, to: Sequence[str], *, key: str | None = None, **changes: Any) -> Answer:
    document = {
        "from": SENDER,
        "to": list(to),
        "subject": "Receipt",
        "text": "Thanks",
        "tags": [{"name": name, "value": value} for name, value in MARKS.items()],
        **changes,
    }
    headers = {"Authorization": "Bearer re_test"}
    headers |= {} if key is None else {"Idempotency_Key": key}
    return post_json(api, "/resend/emails", document, **headers)


def twilio(api: Api, to: Sequence[str], *, token: str = TOKEN, **changes: str) -> Answer:
    form = {"To": to[0], "From": "+15005550006", "Body": "Thanks", **changes}
    headers = {"Authorization": basic(ACCOUNT, token), "Content-Type": FORM}
    path = f"/twilio/2010-04-01/Accounts/{ACCOUNT}/Messages.json"
    return api.send("POST", path, urlencode(form), headers)


def fcm(api: Api, to: Sequence[str], **changes: Any) -> Answer:
    message = {"token": to[0], "notification": {"title": "Hi", "body": "Thanks"}, **changes}
    path = "/fcm/v1/projects/holdfast-test/messages:send"
    return post_json(api, path, {"message": message}, Authorization="Bearer ya29.x")


SENDERS: Mapping[str, Any] = {
    "sendgrid": sendgrid,
    "mailgun": mailgun,
    "ses": ses,
    "postmark": postmark,
    "resend": resend,
    "twilio": twilio,
    "fcm": fcm,
}
EMAIL = ("sendgrid", "mailgun", "ses", "postmark", "resend")
RECIPIENTS = {
    **dict.fromkeys(EMAIL, "ada@example.com"),
    "twilio": "+15005551234",
    "fcm": "device:1",
}
