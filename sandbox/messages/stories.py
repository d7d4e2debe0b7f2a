"""What follows when a message was accepted, step by step, in words that are nobody's."""

from __future__ import annotations

Story = tuple[str, ...]

STEPS = (
    "processed", "sent", "deferred", "delivered", "bounced", "soft_bounced", "dropped", "failed",
    "complained", "opened", "clicked", "unsubscribed", "rendering_failed",
)  # fmt: skip
_GOOD: Story = ("processed", "sent", "delivered")
# By the tag of the address: `bounce+ada@example.com`. Who has no word for a step leaves it out.
STORIES: dict[str, Story] = {
    "": _GOOD,
    "bounce": ("processed", "sent", "bounced"),
    "soft": ("processed", "sent", "deferred", "soft_bounced"),
    "defer": ("processed", "sent", "deferred", "delivered"),
    "complain": (*_GOOD, "complained"),
    "open": (*_GOOD, "opened"),
    "click": (*_GOOD, "opened", "clicked"),
    "unsubscribe": (*_GOOD, "opened", "unsubscribed"),
    "fail": ("processed", "failed"),
    "gone": ("dropped",),
    "silent": (),
}
# What is accepted, and will not be sent.
UNSENT: dict[str, Story] = {"dropped": ("dropped",), "unrendered": ("rendering_failed",)}
