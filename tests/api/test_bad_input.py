"""Every field of every body, given everything that it must not be: a 4xx problem each time, with a
pointer to the field, and nothing stored."""

from __future__ import annotations

import json
from typing import Any

import pytest

from api.bodies import MAX_BYTES
from api.models import IdempotentRequest
from outbound.models import OutboundCall
from tests.api.conftest import PAYMENT, Caller, pointers, problem
from tests.api.doors import POSTS, WRITES, fields_of, filled
from tests.api.rows import make_call
from tests.webhooks.rows import make_event
from webhooks.states import EventStatus

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("routes")]

DEEP: Any = 1
for _ in range(500):
    DEEP = [DEEP]

ALWAYS_WRONG: list[Any] = [1.5, 1e30, -1, 10**30, [], [1], {"a": 1}, DEEP]
WRONG_TEXT: list[Any] = [*ALWAYS_WRONG, 0, 1, True, "", "a\x00b", "\ud800", "x" * 100_000]
WRONG_NUMBER: list[Any] = [
    *ALWAYS_WRONG, 0, True, False, "", "1", "2000", 2000.0, 100_000_000, 10**199, "\x00",
    "\ud800",
]  # fmt: skip
WRONG_FLAG: list[Any] = [*ALWAYS_WRONG, 0, 1, "", "true", "\ud800"]
WRONG_METADATA: list[Any] = [
    *ALWAYS_WRONG[:-2], DEEP, 0, True, "", "a", [["a", "b"]], {"a": None}, {"a": {"b": "c"}},
    {"a": True}, {"": "x"}, {"a" * 41: "x"}, {"a": "x" * 501}, {"a[b]": "x"},
    {str(number): "x" for number in range(51)}, {"a": "\x00"}, {"\x00": "a"}, {"a": "\ud800"},
    {"holdfast_call": "mine"},
]  # fmt: skip
WRONG_IDS: list[Any] = [
    *WRONG_TEXT,
    "x",
    "pi_",
    "pi_../x",
    "pi_é",
    "pi_a b",
    "pi_" + "x" * 201,
    "pi_1\n",
]

WRONG_CONTENT: list[Any] = [*ALWAYS_WRONG, 0, 1, True, "a\x00b", "\ud800"]
WRONG_LINE: list[Any] = [*WRONG_TEXT, "a\nb", "a\r\nBcc: b@example.com"]
WRONG_PEOPLE: list[Any] = [*WRONG_LINE, "nobody", ["nobody"], ["\ud800"], [None], [["a@b.c"]]]
WRONG_NAMES: list[Any] = [
    *ALWAYS_WRONG[:-2], DEEP, 0, True, "", "a", [["a", "b"]], {"a": None}, {"a": True},
    {"": "x"}, {"x" * 300: "x"}, {"a": "\x00"}, {"\x00": "a"}, {"a": "\ud800"}, {"\ud800": "a"},
    {f"a{number}": "x" for number in range(60)},
]  # fmt: skip
WRONG_FILES: list[Any] = [
    *ALWAYS_WRONG[:4], [1], {"a": 1}, DEEP, True, "a", [{}], [{"name": "a"}],
    [{"name": "a", "content": "no base64"}], [{"name": "", "content": ""}],
    [{"name": "\ud800", "content": ""}], [{"name": "a", "content": "\ud800"}],
    [{"name": "a", "content": "", "content_type": "\ud800/x"}],
    [{"name": "a", "content": "", "content_id": "\ud800"}], [{"name": "a", "content": "", "b": 1}],
]  # fmt: skip
WRONG_RECIPIENTS: list[Any] = [
    *ALWAYS_WRONG, True, "", "a@b.c", [None], [{}], ["a@b.c"], [{"address": 1}],
    [{"address": "nobody"}], [{"address": "\ud800@b.c"}], [{"address": "a@b.c", "name": 1}],
    [{"address": "a@b.c", "variables": {"name": 1}}], [{"address": "a@b.c", "b": 1}],
    [{"address": "a@b.c", "variables": {"name": "\ud800"}}],
]  # fmt: skip

Field = tuple[str, list[Any], bool]  # name, wrong values, required

