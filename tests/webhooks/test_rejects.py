"""Refusals are counted, all of them, and logged, a few of them."""

from __future__ import annotations

from structlog.testing import capture_logs

from webhooks.errors import BodyTooLarge, InvalidSignature, MissingSignature, UnknownSource
from webhooks.rejects import RejectCounter

WINDOW = 60.0


class Seconds:
    """A monotonic clock, turned by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_every_refusal_is_counted() -> None:
    """By source and kind."""
    counter = RejectCounter(samples=1)
    for _ in range(3):
        counter.note("stripe", InvalidSignature("x"))
    counter.note("stripe", MissingSignature("x"))
    counter.note("other", BodyTooLarge("x"))
    assert counter.counts == {
        ("stripe", "wrong_signature"): 3,
        ("stripe", "no_signature"): 1,
        ("other", "too_large"): 1,
    }


def test_names_that_anybody_makes_up_share_one_place() -> None:
    """The counter does not grow with what is asked for."""
    counter = RejectCounter()
    for number in range(1000):
        counter.note(f"source-{number}", UnknownSource("x"))
    assert counter.counts == {("", "unknown_source"): 1000}


def test_a_few_lines_per_window() -> None:
    """In the next window lines are written again, and the first says how many were not."""
    seconds = Seconds()
    counter = RejectCounter(samples=2, window=WINDOW, monotonic=seconds)
    with capture_logs() as lines:
        for _ in range(10):
            counter.note("stripe", InvalidSignature("the signature does not match"))
        seconds.now += WINDOW - 0.1
        counter.note("stripe", InvalidSignature("x"))
        assert len(lines) == 2
        seconds.now += 0.1
        counter.note("stripe", InvalidSignature("x"))
        counter.note("stripe", InvalidSignature("x"))
    assert [line["silenced_before"] for line in lines] == [0, 0, 9, 0]
    assert lines[0]["status"] == 401
    assert lines[0]["kind"] == "wrong_signature"
