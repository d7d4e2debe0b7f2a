"""Faults that take time: latency, drip, hang."""

from __future__ import annotations

from sandbox.faults.fault import Fault
from sandbox.fields import Fields
from sandbox.sending import Manner, Reply

DAY = 24 * 3600.0


def read_latency(fields: Fields) -> Fault:
    """Answer after `seconds`. `where`: before_effect (the default; the key is in use meanwhile, and
    the effect comes even if nobody waits any more) or after_effect."""
    fields.require("seconds")
    seconds = fields.number("seconds", 0.0, most=DAY)
    where = fields.text("where", "before_effect", choices=("before_effect", "after_effect"))
    if where == "before_effect":
        return Fault("latency", wait_before=seconds)
    return Fault("latency", wait_after=seconds)


def read_drip(fields: Fields) -> Fault:
    """One byte every `seconds` (0.5), in `part`: body (the default) or headers."""
    seconds = fields.number("seconds", 0.5, most=DAY)
    headers = fields.text("part", "body", choices=("body", "headers")) == "headers"
    return Fault("drip", manner=Manner(drip="headers" if headers else "body", seconds=seconds))


def read_hang(fields: Fields) -> Fault:
    """Never answer. `effect`: it happens nevertheless (false). `seconds`: close then; otherwise
    the peer has to."""
    silence = Reply(None, hang=fields.number("seconds", None, most=DAY))
    if fields.flag("effect", False):
        return Fault("hang", silence=silence)
    return Fault("hang", instead=lambda _met: silence)
