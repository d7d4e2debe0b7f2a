"""Firebase Cloud Messaging, HTTP v1.
https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages/send"""

from __future__ import annotations

import re
from typing import Any, ClassVar

from sandbox.fields import BadInput, Fields
from sandbox.ids import random_text
from sandbox.messages.provider import (
    Ask,
    MessageProvider,
    Taken,
    answer,
    bearer,
    demand,
    read_json,
)
from sandbox.messages.refused import Refused
from sandbox.records import Message
from sandbox.wire import Answer

PATH = re.compile(r"/v1/projects/([a-z][a-z0-9-]{3,29})/messages:send")
TOKEN = re.compile(r"[A-Za-z0-9_:.-]{3,4096}")
BYTES = 4096
RESERVED = re.compile(r"from|message_type|google.*|gcm.*")
# https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode, and google.rpc's names
STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
CODES = {
    400: "INVALID_ARGUMENT",
    401: "",
    429: "QUOTA_EXCEEDED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
FOR_PLATFORMS = ("android", "webpush", "apns", "fcm_options")  # taken, and not looked at


class Fcm(MessageProvider):
    """Tokens that are `gone`, or begin with `gone-`, are not registered any more; those that are
    `refused` are malformed; those that begin with `mismatch-` belong to another sender."""

    name: ClassVar[str] = "fcm"
    kind: ClassVar[str] = "push"

    def take(self, ask: Ask) -> Taken:
        token = bearer(ask.request)
        refused = Refused(
            401,
            "Request had invalid authentication credentials. Expected OAuth 2 access token, login "
            "cookie or other valid authentication credential.",
        )
        if not token:
            raise refused
        demand(self.conditions, token, refused)
        path = PATH.fullmatch(ask.path)
        if path is None or ask.request.method != "POST":
            raise Refused(404, "Requested entity was not found.")
        fields = Fields(read_json(ask.request))
        if self.conditions.out_of_quota:
            raise Refused(429, "Quota exceeded for quota metric 'Send requests'.")
        only_validate = fields.flag("validate_only", False)
        message = self._read(fields.fields("message"), path[1])
        fields.end()
        return Taken(answer(200, {"name": message.object}), [] if only_validate else [message])

    def refusal(self, refused: Refused, *, request_id: str) -> Answer:
        code = refused.first.code or CODES.get(refused.status, "")
        error: dict[str, Any] = {
            "code": refused.status,
            "message": str(refused),
            "status": STATUSES.get(refused.status, "UNKNOWN"),
        }
        if code:
            kind = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
            error["details"] = [{"@type": kind, "errorCode": code}]
        return answer(refused.status, {"error": error}).with_headers(refused.headers)

    def misshapen(self, error: BadInput) -> Refused:
        return Refused(400, f"Invalid JSON payload received. {error}")

    def _read(self, fields: Fields, project: str) -> Message:
        token = fields.text("token", "")
        if not token:
            raise Refused(400, "Recipient of the message is not set.")
        notification = fields.fields("notification")
        title, body = notification.text("title", ""), notification.text("body", "")
        notification.text("image", "")
        notification.end()
        try:
            data = fields.string_map("data")
        except BadInput as error:
            raise Refused(400, "Invalid value at 'message.data' (TYPE_STRING)") from error
        for name in FOR_PLATFORMS:
            fields.any(name)
        fields.end()
        if any(RESERVED.fullmatch(name) for name in data):
            raise Refused(400, "Invalid data payload key")
        if sum(len(text.encode()) for text in (title, body, *data, *data.values())) > BYTES:
            raise Refused(400, "Android message is too big")
        self._check_token(token)
        return Message(
            provider=self.name,
            kind=self.kind,
            object=f"projects/{project}/messages/0:{random_text(30)}",
            recipient=token,
            to=[token],
            subject=title,
            text=body,
            metadata=data,
            account=project,
        )

    def _check_token(self, token: str) -> None:
        if self.conditions.has_lost(token):
            raise Refused(404, "Requested entity was not found.", code="UNREGISTERED")
        if token.startswith("mismatch-"):
            raise Refused(403, "SenderId mismatch", code="SENDER_ID_MISMATCH")
        if not TOKEN.fullmatch(token) or self.conditions.refuses(token):
            raise Refused(400, "The registration token is not a valid FCM registration token")
