"""A flood of garbage is answered without looking at it, and takes nothing from real deliveries."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

from tests.webhooks.deliveries import SECRET, signature, stripe_body
from tests.webhooks.serving import Server, delivery, head, sized
from webhooks import services, views
from webhooks.errors import Throttled
from webhooks.providers.stripe import StripeSource
from webhooks.throttle import PROVEN_SECONDS, Throttle

LIMIT = 6


class Seconds:
    """A monotonic clock, turned by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def throttle(settings: Settings, seconds: Seconds) -> Throttle:
    settings.WEBHOOK_FAILURES_PER_MINUTE = LIMIT
    return Throttle(kept=5, monotonic=seconds)


def admitted(throttle: Throttle, sender: str = "a", source: str = "s") -> bool:
    try:
        throttle.admit(source, sender)
    except Throttled:
        return False
    return True


def fail(throttle: Throttle, times: int, sender: str = "a") -> None:
    for _ in range(times):
        throttle.failed("s", sender)


class TestBuckets:
    def test_as_many_failures_as_allowed(self, throttle: Throttle) -> None:
        fail(throttle, LIMIT - 1)
        assert admitted(throttle)
        fail(throttle, 1)
        assert not admitted(throttle)

    def test_who_never_fails_is_never_held_up(self, throttle: Throttle) -> None:
        assert all(admitted(throttle) for _ in range(1000))

    def test_tokens_come_back_one_by_one(self, throttle: Throttle, seconds: Seconds) -> None:
        """A small share gets through also while the flood goes on."""
        fail(throttle, LIMIT)
        through = 0
        for _ in range(60):
            seconds.now += 1
            if admitted(throttle):
                through += 1
                fail(throttle, 1)
        assert through == LIMIT

    def test_it_tells_when_to_come_again(self, throttle: Throttle, seconds: Seconds) -> None:
        """And then it is right."""
        fail(throttle, LIMIT)
        with pytest.raises(Throttled) as caught:
            throttle.admit("s", "a")
        assert caught.value.retry_after == 60 // LIMIT
        seconds.now += caught.value.retry_after
        assert admitted(throttle)

    def test_it_is_never_emptier_than_empty(self, throttle: Throttle, seconds: Seconds) -> None:
        """Those that were admitted together may fail together; a minute later all is well."""
        fail(throttle, 1000)
        seconds.now += 60
        fail(throttle, LIMIT - 1)
        assert admitted(throttle)

    def test_others_are_not_to_blame(self, throttle: Throttle) -> None:
        """Neither another sender, nor the same one at another source."""
        fail(throttle, LIMIT)
        assert admitted(throttle, "b")
        assert admitted(throttle, "a", source="other")

    def test_a_proven_sender_is_let_through_for_a_day(
        self, throttle: Throttle, seconds: Seconds
    ) -> None:
        """A neighbour behind the same address cannot shut it out."""
        throttle.proved("s", "a")
        fail(throttle, 1000)
        assert admitted(throttle)
        seconds.now += PROVEN_SECONDS - 1
        throttle.proved("s", "a")
        seconds.now += 2
        fail(throttle, 1000)
        assert admitted(throttle)
        seconds.now += PROVEN_SECONDS
        fail(throttle, 1000)
        assert not admitted(throttle)

    def test_memory_is_bounded(self, throttle: Throttle) -> None:
        """The quietest are forgotten."""
        for number in range(100):
            fail(throttle, LIMIT, sender=str(number))
            throttle.proved("s", str(number))
        held = [number for number in range(100) if ("s", str(number)) in throttle._full_at]
        assert held == [95, 96, 97, 98, 99]
        assert len(throttle._proven_at) == 5


