"""The scene of other senders: GitHub, Slack, and somebody who forges."""

from __future__ import annotations

import hmac
import os
import time
from collections import Counter

import requests

from devtools.demo.words import say, words


def send_to_other_sources(host: str) -> dict[str, list[int]]:
    """What GitHub and Slack are answered: to a delivery, to the same one again, to a forged one."""
    found = {}
    for source, variable, sign in (
        ("github", "GITHUB_WEBHOOK_SECRETS", sign_as_github),
        ("slack", "SLACK_SIGNING_SECRETS", sign_as_slack),
    ):
        right, forged = sign(os.environ[variable]), sign("of somebody else")
        found[source] = [
            requests.post(
                f"{host}/webhooks/{source}", data=body, headers=headers, timeout=10
            ).status_code
            for body, headers in (right, right, forged)
        ]
    say("\nGitHub and Slack sent an event each, twice, and somebody a forged one.")
    return found


def compare_sources(answered: dict[str, list[int]]) -> tuple[list[tuple[str, str]], list[str]]:
    """Their line of the table, and what does not hold."""
    from webhooks.services import WebhookEvent

    stored = Counter(
        WebhookEvent.objects.filter(source__in=answered).values_list("source", flat=True)
    )
    row = ("other sources", f"{len(stored)}, {words(stored)} stored; the forged refused")
    right = {source: [200, 200, 401] for source in answered}
    if stored == dict.fromkeys(answered, 1) and answered == right:
        return [row], []
    return [row], [f"the other sources stored {words(stored)} and answered {answered}"]


def events_ended() -> bool:
    """Whether every event of every source has been handled."""
    from webhooks.services import WebhookEvent
    from webhooks.states import FINISHED

    return not WebhookEvent.objects.exclude(status__in=FINISHED).exists()


def sign_as_github(secret: str) -> tuple[bytes, dict[str, str]]:
    """https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries"""
    body = b'{"zen": "Keep it logically awesome."}'
    digest = hmac.new(secret.encode(), body, "sha256").hexdigest()
    return body, {
        "X-GitHub-Event": "ping",
        "X-GitHub-Delivery": "demo-1",
        "X-Hub-Signature-256": f"sha256={digest}",
    }


def sign_as_slack(secret: str) -> tuple[bytes, dict[str, str]]:
    """https://docs.slack.dev/authentication/verifying-requests-from-slack"""
    body = b'{"type": "event_callback", "event_id": "Ev1", "event": {"type": "app_mention"}}'
    now = str(int(time.time()))
    digest = hmac.new(secret.encode(), b"v0:" + now.encode() + b":" + body, "sha256").hexdigest()
    return body, {"X-Slack-Request-Timestamp": now, "X-Slack-Signature": f"v0={digest}"}
