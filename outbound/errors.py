"""What can go wrong, told apart by what to do about it.

Two trees. `DeliveryError`: something happened on the way to the provider, and the class is the
decision. `CallRefused`: the caller asked for something that cannot be done, and is told at once.
Configuration errors are Django's `ImproperlyConfigured` and belong to neither.
"""

from __future__ import annotations

from dataclasses import dataclass


class DeliveryError(Exception):
    """An anticipated failure of one attempt. Anything else that is raised is a bug.

    `message` must be safe to show and store: no secret, no personal data. `code` is the
    provider's own word for it and `param` its name of the field that it minds, `http_status` what
    our API answers with, `provider_status` what the provider answered (None when it did not).
    `effect_possible` says whether this attempt may have changed something at the provider.
    """

    effect_possible = False

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        param: str = "",
        http_status: int = 502,
        provider_status: int | None = None,
        provider_request_id: str = "",
        effect_possible: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param
        self.http_status = http_status
        self.provider_status = provider_status
        self.provider_request_id = provider_request_id
        if effect_possible is not None:
            self.effect_possible = effect_possible

    @property
    def kind(self) -> str:
        """The class in snake case: what `OutboundCall.error_kind` stores."""
        name = type(self).__name__
        return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


class TransientError(DeliveryError):
    """Worth another attempt, with backoff. `retry_after` is the provider's wish, in seconds;
    `hint_in` what the engine has planned (None: that is left to the row and the sweep)."""

    hint_in: float | None = None

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        code: str = "",
        param: str = "",
        http_status: int = 502,
        provider_status: int | None = None,
        provider_request_id: str = "",
        effect_possible: bool | None = None,
    ) -> None:
        super().__init__(
            message,
            code=code,
            param=param,
            http_status=http_status,
            provider_status=provider_status,
            provider_request_id=provider_request_id,
            effect_possible=effect_possible,
        )
        self.retry_after = retry_after


class RateLimited(TransientError):
    """The provider asked us to slow down. Nothing happened there."""


class CircuitOpen(TransientError):
    """Not sent: the provider's circuit is open. The call is parked."""


class NotSentHere(TransientError):
    """Not sent: this process cannot, whatever the provider is doing."""


class OutcomeUnknown(TransientError):
    """Sent, and the answer is lost: repeated only where that is safe."""

    effect_possible = True


class StoredFailure(OutcomeUnknown):
    """The provider stored a failure under the key: asking again can only say the same again."""


class PermanentError(DeliveryError):
    """Never again by itself.

    `conclusive` is False where the refusal says nothing about earlier attempts with the same key
    (a revoked API key, say): such a call is not declared failed if an earlier attempt may have
    worked.
    """

    def __init__(
        self,
        message: str,
        *,
        conclusive: bool = True,
        code: str = "",
        param: str = "",
        http_status: int = 502,
        provider_status: int | None = None,
        provider_request_id: str = "",
        effect_possible: bool | None = None,
    ) -> None:
        super().__init__(
            message,
            code=code,
            param=param,
            http_status=http_status,
            provider_status=provider_status,
            provider_request_id=provider_request_id,
            effect_possible=effect_possible,
        )
        self.conclusive = conclusive


class DidNotHappen(PermanentError):
    """A look-up found proof that the call failed. Raised by `Adapter.resolve` only."""


class AdapterBug(RuntimeError):
    """An adapter raised what nobody foresaw. It has the traceback and the type's name, but not the
    text, which may quote the payload."""


class CallRefused(ValueError):
    """The caller asked for something that cannot be done."""


class UnknownAdapter(CallRefused):
    """No adapter of that name in OUTBOUND_ADAPTERS."""


class UnknownOperation(CallRefused):
    """The adapter has no operation of that name."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field: a JSON pointer (RFC 6901) into the payload, and what is wrong there."""

    pointer: str
    detail: str


class InvalidPayload(CallRefused):
    """The payload does not fit the operation's schema. `errors` names each wrong field."""

    def __init__(self, errors: list[FieldError]) -> None:
        super().__init__("; ".join(f"{e.pointer}: {e.detail}" for e in errors))
        self.errors = errors


class KeyReused(CallRefused):
    """The caller's key already belongs to a call with other content."""


class KeyExpired(CallRefused):
    """The provider may have forgotten the key: the same key would be a new effect."""


class IllegalMove(CallRefused):
    """The call is not in a status from which this can be done."""


class ReasonRequired(CallRefused):
    """Doing this needs a reason in words."""


class RetryRefused(CallRefused):
    """The tenant does not want this call again. Raised by `on_revived` hooks."""
