"""Stripe's events. https://docs.stripe.com/webhooks"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar

from webhooks.envelopes import Envelope, is_name, read_json_object, read_name, read_unix_time
from webhooks.errors import MalformedBody, MissingSignature, WrongMode
from webhooks.signatures import (
    TOLERANCE_SECONDS,
    as_bytes,
    demand_fresh,
    matching,
    read_time,
    signed,
    tolerance_of,
    tolerance_problem,
)
from webhooks.sources import Source

HEADER = "Stripe-Signature"
SCHEME = "v1"  # v0 is made for test events with a key of no worth


class StripeSource(Source):
    """Stripe: HMAC-SHA256 over time and body. Options: SECRETS (`whsec_…`, each used whole),
    LIVEMODE (True, False, or None where it is not known), TOLERANCE (seconds)."""

    lists_by: ClassVar[tuple[str, str] | None] = ("stripe", "list_events")
    option_names: ClassVar[frozenset[str]] = frozenset({"SECRETS", "LIVEMODE", "TOLERANCE"})
    secret_variable: ClassVar[str] = "STRIPE_WEBHOOK_SECRETS"  # noqa: S105 - a variable's name

    def verify(
        self, body: bytes, headers: Mapping[str, str], *, now: datetime, url: str = ""
    ) -> str:
        secret = matching_secret(
            body,
            headers.get(HEADER),
            secrets=self.secrets,
            now=now,
            tolerance=tolerance_of(self.options),
        )
        return self.label_of(secret)

    def parse(self, body: bytes, headers: Mapping[str, str]) -> list[Envelope]:
        document = read_json_object(body)
        account, livemode = document.get("account"), document.get("livemode")
        return [
            Envelope(
                event_id=read_name(document, "id"),
                event_type=read_name(document, "type"),
                payload=document,
                livemode=livemode if isinstance(livemode, bool) else None,
                occurred_at=read_unix_time(document.get("created")),
                account=str(account) if is_name(account) else "",
            )
        ]

    def list_request(self, *, since: datetime, after: str) -> dict[str, Any]:
        """https://docs.stripe.com/api/events/list"""
        asked: dict[str, Any] = {"created_from": max(int(since.timestamp()), 0)}
        return asked | ({"starting_after": after} if after else {})

    def read_list(self, page: Mapping[str, Any]) -> tuple[list[Envelope], str]:
        documents = page.get("data")
        if not isinstance(documents, list):
            raise MalformedBody("the page has no list of events")
        envelopes = []
        for document in documents:
            body = json.dumps(document).encode()
            envelopes += [replace(each, body=body) for each in self.parse(body, {})]
        more = page.get("has_more") is True and envelopes
        return envelopes, envelopes[-1].event_id if more else ""

    def admit(self, envelope: Envelope) -> None:
        expected, said = self.options.get("LIVEMODE"), envelope.payload.get("livemode")
        if expected is not None and said is not None and said is not expected:
            raise WrongMode(f"this address takes {'live' if expected else 'test'} events only")

    def ordering_key(self, envelope: Envelope) -> str:
        """The id of the object that the event is about."""
        data = envelope.payload.get("data")
        about = data.get("object") if isinstance(data, dict) else None
        name = about.get("id") if isinstance(about, dict) else None
        return str(name) if is_name(name) else ""

    @classmethod
    def problems(cls, options: Mapping[str, Any]) -> Iterator[str]:
        yield from super().problems(options)
        if not isinstance(options.get("LIVEMODE"), bool | None):
            yield "LIVEMODE must be True, False or None"
        if problem := tolerance_problem(options):
            yield problem


def matching_secret(
    body: bytes,
    header: str | None,
    *,
    secrets: Collection[str],
    now: datetime,
    tolerance: float = TOLERANCE_SECONDS,
) -> str:
    """The secret with which `body` was signed, at a time within `tolerance` seconds of `now`.

    Raises MissingSignature when the header is not one of Stripe's, InvalidSignature when it is
    and proves nothing. https://docs.stripe.com/webhooks#verify-manually
    """
    signed_at, signatures = read_header(header)
    content = signed_at.encode() + b"." + body
    secret = matching(secrets, lambda each: signed(each.encode(), content, "sha256", signatures))
    demand_fresh(read_time(signed_at), now=now, tolerance=tolerance)
    return secret


def read_header(header: str | None) -> tuple[str, list[bytes]]:
    """The digits of `t` and all `v1`, as bytes: headers may hold anything, and compare_digest
    refuses text beyond ASCII. Raises MissingSignature."""
    if not header:
        raise MissingSignature(f"the {HEADER} header is missing")
    pairs = [item.partition("=")[::2] for item in header.split(",") if "=" in item]
    times = [value for name, value in pairs if name == "t"]
    signatures = [as_bytes(value) for name, value in pairs if name == SCHEME]
    if len(times) != 1 or not signatures:
        raise MissingSignature(f"the {HEADER} header must have one t and at least one {SCHEME}")
    read_time(times[0])
    return times[0], signatures