BODIES: dict[str, tuple[dict[str, Any], list[Field]]] = {
    "/payment-intents": (
        PAYMENT,
        [
            ("amount", WRONG_NUMBER, True),
            ("currency", [*WRONG_TEXT, "us", "xxx", "usdd", "u$d", "\u017fek", " usd"], True),
            ("customer", [*WRONG_IDS, "pi_1", "cus_1\n"], False),
            ("payment_method", WRONG_IDS, False),
            ("confirm", WRONG_FLAG, False),
            ("capture_method", [*WRONG_TEXT, "later"], False),
            ("description", WRONG_TEXT, False),
            ("metadata", WRONG_METADATA, False),
            ("reference", WRONG_TEXT, False),
        ],
    ),
    "/customers": (
        {"email": "jo@example.com"},
        [
            (
                "email",
                [*WRONG_TEXT, "jo", "@", "a b@c", "jo@", "a@" + "x" * 300, "\ud800@x", "a@b\n"],
                True,
            ),
            ("name", [*WRONG_TEXT, "x" * 257], False),
            ("description", WRONG_TEXT, False),
            ("metadata", WRONG_METADATA, False),
            ("reference", WRONG_TEXT, False),
        ],
    ),
    "/refunds": (
        {"payment_intent": "pi_1"},
        [
            ("payment_intent", WRONG_IDS, True),
            ("amount", WRONG_NUMBER, False),
            ("reason", [*WRONG_TEXT, "because"], False),
            ("metadata", WRONG_METADATA, False),
            ("reference", WRONG_TEXT, False),
        ],
    ),
    "/payment-intents/{payment_intent}/cancel": ({}, [("reason", [*WRONG_TEXT, "because"], False)]),
    "/emails": (
        WRITES["/emails"],
        [
            ("to", WRONG_PEOPLE, True),
            ("cc", WRONG_PEOPLE, False),
            ("bcc", WRONG_PEOPLE, False),
            *(
                EMAIL := [
                    ("subject", WRONG_LINE, True),
                    ("text", WRONG_CONTENT, False),
                    ("html", WRONG_CONTENT, False),
                    ("from", [*WRONG_LINE, "nobody", ["a@b.c"]], False),
                    ("reply_to", WRONG_PEOPLE, False),
                    ("headers", [*WRONG_NAMES, {"Bcc": "b@c.d"}, {"X-A": "a\nb"}], False),
                    (
                        "tags",
                        [*ALWAYS_WRONG[:4], [1], {"a": 1}, DEEP, True, "a", [""], ["\ud800"]],
                        False,
                    ),
                    ("metadata", WRONG_NAMES, False),
                    ("attachments", WRONG_FILES, False),
                    ("reference", WRONG_TEXT, False),
                ]
            ),
        ],
    ),
    "/bulk-emails": (
        WRITES["/bulk-emails"],
        [
            ("recipients", WRONG_RECIPIENTS, True),
            ("variables", [*WRONG_NAMES[:-1], {"Name": "x"}], False),
            *EMAIL,
        ],
    ),
    "/sms": (
        WRITES["/sms"],
        [
            ("to", [*WRONG_LINE, "015005550006", "+1", ["+15005550006"]], True),
            ("body", WRONG_TEXT, True),
            ("from", [*WRONG_LINE, "a name that is long"], False),
            ("reference", WRONG_TEXT, False),
        ],
    ),
    "/push": (
        WRITES["/push"],
        [
            ("token", [*WRONG_LINE, "a b"], True),
            ("title", [v for v in WRONG_TEXT if v != ""], False),
            ("body", [v for v in WRONG_TEXT if v != ""], False),
            ("data", WRONG_NAMES, False),
            ("image_url", [v for v in WRONG_TEXT if v != ""], False),
            ("collapse_key", [v for v in WRONG_LINE if v != ""], False),
            ("ttl_seconds", [*ALWAYS_WRONG, True, "", "1", 1.0, 10_000_000], False),
            ("urgent", WRONG_FLAG, False),
            ("reference", WRONG_TEXT, False),
        ],
    ),
    "/calls/{call_id}/retry": (
        {},
        [("as_new", WRONG_FLAG, False), ("reason", WRONG_TEXT, False)],
    ),
    "/calls/{call_id}/cancel": ({}, [("reason", WRONG_TEXT, False)]),
    "/events/{event_id}/replay": ({}, [("reason", WRONG_TEXT, False)]),
}
FIELDS = [
    pytest.param(path, good, field, id=f"{path} {field[0]}")
    for path, (good, fields) in BODIES.items()
    for field in fields
]


@pytest.fixture
def addressed() -> dict[str, str]:
    """Rows that could be retried, cancelled or replayed, if only the body were right."""
    event = make_event(status=EventStatus.FAILED)
    return {"call_id": str(make_call(status="failed").pk), "event_id": str(event.pk)}


@pytest.mark.parametrize("path", POSTS)
def test_no_field_is_missing_here(path: str) -> None:
    """Every field of every body is in the table."""
    _, fields = BODIES[path]
    assert {name for name, _, _ in fields} == fields_of(path)


@pytest.mark.parametrize("path, good, field", FIELDS)
def test_wrong_values(
    desk: Caller, addressed: dict[str, str], path: str, good: dict[str, Any], field: Field
) -> None:
    """422 that points to the field, or into it."""
    name, wrong, required = field
    address = filled(path, **addressed)
    before = OutboundCall.objects.values().get()
    for value in [*wrong, *([None] if required else [])]:
        found = problem(desk.write(address, {**good, name: value}), 422)
        assert all(p == f"/{name}" or p.startswith(f"/{name}/") for p in pointers(found)), value
        assert len(json.dumps(found)) < 10_000
    if required:
        rest = {key: value for key, value in good.items() if key != name}
        assert pointers(problem(desk.write(address, rest), 422)) == [f"/{name}"]
    assert IdempotentRequest.objects.count() == 0
    assert OutboundCall.objects.values().get() == before


