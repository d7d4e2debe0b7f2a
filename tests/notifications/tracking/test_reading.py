"""Each provider's words in ours, and what becomes of words that are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notifications.states import RecipientStatus, SuppressionReason
from notifications.tracking import Track, reading
from outbound.redaction import storable
from tests.notifications.tracking.events import (
    AT,
    CALL,
    KEY,
    READERS,
    TO,
    event,
    mailgun_event,
    postmark_event,
    resend_event,
    sendgrid_event,
    ses_event,
    twilio_event,
)
from webhooks.handlers import Event

MAKERS: dict[str, Callable[..., Event]] = {
    "sendgrid": sendgrid_event,
    "mailgun": mailgun_event,
    "ses": ses_event,
    "postmark": postmark_event,
    "resend": resend_event,
    "twilio": twilio_event,
}
PERMANENT = {"severity": "permanent"}
BOUNCED = [{"emailAddress": TO, "diagnosticCode": "smtp; 550 5.1.1 <jo@example.com> unknown"}]

# provider, its word, what else stands in the event, our word, and what is suppressed for it
WORDS: list[tuple[str, str, dict[str, Any], str, str]] = [
    ("sendgrid", "processed", {}, "queued", ""),
    ("sendgrid", "delivered", {"response": "250 OK"}, "delivered", ""),
    ("sendgrid", "deferred", {"response": "400 later"}, "deferred", ""),
    ("sendgrid", "bounce", {"type": "bounce", "status": "5.1.1"}, "bounced", "hard_bounce"),
    ("sendgrid", "bounce", {"type": "blocked"}, "soft_bounced", ""),
    ("sendgrid", "bounce", {}, "soft_bounced", ""),
    ("sendgrid", "dropped", {"reason": "Bounced Address"}, "refused", "hard_bounce"),
    ("sendgrid", "dropped", {"reason": "Invalid"}, "refused", "hard_bounce"),
    ("sendgrid", "dropped", {"reason": "Spam Reporting Address"}, "refused", "complaint"),
    ("sendgrid", "dropped", {"reason": "Unsubscribed Address"}, "refused", "unsubscribed"),
    ("sendgrid", "dropped", {"reason": "Spam Content"}, "failed", ""),
    ("sendgrid", "spamreport", {}, "complained", "complaint"),
    ("sendgrid", "unsubscribe", {}, "unsubscribed", "unsubscribed"),
    ("sendgrid", "group_unsubscribe", {"asm_group_id": 1}, "unsubscribed", "unsubscribed"),
    ("sendgrid", "open", {}, "opened", ""),
    ("sendgrid", "open", {"sg_machine_open": True}, "delivered", ""),
    ("sendgrid", "click", {"url": "https://example.com"}, "clicked", ""),
    ("mailgun", "accepted", {}, "queued", ""),
    ("mailgun", "rejected", {"reject": {"reason": "virus"}}, "failed", ""),
    ("mailgun", "delivered", {}, "delivered", ""),
    ("mailgun", "failed", {"severity": "temporary"}, "deferred", ""),
    ("mailgun", "failed", {**PERMANENT, "reason": "bounce"}, "bounced", "hard_bounce"),
    ("mailgun", "failed", {**PERMANENT, "reason": "old"}, "soft_bounced", ""),
    ("mailgun", "failed", {**PERMANENT, "reason": "suppress-bounce"}, "refused", "hard_bounce"),
    ("mailgun", "failed", {**PERMANENT, "reason": "suppress-complaint"}, "refused", "complaint"),
    (
        "mailgun", "failed", {**PERMANENT, "reason": "suppress-unsubscribe"},
        "refused", "unsubscribed",
    ),
    (
        "mailgun", "failed", {**PERMANENT, "delivery-status": {"bounce-type": "soft"}},
        "soft_bounced", "",
    ),
    ("mailgun", "opened", {}, "opened", ""),
    ("mailgun", "clicked", {}, "clicked", ""),
    ("mailgun", "unsubscribed", {}, "unsubscribed", "unsubscribed"),
    ("mailgun", "complained", {}, "complained", "complaint"),
    ("ses", "Send", {"send": {}}, "queued", ""),
    ("ses", "Reject", {"reject": {"reason": "Bad content"}}, "failed", ""),
    ("ses", "Rendering Failure", {"failure": {"errorMessage": "no name"}}, "failed", ""),
    ("ses", "Delivery", {"delivery": {"recipients": [TO]}}, "delivered", ""),
    (
        "ses", "DeliveryDelay",
        {"deliveryDelay": {"delayType": "MailboxFull", "delayedRecipients": BOUNCED}},
        "deferred", "",
    ),
    (
        "ses", "Bounce", {"bounce": {"bounceType": "Permanent", "bouncedRecipients": BOUNCED}},
        "bounced", "hard_bounce",
    ),
    (
        "ses", "Bounce", {"bounce": {"bounceType": "Transient", "bouncedRecipients": BOUNCED}},
        "soft_bounced", "",
    ),
    (
        "ses", "Bounce", {"bounce": {"bounceType": "Undetermined", "bouncedRecipients": BOUNCED}},
        "soft_bounced", "",
    ),
    (
        "ses", "Complaint", {"complaint": {"complainedRecipients": BOUNCED}},
        "complained", "complaint",
    ),
    (
        "ses", "Complaint",
        {
            "complaint": {
                "complainedRecipients": BOUNCED,
                "complaintSubType": "OnAccountSuppressionList",
            }
        },
        "refused", "complaint",
    ),
    ("ses", "Open", {"open": {"ipAddress": "192.0.2.1"}}, "opened", ""),
    ("ses", "Click", {"click": {"link": "https://example.com"}}, "clicked", ""),
    (
        "ses", "Subscription", {"subscription": {"newTopicPreferences": {"unsubscribeAll": True}}},
        "unsubscribed", "unsubscribed",
    ),
    ("postmark", "Delivery", {"Details": "Test"}, "delivered", ""),
    ("postmark", "Bounce", {"Type": "HardBounce"}, "bounced", "hard_bounce"),
    ("postmark", "Bounce", {"Type": "BadEmailAddress"}, "bounced", "hard_bounce"),
    ("postmark", "Bounce", {"Type": "SoftBounce"}, "soft_bounced", ""),
    ("postmark", "Bounce", {"Type": "Blocked"}, "soft_bounced", ""),
    ("postmark", "Bounce", {"Type": "Transient"}, "deferred", ""),
    ("postmark", "Bounce", {"Type": "SpamComplaint"}, "complained", "complaint"),
    ("postmark", "Bounce", {"Type": "Unsubscribe"}, "unsubscribed", "unsubscribed"),
    ("postmark", "Bounce", {"Type": "ManuallyDeactivated"}, "refused", "manual"),
    ("postmark", "Bounce", {"Type": "SMTPApiError"}, "failed", ""),
    ("postmark", "SpamComplaint", {}, "complained", "complaint"),
    ("postmark", "Open", {"FirstOpen": True}, "opened", ""),
    ("postmark", "Click", {"OriginalLink": "https://example.com"}, "clicked", ""),
    (
        "postmark", "SubscriptionChange",
        {"SuppressSending": True, "SuppressionReason": "ManualSuppression", "Origin": "Recipient"},
        "unsubscribed", "unsubscribed",
    ),
    (
        "postmark", "SubscriptionChange",
        {"SuppressSending": True, "SuppressionReason": "ManualSuppression", "Origin": "Admin"},
        "unsubscribed", "manual",
    ),
    (
        "postmark", "SubscriptionChange",
        {"SuppressSending": True, "SuppressionReason": "HardBounce", "Origin": "Recipient"},
        "bounced", "hard_bounce",
    ),
    (
        "postmark", "SubscriptionChange",
        {"SuppressSending": True, "SuppressionReason": "SpamComplaint", "Origin": "Recipient"},
        "complained", "complaint",
    ),
    ("resend", "email.sent", {}, "queued", ""),
    ("resend", "email.delivered", {}, "delivered", ""),
    ("resend", "email.delivery_delayed", {}, "deferred", ""),
    ("resend", "email.bounced", {"bounce": {"type": "Permanent"}}, "bounced", "hard_bounce"),
    ("resend", "email.bounced", {"bounce": {"type": "Transient"}}, "soft_bounced", ""),
    ("resend", "email.bounced", {}, "soft_bounced", ""),
    ("resend", "email.suppressed", {}, "refused", "hard_bounce"),
    ("resend", "email.failed", {"failed": {"reason": "reached_daily_quota"}}, "failed", ""),
    ("resend", "email.opened", {}, "opened", ""),
    ("resend", "email.clicked", {}, "clicked", ""),
    ("resend", "email.complained", {}, "complained", "complaint"),
    ("twilio", "queued", {}, "queued", ""),
    ("twilio", "sending", {}, "queued", ""),
    ("twilio", "sent", {}, "sent", ""),
    ("twilio", "delivered", {}, "delivered", ""),
    ("twilio", "read", {}, "opened", ""),
    ("twilio", "undelivered", {"ErrorCode": "30003"}, "soft_bounced", ""),
    ("twilio", "undelivered", {"ErrorCode": "30005"}, "bounced", "hard_bounce"),
    ("twilio", "undelivered", {"ErrorCode": "30006"}, "bounced", "hard_bounce"),
    ("twilio", "undelivered", {"ErrorCode": "30007"}, "failed", ""),
    ("twilio", "failed", {"ErrorCode": "21610"}, "refused", "opted_out"),
    ("twilio", "failed", {}, "failed", ""),
    (
        "twilio", "received", {"OptOutType": "STOP", "From": "+15005550006"},
        "unsubscribed", "opted_out",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    "provider,word,members,status,suppress",
    WORDS,
    ids=[f"{provider}-{word}-{n}" for n, (provider, word, *_) in enumerate(WORDS)],
)
def test_words(
    provider: str, word: str, members: dict[str, Any], status: str, suppress: str
) -> None:
    """Whose message it is, what became of it, and who gets nothing any more."""
    [track] = READERS[provider].read(MAKERS[provider](word, **members))
    assert track.status == RecipientStatus(status)
    assert track.suppress == (SuppressionReason(suppress) if suppress else None)
    assert track.address == ("+15005550006" if provider == "twilio" else TO)
    assert TO not in track.reason
    if word != "received":
        assert (track.call_id, track.key) == (CALL, KEY)
        assert track.message_id
        assert (track.at is None) == (provider == "twilio")  # which tells no time


def test_every_word_is_tried() -> None:
    """No row of a provider's table is without its case, and each is announced to the handlers."""
    tried = {(provider, MAKERS[provider](word, **m).event_type) for provider, word, m, *_ in WORDS}
    told = {(provider, word) for provider, reader in READERS.items() for word in reader.EVENTS}
    assert tried <= told
    seldom = {("twilio", f"message.{word}") for word in ("accepted", "scheduled", "canceled")}
    assert told - tried == seldom


