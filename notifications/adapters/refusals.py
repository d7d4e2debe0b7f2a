"""What providers' refusals mean for us: each has a table of its own words, and here is what they
are made into."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from notifications.adapters.messages import BulkEmail, Email
from notifications.adapters.replies import (
    OUT_OF_QUOTA,
    RECIPIENTS_REFUSED,
    TRY_AGAIN,
    Receipt,
    reply_or_refusal,
)
from outbound.adapters import Reply
from outbound.client import Response, classify
from outbound.errors import (
    DeliveryError,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    TransientError,
)
from outbound.redaction import HIDDEN, sanitise

OURS = 500  # what our API answers when the trouble is not the caller's
TEXT_CHARACTERS = 300
QUOTABLE = 3  # characters: shorter texts are everywhere
ADDRESS = re.compile(r"[^\s<>\"'(),]{1,200}@[^\s<>\"'(),]{1,200}")  # or what was meant as one
WORD = re.compile(r"[A-Za-z0-9_.:-]{1,60}")


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a provider's word for a refusal means. `code`: ours, in place of theirs."""

    kind: type[DeliveryError]
    code: str = ""
    http_status: int = 502
    retry_after: float | None = None
    conclusive: bool = True
    effect_possible: bool = False

    def error(
        self, response: Response, message: str, *, word: str = "", request_id: str = ""
    ) -> DeliveryError:
        """What to raise for it."""
        if issubclass(self.kind, TransientError):
            return self.kind(
                message,
                retry_after=response.retry_after or self.retry_after,
                code=self.code or word,
                http_status=self.http_status,
                provider_status=response.status,
                provider_request_id=request_id,
                effect_possible=self.effect_possible,
            )
        return PermanentError(
            message,
            conclusive=self.conclusive,
            code=self.code or word,
            http_status=self.http_status,
            provider_status=response.status,
            provider_request_id=request_id,
        )


# Nothing more from us today. Others may be asked at once.
QUOTA = Meaning(RateLimited, OUT_OF_QUOTA, http_status=429, retry_after=6 * 3600)
THROTTLED = Meaning(RateLimited, http_status=429)
AGAIN = Meaning(TransientError)  # nothing happened there
# Ours to set right: a key, a sender that is not verified, an account that is not let send.
ACCOUNT = Meaning(PermanentError, http_status=OURS, conclusive=False)
RECIPIENTS = Meaning(PermanentError, RECIPIENTS_REFUSED, http_status=400)
REQUEST = Meaning(PermanentError, http_status=400)
# A request with our key is at work there, or was made with other content.
STILL_RUNNING = Meaning(TransientError, effect_possible=True)
CONFLICT = Meaning(PermanentError, http_status=OURS, conclusive=False)

Table = Mapping[str, Meaning]


def error_of(
    response: Response,
    *,
    provider: str,
    table: Table,
    word: str = "",
    text: str = "",
    keyed: bool = False,
    private: frozenset[str] = frozenset(),
    request_id: str = "",
) -> DeliveryError | None:
    """The error that a reply stands for; None for 2xx. `word` and `text`: the provider's own code
    and explanation, '' where the body has none; `private` texts are not quoted."""
    shown = readable(provider, word or f"status {response.status}", text, private)
    general = classify(response, keyed=keyed, reads=False, message=shown)
    if general is None:
        return None
    meaning = table.get(word) or _by_status(response.status)
    if meaning is not None:
        return meaning.error(response, shown, word=word, request_id=request_id)
    general.code = word
    general.provider_request_id = request_id
    return general


def readable(provider: str, word: str, text: str, private: frozenset[str]) -> str:
    """A line that may be shown: no address, and nothing of what was to be sent."""
    parts = [f"{provider}: {word}"]
    if text:
        shown = ADDRESS.sub(HIDDEN, _without(text[:2000], private))
        parts.append(sanitise(shown, limit=TEXT_CHARACTERS))
    return " - ".join(parts)


def unreadable(response: Response, *, provider: str, request_id: str = "") -> OutcomeUnknown:
    """A 2xx that does not say what was accepted: something was, and what came of it is lost."""
    return OutcomeUnknown(
        f"{provider}: status {response.status} without the expected answer",
        provider_status=response.status,
        provider_request_id=request_id,
    )


@dataclass(frozen=True, slots=True)
class Entry:
    """One recipient's part of a batch, as a provider answers it. `meaning`: why it was refused."""

    address: str
    message_id: str = ""
    meaning: Meaning | None = None
    word: str = ""
    reason: str = ""

    @property
    def receipt(self) -> Receipt:
        if self.meaning is None:
            return Receipt(self.address, True, self.message_id)
        theirs = self.meaning not in (ACCOUNT, CONFLICT) and self.meaning.kind is PermanentError
        code = self.word if theirs else TRY_AGAIN  # in a call that has this error for all
        return Receipt(self.address, False, code=code, reason=self.reason)


def reply_of_entries(
    entries: Sequence[Entry], response: Response, *, provider: str, request_id: str = ""
) -> Reply:
    """What a batch comes to. Where nobody was accepted, raises what stands for the worst that is
    not some recipient's own trouble: others may be asked, or the same again."""
    refused = [entry for entry in entries if entry.meaning is not None]
    if len(refused) == len(entries):
        for kind in (TransientError, PermanentError):
            for entry in refused:
                meaning = entry.meaning
                if meaning and issubclass(meaning.kind, kind) and meaning.code != RECIPIENTS.code:
                    raise meaning.error(
                        response, entry.reason, word=entry.word, request_id=request_id
                    )
    return reply_or_refusal(
        [entry.receipt for entry in entries],
        provider=provider,
        provider_status=response.status,
        provider_request_id=request_id,
    )


def fields_in(response: Response) -> Mapping[str, object]:
    """The JSON object in a body, empty where there is none: what stands in between answers too."""
    try:
        document = response.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def word_in(value: object) -> str:
    """A provider's code, '' where it is none."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return value if isinstance(value, str) and WORD.fullmatch(value) else ""


def text_in(value: object) -> str:
    return value if isinstance(value, str) else ""


def private_texts(payload: Email | BulkEmail) -> frozenset[str]:
    """What of a message must not be quoted in an error."""
    return frozenset(text for text in _texts(payload) if len(text) >= QUOTABLE)


def _texts(payload: Email | BulkEmail) -> Iterator[str]:
    yield payload.subject
    yield from payload.headers.values()
    yield from payload.metadata.values()
    yield from (attachment.name for attachment in payload.attachments)
    if isinstance(payload, Email):
        people = [payload.sender, *payload.reply_to, *payload.to, *payload.cc, *payload.bcc]
    else:
        people = [payload.sender, *payload.reply_to]
        for recipient in payload.recipients:
            yield recipient.address
            yield recipient.name
            yield from recipient.variables.values()
    for mailbox in people:
        yield mailbox.address
        yield mailbox.name


def _without(text: str, private: frozenset[str]) -> str:
    for secret in sorted(private, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def _by_status(status: int) -> Meaning | None:
    if status in (401, 403):
        return ACCOUNT
    if status < 400:  # a redirect: not the provider's word, and says nothing about the call
        return Meaning(PermanentError, conclusive=False)
    return None
