"""What the receiving end does by itself: it confirms that it wants to hear from a topic."""

from __future__ import annotations

from django.conf import settings

from outbound.services import enqueue_call
from webhooks.handlers import Event, handles
from webhooks.providers.sns import CONFIRMATION, region_of

SNS = "webhooks.providers.sns.SnsSource"
ADAPTER = "sns"


def confirm_subscription(event: Event) -> None:
    """Only a topic of ours comes here: see SnsSource.verify."""
    enqueue_call(
        adapter=ADAPTER,
        operation="confirm_subscription",
        payload={
            "region": region_of(event.payload["TopicArn"]),
            "subscribe_url": event.payload["SubscribeURL"],
        },
        idempotency_key=f"sns-{event.event_id}"[:255],
        reference=event.payload["TopicArn"][:255],
    )


for _name, _entry in settings.WEBHOOK_SOURCES.items():
    if _entry["SOURCE"] == SNS:
        handles(_name, CONFIRMATION)(confirm_subscription)
