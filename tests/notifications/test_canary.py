"""Nothing of a message gets into logs, broker messages, attempts, calls or an error's text."""

from __future__ import annotations

import json

import pytest
from django.conf import LazySettings
from django.db import connection

from notifications.services import Attached, send_bulk_email, send_email, send_push, send_sms
from outbound import hints
from outbound.errors import AdapterBug, OutcomeUnknown, PermanentError, RateLimited, TransientError
from outbound.hints import Hint
from tests.notifications.conftest import Providers

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

MARK = "canary7f3a"
ADDRESS = f"{MARK}@example.com"


def send_everything() -> None:
    content = Attached(f"{MARK}.txt", MARK.encode(), "text/plain")
    send_email(
        to=f"{MARK} <{ADDRESS}>",
        subject=MARK,
        text=MARK,
        html=f"<p>{MARK}</p>",
        headers={"X-Mark": MARK},
        attachments=[content],
    )
    people = [{"address": ADDRESS, "name": MARK, "variables": {"name": MARK}}]
    send_bulk_email(recipients=people, subject="{{name}}", text=MARK)
    send_sms(to="+15005550006", body=MARK)
    send_push(tokens=f"token-{MARK}", title=MARK, data={"x": MARK})


@pytest.mark.parametrize(
    "answer",
    [
        None,
        PermanentError(f"no such mailbox: {ADDRESS}"),
        OutcomeUnknown("lost"),
        RateLimited("slow down", retry_after=60),
        TransientError("away"),
        KeyError(MARK),
    ],
    ids=lambda answer: type(answer).__name__,
)
def test_no_trace(
    providers: Providers,
    settings: LazySettings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    answer: Exception | None,
) -> None:
    """Whatever the provider says, and when the adapter has a bug. Addresses stand on the rows of
    recipients only, and what is written nowhere in the clear."""
    published: list[Hint] = []

    class Recorder:
        def put(self, hint: Hint) -> bool:
            published.append(hint)
            return True

    settings.EMBEDDED_BROKER = False
    monkeypatch.setattr(hints, "_publisher", Recorder())
    if answer is not None:
        providers.first.then(*[answer] * 4)
    send_everything()
    raised = "" if not isinstance(answer, KeyError) else _bug(providers)
    if not raised:
        providers.work()
    assert MARK not in raised
    assert published
    assert MARK not in json.dumps([hint.kwargs for hint in published])
    assert caplog.records or raised
    assert MARK not in "".join(str(record.msg) + record.getMessage() for record in caplog.records)
    tables = [
        name for name in connection.introspection.table_names() if name.startswith("outbound_")
    ]
    for name in [*tables, "notifications_message", "notifications_dispatch"]:
        with connection.cursor() as cursor:
            cursor.execute(f'SELECT * FROM "{name}"')
            assert MARK.encode() not in b"".join(_octets(cursor.fetchall())), name


def _bug(providers: Providers) -> str:
    """The text of the error that a worker would log."""
    with pytest.raises(AdapterBug) as caught:
        providers.work()
    return str(caught.value)


def _octets(rows: list[tuple[object, ...]]) -> list[bytes]:
    return [
        bytes(value) if isinstance(value, bytes | memoryview) else str(value).encode()
        for row in rows
        for value in row
    ]
