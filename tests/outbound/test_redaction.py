"""What may be read: planted secrets never survive, and no text takes long."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from outbound.redaction import HIDDEN, MORE, SUMMARY_CHARACTERS, sanitise, storable, visible

CANARY = "canary"

# Each holds the canary where the secret is.
SECRETS = [
    "sk_test_51canary0",
    "sk_live_canary",
    "rk_live_canary",
    "pk_test_canary",
    "whsec_canary+/=",
    "pi_3N_secret_canary",
    "Bearer canary.x-y~z",
    "Authorization: Basic canary==",
    "authorization: bearer canary",
    "https://canary:x@api.example.com/v1",
    "https://x:canary@api.example.com/v1",
    "https://x:a/canary@api.example.com/v1?x",
    "https://api.example.com/v1?token=canary",
    "postgres://db/name#canary",
    "/v1/things?api_key=canary&x=1",
    "api_key=canary",
    "password: canary",
    '"secret": "canary"',
    "canary@example.com",
    "o'canary+tag@mail.example.co.uk",
    "canary%40x@example.com",
    f"canary{'x' * 100}@example.com",
    "a@example.com+canary@example.com",
    "1://x:canary@api.example.com/v1",
]
NUMBERS = ["4242424242424242", "4242 4242 4242 4242", "3782-822463-10005", "+1 (555) 010-9999"]

GLUE = st.text(alphabet=string.ascii_letters + string.digits + " .,:;|\n\t-", max_size=60)


@pytest.mark.parametrize("secret", SECRETS)
@given(before=GLUE, after=GLUE)
@settings(max_examples=30)
@example(before="", after="")
@example(before="failed: ", after=".")
def test_planted_secrets_never_survive(secret: str, before: str, after: str) -> None:
    """Whatever stands around it, a secret of a known shape is gone, and the rest stays short."""
    assert CANARY not in sanitise(f"{before} {secret} {after}")


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("template", ["{}", "card {} was declined", "to {}.", "({})", "'{}',"])
def test_numbers_of_people(number: str, template: str) -> None:
    """Card and telephone numbers are gone, also before a full stop."""
    assert number not in sanitise(template.format(number))
    assert HIDDEN in sanitise(template.format(number))


@pytest.mark.parametrize("prefix", ["x", "key_", "0"])
@pytest.mark.parametrize("secret", ["sk_live_canary", "whsec_canary", "pi_secret_canary"])
def test_secrets_inside_words(prefix: str, secret: str) -> None:
    """A key is found in the middle of a word, too."""
    assert CANARY not in sanitise(prefix + secret)


@pytest.mark.parametrize(
    "text",
    [
        "the card was declined",
        "stripe: no connection within 3 s; nothing was sent",
        "No such payment_intent: 'pi_3MtwBwLkdIwHu7ix28a3tqPa'",
        "https://api.stripe.com/v1/refunds",
        "HTTP 503 after 1500 ms, attempt 3 of 9",
        "call 01932c07-2b1e-7aaa-8000-0123456789ab",
        "2026-11-24T02:30:00.123456+00:00",
        "the price is 1234567890123.45",
    ],
)
def test_plain_words_stay(text: str) -> None:
    """What explains a failure is kept as it is."""
    assert sanitise(text) == text


def test_rows_that_postgresql_quotes() -> None:
    """The row that broke a constraint stays out; the constraint's name does not."""
    text = 'duplicate key value violates "name_once"\nDETAIL:  Key (name)=(canary) exists.\nEND'
    assert sanitise(text) == 'duplicate key value violates "name_once"\nDETAIL: [hidden]\nEND'


def test_urls_keep_where_they_lead() -> None:
    """Of a URL the host and the path remain."""
    assert (
        sanitise("GET http://u:p@host:8080/a/b?c=d#e failed") == "GET http://host:8080/a/b failed"
    )


@given(st.text(max_size=3000), st.integers(min_value=2, max_value=600))
def test_bounds(text: str, limit: int) -> None:
    """The result fits its column and the encoding of any database, whatever went in."""
    found = sanitise(text, limit=limit)
    assert len(found) <= limit
    assert "\x00" not in found
    found.encode()


