"""What a client may do."""

from __future__ import annotations

from django.db.models import TextChoices


class Scope(TextChoices):
    """One right. A client always reads its own calls, whatever its scopes."""

    PAYMENTS_WRITE = "payments:write", "Make payments, customers and refunds"
    PAYMENTS_READ = "payments:read", "Read payments at the provider"
    NOTIFICATIONS_WRITE = "notifications:write", "Send messages"
    CALLS_READ = "calls:read", "Read other clients' calls"
    CALLS_WRITE = "calls:write", "Retry and cancel calls"
    CALLS_PAYLOAD = "calls:payload", "See what other clients' calls resulted in"
    EVENTS_READ = "events:read", "Read webhook events"
    EVENTS_WRITE = "events:write", "Replay webhook events"
