"""What a benchmark has found, as a person reads it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.measuring import quartiles

Cells = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """A small table. `failures`: what must never be, and was; a time that misses its goal is no
    failure, for machines differ."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    failures: Sequence[str] = ()

    def lines(self) -> list[str]:
        return [
            self.title,
            *(f"  {line}" for line in columns([self.header, *self.rows])),
            *(f"  {note}" for note in self.notes),
            *(f"  FAILED: {failure}" for failure in self.failures),
        ]


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the cells below each other: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def rated(name: str, rates: Sequence[float], base: Sequence[float], least: float) -> Cells:
    """A row about what is done in a second, round by round: the rate, its ratio to `base` in a
    typical round and in half of them, and whether that is `least`. `base` may be `rates`."""
    low, typical, high = quartiles([rate / bare for rate, bare in zip(rates, base, strict=True)])
    itself = rates is base
    return (
        name,
        f"{statistics.median(rates):.0f}",
        f"{typical:.2f}",
        "" if itself else f"{low:.2f} to {high:.2f}",
        "" if itself else goal(typical >= least),
    )


def goal(met: bool) -> str:
    return "goal met" if met else "goal not met"
