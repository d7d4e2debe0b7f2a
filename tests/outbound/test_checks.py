"""`manage.py check` finds what is wrong in OUTBOUND_ADAPTERS, each kind under its own id."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from pytest_django import Settings

from outbound.adapters import Adapter, CallContext, Reply, operation
from tests.outbound.scripted import Item, Script, scripted_settings


class DemandingAdapter(Adapter):
    """Needs two variables."""

    required_options = {"API_KEY": "ACME_API_KEY", "SECRET": "ACME_SECRET"}  # noqa: RUF012

    @operation()
    def notify(self, payload: Item, context: CallContext) -> Reply:
        raise TypeError("never performed")


DEMANDING = f"{__name__}.DemandingAdapter"


def entry(**changes: Any) -> dict[str, Any]:
    return scripted_settings(Script(), **changes)


ROWS: list[tuple[Any, str, str]] = [
    ([], "E001", "OUTBOUND_ADAPTERS must be a dict"),
    (None, "E001", "OUTBOUND_ADAPTERS must be a dict"),
    ({"acme": None}, "E001", "'acme'] must be a dict"),
    ({"acme": "acme.Adapter"}, "E001", "must be a dict"),
    ({5: {}}, "E001", "must have a name"),
    ({"a" * 51: {}}, "E001", "1 to 50 characters"),
    (entry(QUEU="payments-v1"), "E001", "has an unknown key 'QUEU'"),
    ({"acme": {5: 1}}, "E001", "has an unknown key 5"),
    (entry(ADAPTER=None), "E001", "ADAPTER that is no text"),
    (entry(QUEUE=["payments-v1"]), "E001", "QUEUE that is no text"),
    (entry(OPTIONS=None), "E001", "OPTIONS that is no dict"),
    (entry(POLICY=[5]), "E001", "POLICY that is no dict"),
    (entry(OPERATIONS=["create"]), "E001", "OPERATIONS that is no dict"),
    (entry(ADAPTER=""), "E002", "cannot import ''"),
    (entry(ADAPTER="nowhere"), "E002", "cannot import 'nowhere'"),
    (entry(ADAPTER="nowhere.Adapter"), "E002", "cannot import"),
    (entry(ADAPTER="outbound.adapters.Adaptor"), "E002", "cannot import"),
    (entry(ADAPTER="outbound.adapters.Reply"), "E002", "is no Adapter"),
    (entry(ADAPTER="outbound.adapters.operation"), "E002", "is no Adapter"),
    ({"acme": {}}, "E002", "cannot import"),
    (entry(QUEUE="payments"), "E003", "QUEUE is no declared queue"),
    (entry(QUEUE=""), "E003", "QUEUE is no declared queue"),
    (entry(OPERATIONS={"creat": {}}), "E004", "OPERATIONS names an unknown 'creat'"),
    (entry(POLICY={"read_timeout": 100}), "E005", "timeouts must be in the order"),
    (entry(POLICY={"total_timeout": 31}), "E005", "shorter than the lease"),
    (entry(POLICY={"retries": 3}), "E005", "unknown policy setting 'retries'"),
    (entry(OPERATIONS={"create": {"jitter": 2}}), "E005", "'jitter' must be below 1"),
    (entry(OPERATIONS={"create": None}), "E005", "must be a dict"),
    (entry(OPTIONS={}), "E006", "SCRIPTED_SCRIPT is not set"),
    (entry(OPTIONS={"SCRIPT": ""}), "E006", "SCRIPTED_SCRIPT is not set"),
    (entry(ADAPTER=DEMANDING, OPTIONS={"API_KEY": "k"}), "E006", "ACME_SECRET is not set"),
]


@pytest.mark.parametrize("adapters,number,words", ROWS)
def test_provoked(adapters: Any, number: str, words: str, settings: Settings) -> None:
    """One mistake, one error: its id, and words that lead to the setting."""
    settings.OUTBOUND_ADAPTERS = adapters
    settings.OUTBOUND_LEASE_SECONDS = 30
    [error] = [e for e in run_checks() if (e.id or "").startswith("outbound.")]
    assert error.id == f"outbound.{number}"
    assert words in error.msg


def test_nothing_to_say(settings: Settings) -> None:
    """A sound entry passes, with and without the optional keys."""
    settings.OUTBOUND_ADAPTERS = {
        **entry(POLICY={"read_timeout": 8}, OPERATIONS={"create": {"schedule": (1, 5)}}),
        "acme": {
            "ADAPTER": DEMANDING,
            "QUEUE": "payments-v1",
            "OPTIONS": {"API_KEY": "k", "SECRET": "s"},
        },
    }
    assert [e for e in run_checks() if (e.id or "").startswith("outbound.")] == []


def test_every_missing_variable_is_named(settings: Settings) -> None:
    """All that is missing is said at once, with what to set."""
    settings.OUTBOUND_ADAPTERS = entry(ADAPTER=DEMANDING, OPTIONS={})
    errors = [e for e in run_checks() if e.id == "outbound.E006"]
    assert [e.hint for e in errors] == [
        "set ACME_API_KEY (or ACME_API_KEY_FILE), or remove the adapter",
        "set ACME_SECRET (or ACME_SECRET_FILE), or remove the adapter",
    ]


def test_one_bad_entry_does_not_hide_another(settings: Settings) -> None:
    """Each entry is checked by itself."""
    settings.OUTBOUND_ADAPTERS = {"a": None, "b": None, **entry(QUEUE="x")}
    found = sorted(e.id or "" for e in run_checks() if (e.id or "").startswith("outbound."))
    assert found == ["outbound.E001", "outbound.E001", "outbound.E003"]


def test_the_command_fails(settings: Settings) -> None:
    """`manage.py check` ends with a failure."""
    settings.OUTBOUND_ADAPTERS = entry(QUEUE="x")
    with pytest.raises(SystemCheckError, match=r"outbound\.E003"):
        call_command("check")
