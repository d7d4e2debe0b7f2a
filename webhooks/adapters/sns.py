"""The one call that Amazon SNS wants of a receiver."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, ClassVar

from pydantic import Field

from outbound.adapters import Adapter, Payload, Reply, operation
from outbound.client import CallContext, Request, classify
from outbound.errors import PermanentError
from webhooks.certificates import demand_subscribe_url
from webhooks.errors import InvalidSignature

KEY_LIFETIME = timedelta(days=2)  # a token lives for three


class Confirmation(Payload):
    region: Annotated[str, Field(min_length=1, max_length=40)]
    subscribe_url: Annotated[str, Field(min_length=1, max_length=2000)]


class SnsAdapter(Adapter):
    """Amazon SNS, as far as it is asked for: confirming may be repeated.
    https://docs.aws.amazon.com/sns/latest/api/API_ConfirmSubscription.html"""

    visible_fields: ClassVar[frozenset[str]] = frozenset({"region", "confirmed"})

    @operation(key_lifetime=KEY_LIFETIME)
    def confirm_subscription(self, payload: Confirmation, context: CallContext) -> Reply:
        """Visit the address that SNS gave, if it is one of SNS."""
        try:
            demand_subscribe_url(payload.subscribe_url, region=payload.region)
        except InvalidSignature as refusal:
            raise PermanentError(str(refusal)) from refusal
        response = self.http.send(Request("GET", payload.subscribe_url), context)
        message = "SNS refused the confirmation"
        error = classify(response, keyed=True, reads=False, message=message)
        if error is not None:
            raise error
        return Reply({"confirmed": True}, provider_status=response.status)
