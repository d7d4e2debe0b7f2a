"""Firebase Cloud Messaging, HTTP v1.
https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from notifications.adapters import MessageAdapter
from notifications.adapters.google_tokens import AccessToken
from notifications.adapters.messages import Push
from notifications.adapters.refusals import (
    ACCOUNT,
    RECIPIENTS,
    REQUEST,
    Meaning,
    Table,
    error_of,
    fields_in,
    text_in,
    unreadable,
    word_in,
)
from notifications.adapters.replies import UNREGISTERED, Receipt, accepted_reply
from outbound.adapters import CallContext, Reply, operation
from outbound.client import HttpClient, Request, Response
from outbound.errors import PermanentError, RateLimited
from outbound.ids import made_at

DEFAULT_API_BASE = "https://fcm.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
MINUTE = 60.0  # what FCM asks for where it does not say: /docs/cloud-messaging/scale-fcm
QUOTABLE = 3  # characters: shorter texts are everywhere
TOPIC = re.compile(r"[A-Za-z0-9_-]{1,32}")  # https://www.rfc-editor.org/rfc/rfc8030#section-5.4
# FCM says INVALID_ARGUMENT of everything; of a token its field or its sentence tells.
BAD_TOKEN = "INVALID_TOKEN"  # noqa: S105 - a word of ours
TOKEN_FIELD = "message.token"  # noqa: S105 - where it stands in the request
TOKEN_SENTENCE = "registration token"  # noqa: S105 - "The registration token is not a valid …"

# https://firebase.google.com/docs/reference/fcm/rest/v1/ErrorCode
MEANINGS: Table = {
    "UNREGISTERED": Meaning(PermanentError, UNREGISTERED, http_status=400),  # the app is gone
    "SENDER_ID_MISMATCH": RECIPIENTS,  # the token is another project's
    BAD_TOKEN: RECIPIENTS,
    "INVALID_ARGUMENT": REQUEST,
    "QUOTA_EXCEEDED": Meaning(RateLimited, http_status=429, retry_after=MINUTE),
    "THIRD_PARTY_AUTH_ERROR": ACCOUNT,  # the project's certificate for APNs
    "UNAUTHENTICATED": ACCOUNT,
    "PERMISSION_DENIED": ACCOUNT,
    "NOT_FOUND": ACCOUNT,  # the project
    # UNAVAILABLE and INTERNAL are a 5xx: the outcome is unknown
}


class FcmAdapter(MessageAdapter):
    """One notification to one device. There are no idempotency keys and no look-up.

    Options: CREDENTIALS (a service account's key, as Firebase gives it), API_BASE.
    """

    required_options = {"CREDENTIALS": "FIREBASE_CREDENTIALS"}  # noqa: RUF012  # a ClassVar in Adapter
    visible_fields = frozenset({"name", "code", "status", "error"})
    max_bytes = 4000

    def __init__(self, *, name: str, options: Mapping[str, Any], http: HttpClient) -> None:
        super().__init__(name=name, options=options, http=http)
        self._token = AccessToken(options["CREDENTIALS"], scope=SCOPE, http=http)

    @operation()
    def send_push(self, payload: Push, context: CallContext) -> Reply:
        """https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages/send"""
        token = self._token.get(context)
        base = str(self.options.get("API_BASE") or DEFAULT_API_BASE)
        response = self.http.send(
            Request(
                "POST",
                f"{base}/v1/projects/{self.options['CREDENTIALS']['project_id']}/messages:send",
                {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
                json.dumps({"message": _message(payload, context)}).encode(),
            ),
            context,
        )
        if response.status == 401:
            self._token.forget(token)
        name = text_in(fields_in(response).get("name"))
        error = _error(response, payload)
        if error is not None:
            raise error
        if not name:
            raise unreadable(response, provider="fcm")
        return accepted_reply(
            [Receipt(payload.token, accepted=True, message_id=name)],
            message_id=name,
            provider_status=response.status,
        )


def _message(payload: Push, context: CallContext) -> dict[str, Any]:
    shown = {"title": payload.title, "body": payload.body, "image": payload.image_url}
    return _without_nothing(
        token=payload.token,
        notification=_without_nothing(**shown),
        data=payload.data,
        android=_android(payload),
        apns=_apns(payload, context),
        webpush={"headers": _webpush(payload)},
    )


def _android(payload: Push) -> dict[str, Any]:
    """https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages#androidconfig"""
    return _without_nothing(
        priority="HIGH" if payload.urgent else "NORMAL",
        collapse_key=payload.collapse_key,
        ttl="" if payload.ttl_seconds is None else f"{payload.ttl_seconds}s",
    )


def _apns(payload: Push, context: CallContext) -> dict[str, Any]:
    """What nobody sees goes in the background, where only priority 5 is allowed. The time after
    which it is not wanted is a time of day: it counts from when the call was made, so that each
    attempt says the same.
    https://developer.apple.com/documentation/usernotifications/sending-notification-requests-to-apns
    """
    seen = bool(payload.title or payload.body)
    expiration = ""
    if payload.ttl_seconds is not None:
        made = made_at(context.call_id)
        expiration = str(made + payload.ttl_seconds if payload.ttl_seconds else 0)
    headers = {
        "apns-priority": "10" if payload.urgent and seen else "5",
        "apns-collapse-id": payload.collapse_key,
        "apns-expiration": expiration,
    }
    aps = {} if seen else {"content-available": 1}
    if payload.image_url:
        aps["mutable-content"] = 1
    return _without_nothing(
        headers=_without_nothing(**headers), payload={"aps": aps} if aps else None
    )


def _webpush(payload: Push) -> dict[str, str]:
    """https://www.rfc-editor.org/rfc/rfc8030#section-5"""
    topic = payload.collapse_key if TOPIC.fullmatch(payload.collapse_key) else ""
    ttl = "" if payload.ttl_seconds is None else str(payload.ttl_seconds)
    urgency = "high" if payload.urgent else "normal"
    return _without_nothing(Urgency=urgency, TTL=ttl, Topic=topic)


def _without_nothing(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value}


def _error(response: Response, payload: Push) -> Exception | None:
    said = fields_in(response).get("error")
    error: Mapping[str, object] = said if isinstance(said, Mapping) else {}
    listed = error.get("details")
    details = [d for d in listed if isinstance(d, Mapping)] if isinstance(listed, list) else []
    private = (payload.token, payload.title, payload.body, *payload.data.values())
    return error_of(
        response,
        provider="fcm",
        table=MEANINGS,
        word=_word(error, details),
        text=text_in(error.get("message")),
        private=frozenset(text for text in private if len(text) >= QUOTABLE),
    )


def _word(error: Mapping[str, object], details: list[Mapping[str, object]]) -> str:
    """FCM's own code where there is one, else Google's general one."""
    own = next(filter(None, (word_in(detail.get("errorCode")) for detail in details)), "")
    word = own or word_in(error.get("status"))
    sentence = text_in(error.get("message")).lower()
    minds_token = TOKEN_SENTENCE in sentence or any(_minds_token(detail) for detail in details)
    return BAD_TOKEN if word == "INVALID_ARGUMENT" and minds_token else word


def _minds_token(detail: Mapping[str, object]) -> bool:
    listed = detail.get("fieldViolations")
    return isinstance(listed, list) and any(
        isinstance(each, Mapping) and each.get("field") == TOKEN_FIELD for each in listed
    )