class TestDoor:
    @pytest.fixture
    def verified(self, throttle: Throttle, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
        """The bodies that were verified, by a door with a throttle of its own."""
        monkeypatch.setattr(views, "throttle", throttle)
        monkeypatch.setattr(services, "throttle", throttle)
        seen: list[bytes] = []
        verify = StripeSource.verify

        def count(self: StripeSource, body: bytes, headers: Any, **options: Any) -> str:
            seen.append(body)
            return verify(self, body, headers, **options)

        monkeypatch.setattr(StripeSource, "verify", count)
        return seen

    @pytest.fixture
    def post(self, client: Client) -> Callable[..., Any]:
        def send(body: bytes = b"{}", *, header: str = "t=1,v1=00", **meta: Any) -> Any:
            headers = {"Stripe-Signature": header} if header else {}
            return client.generic("POST", "/webhooks/stripe", body, headers=headers, **meta)

        return send

    @pytest.mark.parametrize("header", ["t=1,v1=00", "", "nonsense"])
    def test_a_flood_is_not_verified(
        self, post: Callable[..., Any], verified: list[bytes], header: str
    ) -> None:
        """429 with Retry-After, as a problem, without a look at the signature or the body."""
        statuses = Counter(post(header=header).status_code for _ in range(50))
        assert statuses[429] == 50 - LIMIT
        assert len(verified) == LIMIT
        answer = post(header=header)
        assert answer["Content-Type"] == "application/problem+json"
        assert json.loads(answer.content)["code"] == "throttled"
        assert int(answer["Retry-After"]) >= 1

    @pytest.mark.django_db
    def test_a_genuine_burst_is_never_held_up(
        self, post: Callable[..., Any], verified: list[bytes]
    ) -> None:
        """Deliveries that prove themselves cost nothing, nor do authentic ones that are refused."""
        for number in range(3 * LIMIT):
            body = stripe_body() if number % 2 else stripe_body(livemode=True)
            assert post(body, header=signature(body)).status_code == (200 if number % 2 else 400)
        assert len(verified) == 3 * LIMIT

    @pytest.mark.django_db
    def test_a_neighbour_that_proved_itself(
        self, post: Callable[..., Any], verified: list[bytes]
    ) -> None:
        """It gets through in the middle of a flood from its own address."""
        body = stripe_body()
        assert post(body, header=signature(body)).status_code == 200
        for _ in range(3 * LIMIT):
            assert post().status_code == 401
        body = stripe_body()
        assert post(body, header=signature(body)).status_code == 200

    @pytest.mark.django_db
    def test_another_address(self, post: Callable[..., Any], verified: list[bytes]) -> None:
        """A flood from one address is nobody else's."""
        for _ in range(2 * LIMIT):
            post(REMOTE_ADDR="198.51.100.7")
        assert post(REMOTE_ADDR="198.51.100.7").status_code == 429
        body = stripe_body()
        answer = post(body, header=signature(body), REMOTE_ADDR="203.0.113.9")
        assert answer.status_code == 200

    def test_a_forged_address_is_not_believed(
        self, post: Callable[..., Any], verified: list[bytes]
    ) -> None:
        """Without TRUST_PROXY the header is the sender's own."""
        statuses = [
            post(HTTP_X_FORWARDED_FOR=f"8.8.8.{number}").status_code for number in range(LIMIT + 1)
        ]
        assert statuses == [401] * LIMIT + [429]

    def test_handshakes_are_no_deliveries(
        self, client: Client, post: Callable[..., Any], verified: list[bytes]
    ) -> None:
        for _ in range(LIMIT):
            post()
        assert client.get("/webhooks/stripe").status_code == 405


@pytest.mark.faults
def test_a_real_flood(tmp_path: Path) -> None:
    """Eight connections throw garbage at two web processes as fast as they can: they are answered
    429 but for their tokens, and every genuine delivery from elsewhere meanwhile is stored."""
    limit, processes, threads = 20, 2, 8
    server = Server(
        tmp_path, WEBHOOK_FAILURES_PER_MINUTE=str(limit), TRUST_PROXY="1", PUBLIC_URL=""
    )
    body = stripe_body(x="x" * 20_000)
    wrong = b"Stripe-Signature: " + signature(body, secret=SECRET + "wrong").encode()
    garbage = head("/webhooks/stripe", wrong, sized(body), b"X-Forwarded-For: 8.8.8.8")
    garbage += b"\r\n" + body
    began = time.monotonic()
    ends = began + 5.0

    def flood(_: int) -> Counter[int]:
        seen: Counter[int] = Counter()
        while time.monotonic() < ends:
            seen[server.send(garbage).status] += 1
        return seen

    try:
        with ThreadPoolExecutor(threads) as pool:
            floods = pool.map(flood, range(threads))
            genuine: list[int] = []
            while time.monotonic() < ends:
                request = delivery(stripe_body(id=f"evt_genuine_{len(genuine)}"))
                genuine.append(server.send(request).status)
            answers = sum(floods, Counter[int]())
        stored = server.rows("SELECT count(*) FROM webhooks_webhookevent")[0][0]
    finally:
        server.stop()
    took = time.monotonic() - began
    assert set(answers) == {401, 429}
    # each process has a bucket of its own, and those that came together may fail together
    assert answers[401] <= processes * (limit * (1 + took / 60) + threads + 1)
    assert answers[429] > answers[401]
    assert set(genuine) == {200}
    assert stored == len(genuine)
