"""What every adapter keeps to, against real sockets.

Inherit `AdapterContract`, say how the adapter is made and what can be asked of it, and every rule
below is checked for every operation. The class of an error decides whether a call may be repeated,
so a wrong one is a lost or a doubled effect.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from outbound.adapters import Adapter, CallContext, Reply
from outbound.client import MAX_REPLY_BYTES, HttpClient, Timeouts
from outbound.errors import (
    DeliveryError,
    OutcomeUnknown,
    PermanentError,
    RateLimited,
    TransientError,
)
from tests.outbound import wire

PATIENT = Timeouts(connect=10, read=10, total=20)  # nothing may come near it
SHORT_READ = Timeouts(connect=10, read=0.3, total=20)
SHORT_TOTAL = Timeouts(connect=10, read=10, total=0.3)

NO_OBJECTS = (
    b"",
    b"{",
    b"nonsense",
    b"null",
    b"[]",
    b"{}",
    b'"x"',
    b"1e999",
    b"\xff",
    b"[" * 90_000,
)
SLOW = frozenset({"test_silence", "test_drip", "test_oversize"})


@dataclass(frozen=True)
class Sample:
    """One operation: what is asked, and what a provider that did it answers."""

    payload: Mapping[str, Any]
    reply: bytes
    reference: str
    private: tuple[str, ...] = ()
    """Texts of the payload that must not come back in an error's message."""
    needs_reply: bool = True
    """Whether a success without a readable body leaves the outcome unknown."""
    status: str = "200 OK"
    headers: str = ""
    """Of that answer."""

    def answer(self) -> bytes:
        return wire.reply(self.reply, status=self.status, headers=self.headers)


