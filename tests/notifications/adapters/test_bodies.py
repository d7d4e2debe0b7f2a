"""Forms against those of `requests`."""

from __future__ import annotations

import pytest
import requests

from notifications.adapters.bodies import File, encode_form
from tests.notifications.adapters.oracles import form_of

FIELDS = {"a b": 'x"&=ü\r\n', "to": ["one", "two"], "": "", 'q"': "%"}
FILES: list[File] = [
    ("attachment", ('we"ird ü\r\n.txt', b"--x\r\n\x00", "text/plain; charset=utf-8")),
    ("attachment", ("b", b"", "a/b")),
]


@pytest.mark.parametrize("files", [[], FILES])
def test_like_requests(files: list[File]) -> None:
    """The same parts in the same order."""
    kind, body = encode_form(FIELDS, files, seed="s")
    oracle = requests.Request("POST", "https://x.example", data=FIELDS, files=files).prepare()
    assert isinstance(oracle.body, bytes | str)
    theirs = oracle.body if isinstance(oracle.body, bytes) else oracle.body.encode()
    assert form_of(kind, body) == form_of(oracle.headers["Content-Type"], theirs)


def test_same_seed_same_bytes() -> None:
    """A boundary is not drawn: the same key sends the same bytes."""
    one, other = (encode_form(FIELDS, FILES, seed="s") for _ in range(2))
    assert one == other
    assert encode_form(FIELDS, FILES, seed="t") != one
