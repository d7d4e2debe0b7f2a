"""What a scrape and the doctor see of messages."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.conf import LazySettings

from notifications.services import send_email
from notifications.vitals import findings, gauges
from outbound.errors import OutcomeUnknown, PermanentError
from tests.notifications.conftest import Providers
from tests.outbound.conftest import VirtualTime

pytestmark = pytest.mark.django_db


def email(**options: object) -> None:
    send_email(to="ann@example.com", subject="x", text="x", **options)  # type: ignore[arg-type]


def test_figures(providers: Providers) -> None:
    """Those that are not finished, by kind and status, without anybody's address."""
    for answer in (OutcomeUnknown("lost"), None):
        email()
        if answer is not None:
            providers.first.then(answer)
            providers.work()
    (family,) = gauges()
    found = {tuple(sample.labels.values()): sample.value for sample in family.samples}
    assert found == {("email", "unknown"): 1, ("email", "sending"): 1}


def test_a_healthy_house(providers: Providers) -> None:
    """Nothing to tell."""
    email()
    providers.work()
    assert list(findings()) == []


def test_what_is_late(providers: Providers, time: VirtualTime) -> None:
    """A scheduled message that nobody sends."""
    email(scheduled_at=time.now + timedelta(hours=1))
    time.passes(hours=3)
    (found,) = findings()
    assert str(found).startswith("messages: 1 were to be sent up to 2 h ago")


def test_what_failed(providers: Providers) -> None:
    """By kind."""
    email(route=["first"])
    providers.first.then(PermanentError("no"))
    providers.work()
    (found,) = findings()
    assert str(found).startswith("messages by email: 1 have failed")


def test_what_cannot_be_read(providers: Providers, settings: LazySettings) -> None:
    """A key that was taken away too early."""
    email()
    providers.work()
    settings.FIELD_ENCRYPTION_KEYS = ["MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="]
    assert {found.about for found in findings()} == {"messages"}
