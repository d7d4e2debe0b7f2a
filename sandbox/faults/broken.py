"""Faults of the connection and of what comes over it: drops, bodies, headers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sandbox.faults.fault import Fault, Met
from sandbox.faults.headers import read_headers
from sandbox.fields import Fields
from sandbox.sending import Manner, Part, Reply
from sandbox.wire import Answer

MIB = 2**20
CUTS: dict[str, Part | None] = {"before_answer": None, "in_headers": "headers", "in_body": "body"}
BODIES: dict[str, Callable[[bytes], bytes]] = {
    "malformed": lambda body: body[: len(body) // 2],
    "empty": lambda _body: b"",
    "not_object": lambda _body: b'["not", "an object"]',
    "html": lambda _body: b"<html><body><h1>502 Bad Gateway</h1></body></html>",
}


def read_drop_before_effect(fields: Fields) -> Fault:
    """Take the request and end the connection; nothing happens. `how`: reset or close."""
    end = Reply(None, Manner(reset=_reset(fields)))
    return Fault("drop_before_effect", instead=lambda _met: end)


def read_drop_after_effect(fields: Fields) -> Fault:
    """It happens and is stored, then the connection ends. `when`: before_answer, in_headers or
    in_body; `how`: reset or close."""
    cut = CUTS[fields.text("when", "before_answer", choices=CUTS)]
    manner = Manner(cut=cut, reset=_reset(fields))
    silence = None if cut else Reply(None, manner)
    return Fault("drop_after_effect", manner=manner, silence=silence)


def read_body(fields: Fields) -> Fault:
    """It happens and is stored, but what comes back cannot be used. `shape`: malformed, empty,
    not_object, html, truncated (shorter than Content-Length) or oversized (`size` bytes, 8 MiB)."""
    shape = fields.text("shape", "malformed", choices=(*BODIES, "truncated", "oversized"))
    size = fields.integer("size", 8 * MIB, least=1, most=256 * MIB)

    def sent(answer: Answer, _met: Met) -> Answer:
        if shape == "oversized":
            return replace(answer, body=answer.body.ljust(size))
        kind = "text/html" if shape == "html" else answer.content_type
        return replace(answer, body=BODIES[shape](answer.body), content_type=kind)

    if shape == "truncated":
        return Fault("body", manner=Manner(cut="body"))
    return Fault("body", sent=sent)


def read_with_headers(fields: Fields) -> Fault:
    """The true answer with other headers. `headers`, `should_retry`."""
    headers = read_headers(fields)
    return Fault("headers", sent=lambda answer, _met: answer.with_headers(headers))


def _reset(fields: Fields) -> bool:
    return fields.text("how", "reset", choices=("reset", "close")) == "reset"