@pytest.mark.parametrize(
    "made",
    [
        sendgrid_event("group_resubscribe"),
        mailgun_event("stored"),
        ses_event(
            "Complaint",
            complaint={"complaintFeedbackType": "not-spam", "complainedRecipients": BOUNCED},
        ),
        ses_event("Subscription", subscription={"newTopicPreferences": {"unsubscribeAll": False}}),
        ses_event("Received"),
        postmark_event("Bounce", Type="AutoResponder"),
        postmark_event("Bounce", Type="AddressChange"),
        postmark_event("SubscriptionChange", SuppressSending=False),
        resend_event("email.received"),
        twilio_event("received"),
        twilio_event("received", OptOutType="STOP", From="whatsapp:+15005550006"),
    ],
    ids=lambda made: made.event_type,
)
def test_words_about_nobody(made: Event) -> None:
    """What says nothing of a message, or what only a person should undo."""
    assert all(reader.read(made) == [] for reader in READERS.values())


class TestSendGrid:
    def test_the_message(self) -> None:
        """Events speak of the id in the answer, and of more behind it."""
        [track] = READERS["sendgrid"].read(sendgrid_event("delivered"))
        assert (track.message_id, track.at) == ("14c5d75ce93", AT)

    def test_the_reason(self) -> None:
        """Neither addresses, nor the recipient's name as some servers quote it."""
        why = "550 5.1.1 <Jonas.Doe@example.com>: jonas.doe unknown, ask https://a.example/?u=x@y.z"
        made = sendgrid_event("bounce", type="bounce", reason=why, email="jonas.doe@example.com")
        [track] = READERS["sendgrid"].read(made)
        assert track.reason == ("550 5.1.1 <[hidden]>: [hidden] unknown, ask https://a.example/")