class AdapterContract(ABC):
    """Rules for adapters. Subclasses name the class, its options and its samples."""

    adapter_class: ClassVar[type[Adapter]]
    samples: ClassVar[Mapping[str, Sample]]
    secrets: ClassVar[tuple[str, ...]] = ()
    transport_of: ClassVar[str] = ""
    """The one operation by which slow peers are tried, where all send in the same way: what is
    tried there is the client. Default: by all of them."""

    short_read: ClassVar[Timeouts] = SHORT_READ
    """How long a silent peer is listened to; it may be shorter where nothing else has to answer."""

    @abstractmethod
    def options(self, url: str) -> dict[str, Any]:
        """The adapter's options, with the provider at `url`."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "operation" in metafunc.fixturenames:
            slow = metafunc.function.__name__ in SLOW and self.transport_of
            operations = [self.transport_of] if slow else sorted(self.adapter_class.operations)
            metafunc.parametrize("operation", operations)

    def adapter(self, url: str) -> Adapter:
        return self.adapter_class(
            name="acme", options=self.options(url), http=HttpClient(provider="acme")
        )

    def payload(self, operation: str) -> BaseModel:
        model = self.adapter_class.operations[operation].payload_model
        return model.model_validate(self.samples[operation].payload)

    def context(self, timeouts: Timeouts = PATIENT) -> CallContext:
        return CallContext("0198c0de-0000-7000-8000-000000000001", "key-1", timeouts=timeouts)

    def perform(self, operation: str, url: str, timeouts: Timeouts = PATIENT) -> Reply:
        return self.adapter(url).perform(operation, self.payload(operation), self.context(timeouts))

    def failure(self, operation: str, *behaviours: Any, timeouts: Timeouts = PATIENT) -> Any:
        with wire.peer(*behaviours) as peer, pytest.raises(DeliveryError) as caught:
            self.perform(operation, peer.url, timeouts)
        assert len(peer.requests) == 1, "one attempt is one request"
        self.assert_discreet(operation, caught.value)
        return caught.value

    def answered(self, operation: str, status: str, *, headers: str = "", body: bytes = b"") -> Any:
        response = wire.reply(body, status=status, headers=headers)
        return self.failure(operation, wire.answers(response))

    def reads(self, operation: str) -> bool:
        return self.adapter_class.operations[operation].reads

    def comparable(self, request: bytes) -> bytes:
        """What of a request must be the same in each attempt: all of it, a signature's time of day
        excepted where there is one."""
        return request

    def assert_discreet(self, operation: str, error: DeliveryError) -> None:
        for secret in (*self.secrets, *self.samples[operation].private):
            assert secret not in error.message
            assert secret not in str(error)

    def assert_may_have_worked(self, operation: str, error: DeliveryError) -> None:
        assert isinstance(error, TransientError)
        assert self.reads(operation) or error.effect_possible

    def test_every_operation_has_a_sample(self) -> None:
        """No operation escapes the contract."""
        assert set(self.samples) == set(self.adapter_class.operations)

    def test_success(self, operation: str) -> None:
        """A success is a Reply with the provider's id."""
        sample = self.samples[operation]
        with wire.peer(wire.answers(sample.answer())) as peer:
            reply = self.perform(operation, peer.url)
        assert reply.provider_reference == sample.reference
        assert reply.provider_status == int(sample.status[:3])

    def test_same_key_same_bytes(self, operation: str) -> None:
        """Attempts with the same key are the same bytes: a provider refuses anything else."""
        sample = self.samples[operation]
        with wire.peer(wire.answers(sample.answer())) as peer:
            self.perform(operation, peer.url)
            self.perform(operation, peer.url)
        first, second = (self.comparable(request) for request in peer.requests)
        assert first == second

    @pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "422 Unprocessable"])
    def test_refused_for_good(self, operation: str, status: str) -> None:
        """A 4xx is permanent, and nothing happened."""
        error = self.answered(operation, status, body=b"<html>no</html>")
        assert isinstance(error, PermanentError)
        assert not error.effect_possible
        assert error.provider_status == int(status[:3])

    @pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
    def test_not_allowed(self, operation: str, status: str) -> None:
        """Refused credentials say nothing about an attempt that was made with good ones."""
        error = self.answered(operation, status)
        assert isinstance(error, PermanentError)
        assert not error.conclusive

    def test_rate_limited_for_seconds(self, operation: str) -> None:
        """429 with seconds: again when they say; nothing happened."""
        error = self.answered(operation, "429 Too Many Requests", headers="Retry-After: 17")
        assert isinstance(error, RateLimited)
        assert error.retry_after == 17
        assert not error.effect_possible
        assert error.http_status == 429

    def test_rate_limited_until_a_date(self, operation: str) -> None:
        """429 with an HTTP date: as many seconds as are left until then."""
        until = datetime.now(UTC) + timedelta(hours=2)
        header = f"Retry-After: {format_datetime(until, usegmt=True)}"
        error = self.answered(operation, "429 Too Many Requests", headers=header)
        assert isinstance(error, RateLimited)
        assert error.retry_after is not None
        assert 3600 < error.retry_after <= 7200

    @pytest.mark.parametrize("status", ["500 Oops", "502 Bad Gateway", "503 Away", "504 Late"])
    def test_server_error(self, operation: str, status: str) -> None:
        """A 5xx is tried again, and a write may have had its effect."""
        error = self.answered(operation, status, headers="Retry-After: 3")
        self.assert_may_have_worked(operation, error)
        assert error.effect_possible is not self.reads(operation)
        assert error.retry_after == 3

    def test_nobody_listens(self, operation: str) -> None:
        """Refused connections are transient, and nothing was sent."""
        with pytest.raises(TransientError) as caught:
            self.perform(operation, f"http://127.0.0.1:{wire.closed_port()}")
        assert not caught.value.effect_possible
        assert not isinstance(caught.value, OutcomeUnknown)

    def test_silence(self, operation: str) -> None:
        """No answer within the read timeout: the outcome is unknown."""
        error = self.failure(operation, wire.is_silent, timeouts=self.short_read)
        self.assert_may_have_worked(operation, error)

    def test_drip(self, operation: str) -> None:
        """A peer that drips is cut by the total deadline: the outcome is unknown."""
        start = b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"
        error = self.failure(operation, wire.drips(start, end=b""), timeouts=SHORT_TOTAL)
        self.assert_may_have_worked(operation, error)

    def test_reset(self, operation: str) -> None:
        """A reset after the request has left: the outcome is unknown."""
        error = self.failure(operation, wire.resets())
        self.assert_may_have_worked(operation, error)

    def test_oversize(self, operation: str) -> None:
        """A reply that is too large to keep: the outcome is unknown."""
        body = b'{"x": "' + b"x" * MAX_REPLY_BYTES + b'"}'
        error = self.failure(operation, wire.answers_once(wire.reply(body)))
        self.assert_may_have_worked(operation, error)

    @pytest.mark.parametrize("body", NO_OBJECTS, ids=lambda body: repr(body[:12]))
    def test_success_without_its_object(self, operation: str, body: bytes) -> None:
        """A 2xx that cannot be read: it worked, and what came of it is lost."""
        if not self.samples[operation].needs_reply:
            pytest.skip("the status says it all")
        error = self.failure(operation, wire.answers(wire.reply(body)))
        self.assert_may_have_worked(operation, error)

    def test_error_body_of_any_shape(self, operation: str) -> None:
        """Whatever stands in an error's body, it ends in an anticipated error."""
        for body in (*NO_OBJECTS, b'{"error": 1}', b'{"error": {"code": [1], "message": {}}}'):
            error = self.answered(operation, "400 Bad Request", body=body)
            assert isinstance(error, PermanentError)

    def test_redirect(self, operation: str) -> None:
        """A redirect is not followed, and says nothing about the call."""
        error = self.answered(operation, "307 Temporary Redirect", headers="Location: /elsewhere")
        assert isinstance(error, PermanentError)
        assert not error.conclusive
