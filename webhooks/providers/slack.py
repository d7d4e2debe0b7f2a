"""Slack's Events API. https://docs.slack.dev/apis/events-api/"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, ClassVar

from webhooks.envelopes import Envelope, is_name, read_json_object, read_name, read_unix_time
from webhooks.errors import MalformedBody, MissingSignature
from webhooks.signatures import (
    as_bytes,
    demand_fresh,
    matching,
    read_header,
    read_time,
    signed,
    tolerance_of,
    tolerance_problem,
)
from webhooks.sources import Source

SIGNATURE = "X-Slack-Signature"
TIME = "X-Slack-Request-Timestamp"
PREFIX = "v0="
CHALLENGE = "url_verification"


class SlackSource(Source):
    """Slack: HMAC-SHA256 over version, time and body. Answers the challenge by which Slack tries an
    address. Options: SECRETS (signing secrets), TOLERANCE (seconds).
    https://docs.slack.dev/authentication/verifying-requests-from-slack"""

    option_names: ClassVar[frozenset[str]] = frozenset({"SECRETS", "TOLERANCE"})
    secret_variable: ClassVar[str] = "SLACK_SIGNING_SECRETS"  # noqa: S105 - a variable's name

    def verify(
        self, body: bytes, headers: Mapping[str, str], *, now: datetime, url: str = ""
    ) -> str:
        signature, digits = read_header(headers, SIGNATURE), read_header(headers, TIME)
        if not signature.startswith(PREFIX):
            raise MissingSignature(f"the {SIGNATURE} header must start with {PREFIX}")
        signed_at = read_time(digits)
        content = b"v0:" + digits.encode() + b":" + body
        given = as_bytes(signature.removeprefix(PREFIX))
        secret = matching(
            self.secrets, lambda each: signed(each.encode(), content, "sha256", [given])
        )
        demand_fresh(signed_at, now=now, tolerance=tolerance_of(self.options))
        return self.label_of(secret)

    def reply(self, body: bytes) -> str | None:
        """https://docs.slack.dev/reference/events/url_verification"""
        document = read_json_object(body)
        return read_name(document, "challenge") if document.get("type") == CHALLENGE else None

    def parse(self, body: bytes, headers: Mapping[str, str]) -> list[Envelope]:
        document = read_json_object(body)
        event, team = document.get("event"), document.get("team_id")
        if document.get("type") != "event_callback":
            kind, event_id = read_name(document, "type"), document.get("event_id")
            if not is_name(event_id):
                raise MalformedBody("the body is no event: it has no event_id")
        elif isinstance(event, dict):
            kind = read_name(event, "type")
        else:
            raise MalformedBody("'event' is not an object")
        return [
            Envelope(
                event_id=read_name(document, "event_id"),
                event_type=kind,
                payload=document,
                occurred_at=read_unix_time(document.get("event_time")),
                account=str(team) if is_name(team) else "",
            )
        ]

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> Iterator[str]:
        yield from super().problems(options)
        if problem := tolerance_problem(options):
            yield problem