def test_truncation_is_visible() -> None:
    """A cut text says so."""
    assert sanitise("word " * 1000, limit=20) == "word word word word" + MORE


def test_a_secret_across_the_cut() -> None:
    """Half a secret, which looks like none, is not what the cut leaves."""
    query = "?" + "x" * 3900  # goes, so that what follows would be in reach
    text = f"https://api.example.com/{query} reported by {'canary.' * 20}@example.com"
    assert len(text[:4000]) == 4000
    assert "@" not in text[:4000]
    assert sanitise(text) == "https://api.example.com/ reported by"


HOSTILE = [
    "a", "0", "a.", "a@", "1 ", "a://", "?a", "bearer ", "basic\t", "x_secret", "+1", "\xe9",
    "token=", "token:  ", "a@b.", "://", "sk_live", "\x00", "@", "-", "%",
]  # fmt: skip


@pytest.mark.parametrize("bite", HOSTILE)
def test_hostile_length(bite: str, patience: Any) -> None:
    """A megabyte built to make a pattern backtrack is done with, as a message and as a log line
    with a traceback. A pattern that is quadratic would take minutes."""
    text = bite * (1_000_000 // len(bite))
    with patience(seconds=20):
        sanitise(text)
        sanitise(text, limit=20_000)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(["id", "status", "name", "list"]), inner, max_size=4)
        ),
        max_leaves=20,
    )
)
def test_summaries_can_be_stored(document: Any) -> None:
    """Any document becomes strict JSON without NUL."""
    text = json.dumps(visible(document, {"id", "status"}), allow_nan=False)
    assert "\\u0000" not in text


def test_only_allowed_names_are_shown() -> None:
    """Names stay, values only where they are allowed, at every depth; lists are hidden."""
    document = {
        "id": "x1",
        "email": "a@example.com",
        "amount": 5,
        "paid": True,
        "none": None,
        "items": [{"id": "secret"}],
        "card": {"id": "c1", "number": "4242"},
        "id_list": ["a"],
    }
    assert visible(document, {"id", "amount", "paid", "id_list"}) == {
        "id": "x1",
        "email": HIDDEN,
        "amount": 5,
        "paid": True,
        "none": None,
        "items": HIDDEN,
        "card": {"id": "c1", "number": HIDDEN},
        "id_list": HIDDEN,
    }


def test_allowed_values_are_sanitised_too() -> None:
    """An allowed field is no way out for a key."""
    assert visible({"id": "see sk_live_canary"}, {"id"}) == {"id": f"see {HIDDEN}"}
    assert CANARY not in str(visible({"canary@example.com": 1}, set()))


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 10**400, -(10**30)])
def test_numbers_that_no_column_holds(number: float) -> None:
    """NaN, infinities and huge numbers are hidden."""
    assert visible({"id": number}, {"id"}) == {"id": HIDDEN}


def test_no_document() -> None:
    """What is no object is hidden whole."""
    assert [visible(x, {"id"}) for x in ("id", 5, None, ["id"])] == [HIDDEN] * 4


def test_a_summary_is_small() -> None:
    """Neither many names, nor deep nesting, nor long values make a summary large."""
    wide = {f"n{i}": "v" * 1000 for i in range(1000)}
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {"d": deep, "id": "x"}
    bushy: Any = "leaf"
    for _ in range(6):
        bushy = {f"n{i}": bushy for i in range(40)}
    for document in (wide, deep, bushy):
        text = json.dumps(visible(document, {"id", *wide}))
        assert len(text) < 3 * SUMMARY_CHARACTERS
    assert visible(wide, set())[MORE] == HIDDEN


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b", "a\x1bb"])
def test_storable(text: str) -> None:
    """What a column cannot hold is replaced, and the rest cut."""
    assert storable(text) == "a\N{REPLACEMENT CHARACTER}b"
    assert storable("x" * 300) == "x" * 255
    assert storable("4242424242424242 a@example.com") == "4242424242424242 a@example.com"