@pytest.mark.parametrize("path", BODIES)
def test_unknown_fields(desk: Caller, addressed: dict[str, str], path: str) -> None:
    """422 with a pointer to each, however odd and however many they are."""
    good, _ = BODIES[path]
    address = filled(path, **addressed)
    found = problem(desk.write(address, {**good, "Amount": 1, "a/b~c": 1}), 422)
    assert sorted(pointers(found)) == ["/Amount", "/a~1b~0c"]
    many = {f"field{number}": number for number in range(5000)}
    assert len(pointers(problem(desk.write(address, {**good, **many}), 422))) == 20
    problem(desk.write(address, {**good, "\ud800": 1}), 422)
    long = pointers(problem(desk.write(address, {**good, "x" * 100_000: 1}), 422))
    assert len(long[0]) <= 200


NO_BODIES = [
    (b"{", 400),
    (b"nonsense", 400),
    (b"\xff\xfe{}", 400),
    (b'{"a": "\xff"}', 400),
    (b"\xef\xbb\xbf{}", 400),
    ('{"a": 1}'.encode("utf-16"), 400),
    (b'{"amount": NaN}', 400),
    (b'{"amount": Infinity}', 400),
    (b'{"amount": ' + b"9" * 5000 + b"}", 400),
    (b'{"amount": 1, "amount": 2}', 400),
    (b'{"amount": 1, "\\u0061mount": 1}', 400),
    (b'{"metadata": {"a": "b", "a": "c"}}', 400),
    (b'{"amount": 1} {}', 400),
    (b'{"description": "a\nb"}', 400),
    (b"[" * 200_000, 400),
    (b'{"a":' * 50_000 + b"1" + b"}" * 50_000, 400),
    (b"\x00", 400),
    (b" ", 400),
    (b"[]", 422),
    (b"1", 422),
    (b'"a"', 422),
    (b"true", 422),
    (b" " * (MAX_BYTES + 1), 413),
    (b'{"a": "' + b"x" * 3_000_000 + b'"}', 413),
]


@pytest.mark.parametrize("path", BODIES)
def test_bodies_that_are_none(desk: Caller, addressed: dict[str, str], path: str) -> None:
    """Malformed 400, too large 413, not an object 422."""
    for raw, status in NO_BODIES:
        found = problem(desk.write(filled(path, **addressed), raw=raw), status)
        if status == 422:
            assert pointers(found) == [""]


@pytest.mark.parametrize("path", [path for path in WRITES if not path.endswith("/cancel")])
@pytest.mark.parametrize("raw", [b"", b"null"])
def test_no_body_where_one_is_needed(desk: Caller, path: str, raw: bytes) -> None:
    """422: the whole of it is missing."""
    assert pointers(problem(desk.write(path, raw=raw), 422)) == [""]


NOT_JSON = [
    "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
    "application/jsonp", "application/json; charset=latin-1", "nonsense", "\x00",
]  # fmt: skip


@pytest.mark.parametrize("path", BODIES)
def test_content_types(desk: Caller, addressed: dict[str, str], path: str) -> None:
    """415, whatever the body says."""
    for content_type in NOT_JSON:
        address = filled(path, **addressed)
        problem(desk.write(address, BODIES[path][0], content_type=content_type), 415)


@pytest.mark.parametrize(
    "content_type",
    ["application/json; charset=utf-8", "application/json;charset=UTF-8", "Application/JSON"],
)
def test_spellings_of_the_right_content_type(desk: Caller, content_type: str) -> None:
    """Case and charset do not matter."""
    answer = desk.write("/payment-intents", PAYMENT, content_type=content_type)
    assert answer.status_code == 202


@pytest.mark.parametrize("length", ["x", "-1", "1e3", "9" * 5000])
def test_lengths_that_are_none(desk: Caller, length: str) -> None:
    """400, or 413 for what no body can have."""
    answer = desk.write("/payment-intents", PAYMENT, content_length=length)
    problem(answer, 413 if length.isdigit() else 400)


def test_currencies_are_lower_cased(desk: Caller) -> None:
    """A known ISO code in any case."""
    assert desk.write("/payment-intents", {**PAYMENT, "currency": "EUR"}).status_code == 202
    assert OutboundCall.objects.get().payload["currency"] == "eur"


def test_null_is_absent_where_a_field_is_optional(desk: Caller) -> None:
    """As many writers of JSON send it."""
    body = {**PAYMENT, "customer": None, "metadata": None, "reference": None}
    assert desk.write("/payment-intents", body).status_code == 202