class TestMailgun:
    @pytest.mark.parametrize("written", ["<a@b>", "a@b"])
    def test_the_message(self, written: str) -> None:
        """In angle brackets, whichever way it comes."""
        said = {"headers": {"message-id": written}}
        [track] = READERS["mailgun"].read(mailgun_event("delivered", message=said))
        assert track.message_id == "<a@b>"

    @pytest.mark.parametrize("code,read", [(550, "550"), ("550", ""), (True, ""), (10**9, "")])
    def test_the_code(self, code: object, read: str) -> None:
        made = mailgun_event("failed", **PERMANENT, **{"delivery-status": {"code": code}})
        [track] = READERS["mailgun"].read(made)
        assert track.code == read


class TestSes:
    @pytest.mark.parametrize("form", ["eventType", "notificationType"])
    def test_several(self, form: str) -> None:
        """One event, several recipients, each with what was said of them."""
        bounced = [{"emailAddress": f"{n}@example.com", "diagnosticCode": f"550 {n}"} for n in "ab"]
        details = {"bounceType": "Permanent", "bounceSubType": "NoEmail"}
        made = ses_event("Bounce", form=form, bounce={**details, "bouncedRecipients": bounced})
        tracks = READERS["ses"].read(made)
        assert [(t.address, t.reason, t.code) for t in tracks] == [
            ("a@example.com", "550 a", "Permanent.NoEmail"),
            ("b@example.com", "550 b", "Permanent.NoEmail"),
        ]

    def test_one_of_several(self) -> None:
        """Who of them has opened it, SES does not say."""
        made = ses_event("Open", to=["a@example.com", "b@example.com"], open={})
        assert [track.address for track in READERS["ses"].read(made)] == [""]

    def test_everybody(self) -> None:
        made = ses_event("Send", to=["A <a@example.com>", "b@example.com"], send={})
        found = [track.address for track in READERS["ses"].read(made)]
        assert found == ["a@example.com", "b@example.com"]

    def test_a_topic(self) -> None:
        """Who leaves a topic leaves us, for we have no topics; who had left it before does not."""
        left = {"topicSubscriptionStatus": [{"topicName": "n", "subscriptionStatus": "OptOut"}]}
        for old, words in (({}, 1), (left, 0)):
            change = {"newTopicPreferences": left, "oldTopicPreferences": old}
            assert len(READERS["ses"].read(ses_event("Subscription", subscription=change))) == words

    def test_when(self) -> None:
        delivery = {"recipients": [TO], "timestamp": "2026-01-02T03:04:05.678Z"}
        made = ses_event("Delivery", delivery=delivery)
        [track] = READERS["ses"].read(made)
        assert track.at == datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)


