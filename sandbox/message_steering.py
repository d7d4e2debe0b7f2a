"""Steers the providers of messages from Python."""

from __future__ import annotations

from typing import Any

from sandbox.asking import Asking, Json
from sandbox.records import Message


class MessageSteering(Asking):
    """What a sandbox can be asked about messages."""

    def change_tracking(self, provider: str, **given: Any) -> None:
        """As `change_webhooks`, of a provider of messages."""
        self.ask("PATCH", "/webhooks", {"provider": provider, **given})

    def release_tracking(self, provider: str, **given: Any) -> int:
        """As `release_webhooks`, of a provider of messages."""
        found = self.ask("POST", "/webhooks/release", {"provider": provider, **given})
        return int(found["released"])

    def tracking(self) -> dict[str, Json]:
        """Of each provider of messages: its webhook's `url`, and its `proofs`, which are what a
        receiver verifies with."""
        return self.ask("GET", "/tracking")

    def change_provider(self, provider: str, **given: Any) -> Json:
        """How a provider of messages is, and whom it does not like; see docs/sandbox.md. What is
        not given stays."""
        return self.ask("PATCH", "/providers", {"provider": provider, **given})

    def messages(self, **equal: str) -> list[Message]:
        """What arrived, oldest first; by provider, to, object, kind or status."""
        return list(self.records("/messages", Message, equal))

    def track(self, step: str, **which: str) -> int:
        """Let this happen now to the messages by object, to or provider. How many."""
        return int(self.ask("POST", "/messages/track", {"step": step, **which})["told"])
