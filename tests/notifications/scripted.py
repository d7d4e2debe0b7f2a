"""Adapters for messages that do what a test's script says, without a network."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel

from notifications.adapters import MessageAdapter
from notifications.adapters.messages import BulkEmail, Email, Push, Sms
from notifications.adapters.replies import Receipt, accepted_reply
from outbound.adapters import CallContext, Reply, operation
from tests.outbound.scripted import Script, Seen


class ScriptedMail(MessageAdapter):
    """Takes everything, in batches of three, unless its script says something else."""

    required_options = {"SCRIPT": "SCRIPTED_SCRIPT"}  # noqa: RUF012  # declared ClassVar by Adapter
    batch_limit: ClassVar[int] = 3
    batch_attachments: ClassVar[bool] = False
    max_bytes: ClassVar[int] = 2_000_000

    @operation()
    def send_email(self, payload: Email, context: CallContext) -> Reply:
        people = [*payload.to, *payload.cc, *payload.bcc]
        return self._perform("send_email", payload, context, [each.address for each in people])

    @operation()
    def send_bulk_email(self, payload: BulkEmail, context: CallContext) -> Reply:
        addresses = [each.address for each in payload.recipients]
        return self._perform("send_bulk_email", payload, context, addresses)

    @operation()
    def send_sms(self, payload: Sms, context: CallContext) -> Reply:
        return self._perform("send_sms", payload, context, [payload.to])

    @operation()
    def send_push(self, payload: Push, context: CallContext) -> Reply:
        return self._perform("send_push", payload, context, [payload.token])

    def _perform(
        self, name: str, payload: BaseModel, context: CallContext, addresses: list[str]
    ) -> Reply:
        script: Script = self.options["SCRIPT"]
        planned = bool(script.answers)
        reply = script.perform(Seen(name, payload.model_dump(exclude_none=True), context))
        if planned:
            return reply
        message_id = f"{self.name}-{len(script.seen)}"
        receipts = [
            Receipt(address, True, f"{message_id}-{n}") for n, address in enumerate(addresses)
        ]
        return accepted_reply(receipts, message_id=message_id)


class SmallMail(ScriptedMail):
    """Has no batches, and little room."""

    operations: ClassVar[dict[str, Any]] = {
        name: each for name, each in ScriptedMail.operations.items() if name == "send_email"
    }
    max_bytes: ClassVar[int] = 2_000


def entry(script: Script, cls: type[ScriptedMail] = ScriptedMail, **more: Any) -> dict[str, Any]:
    """A settings entry of an adapter that follows a script."""
    return {
        "ADAPTER": f"{cls.__module__}.{cls.__qualname__}",
        "QUEUE": "notifications-v1",
        "OPTIONS": {"SCRIPT": script},
        "POLICY": {"jitter": 0, "schedule": [60, 60]},
        **more,
    }