class TestPostmark:
    def test_no_message(self) -> None:
        """Who left by a page of Postmark's did so without a message."""
        made = postmark_event(
            "SubscriptionChange",
            MessageID="00000000-0000-0000-0000-000000000000",
            SuppressSending=True,
            SuppressionReason="ManualSuppression",
            Origin="Recipient",
        )
        [track] = READERS["postmark"].read(made)
        assert (track.message_id, track.address) == ("", TO)


class TestResend:
    def test_one_of_several(self) -> None:
        """Each has an event, and none says whose it is; but all are sent at once."""
        several = ["a@example.com", "b@example.com"]
        for word, found in (("email.bounced", [""]), ("email.sent", several)):
            tracks = READERS["resend"].read(resend_event(word, to=several))
            assert [track.address for track in tracks] == found

    def test_tags_in_a_list(self) -> None:
        tags = [{"name": "holdfast_call", "value": CALL}, {"name": "holdfast_key", "value": KEY}]
        [track] = READERS["resend"].read(resend_event("email.sent", tags=tags))
        assert (track.call_id, track.key) == (CALL, KEY)


@pytest.mark.parametrize(
    "written,expected",
    [
        ("2019-11-05T16:33:54.0000000Z", datetime(2019, 11, 5, 16, 33, 54, tzinfo=UTC)),
        ("2019-11-05T16:33:54+01:00", datetime(2019, 11, 5, 15, 33, 54, tzinfo=UTC)),
        ("2019-11-05 16:33:54.5+00", datetime(2019, 11, 5, 16, 33, 54, 500000, UTC)),
        ("2019-11-05T16:33:54", datetime(2019, 11, 5, 16, 33, 54, tzinfo=UTC)),
        ("0001-01-01T00:00:00+23:59", None),
        ("9999-12-31T23:59:59-23:59", None),
        ("5000-01-01", None),
        ("yesterday", None),
        ("", None),
        (None, None),
        (1_700_000_000, None),
        ([], None),
    ],
)
def test_moments(written: object, expected: datetime | None) -> None:
    """A time that no database could hold is none."""
    assert reading.moment(written) == expected


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=30)
    | st.sampled_from(["a@b.example", TO, "<x@y>", "\x00", "\ud800", "2026-01-01T00:00:00Z"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def places(document: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a document."""
    inner = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document)
        if isinstance(document, list)
        else ()
    )
    return [path, *(place for name, value in inner for place in places(value, (*path, name)))]


def planted(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The document with another value at that place."""
    if not path:
        return value
    document[path[0]] = planted(document[path[0]], path[1:], value)
    return document


@pytest.mark.parametrize("provider", sorted(READERS))
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.differing_executors])
@given(data=st.data())
def test_hostile_events(provider: str, data: st.DataObject) -> None:
    """Whatever stands in an event, nothing is raised, what is read can be stored, and no reason
    names an address."""
    word, members = data.draw(st.sampled_from([w[1:3] for w in WORDS if w[0] == provider]))
    right = MAKERS[provider](word, **members)
    payload = json.loads(json.dumps(right.payload))
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places(payload)[1:]))
        payload = planted(payload, path, data.draw(JSON))
    for track in READERS[provider].read(event(right.event_type, payload)):
        assert_sound(track)


@pytest.mark.parametrize("provider", sorted(READERS))
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.differing_executors])
@given(data=st.data())
def test_other_events(provider: str, data: st.DataObject) -> None:
    """Objects of any shape under the names of the types."""
    kind = data.draw(st.sampled_from([*READERS[provider].EVENTS, "another"]))
    names = st.sampled_from(["event-data", "message", "data", "query", "To", "Metadata"])
    payload = data.draw(st.dictionaries(names, JSON))
    for track in READERS[provider].read(event(kind, payload, occurred_at=None)):
        assert_sound(track)


def assert_sound(track: Track) -> None:
    texts = (track.address, track.message_id, track.call_id, track.key, track.code, track.reason)
    limits = (320, 255, 255, 255, 100, 300)
    for value, limit in zip(texts, limits, strict=True):
        assert storable(value, limit=limit) == value
    assert not any(each in track.reason + track.code for each in (TO, "a@b.example"))
    assert track.at is None or track.at.tzinfo is not None
