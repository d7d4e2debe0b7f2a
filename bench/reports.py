"""What a benchmark has found, as a person reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


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


def goal(met: bool) -> str:
    return "goal met" if met else "goal not met"
