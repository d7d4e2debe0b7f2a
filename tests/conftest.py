"""The session's database: a real one on disk, that threads and child processes see as well."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
from django.db import connections
from django.db.backends.postgresql.base import DatabaseWrapper
from django.test import TransactionTestCase
from hypothesis import settings
from pytest_django import DjangoDbBlocker

from tests.emptying import empty_database
from tests.services.discovery import Services

# A busy machine is slow, which is nobody's fault. `long` is for a night.
settings.register_profile("suite", deadline=None)
settings.register_profile("long", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))


@pytest.fixture(scope="session", autouse=True)
def no_recorder() -> Iterator[None]:
    """No thread that writes down what is refused, besides the tests' own transactions."""
    from webhooks.rejects import Recorder

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Recorder, "start", lambda recorder: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def static_files() -> Iterator[None]:
    """Found once, and not by every test client anew, which has a middleware of its own."""
    from whitenoise.middleware import WhiteNoiseMiddleware

    find = WhiteNoiseMiddleware.add_files_from_finders
    found: dict[tuple[str, int], dict[str, Any]] = {}

    def find_once(middleware: WhiteNoiseMiddleware) -> None:
        key = middleware.static_prefix, middleware.max_age
        if key not in found:
            find(middleware)
            found[key] = middleware.files
        middleware.files = found[key]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(WhiteNoiseMiddleware, "add_files_from_finders", find_once)
        yield


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> None:
    """Django's own choices are an in-memory database, and another name than DATABASE_URL has."""
    settings = connections["default"].settings_dict
    settings["TEST"]["NAME"] = str(settings["NAME"])


@pytest.fixture(scope="session")
def django_db_setup(
    django_db_setup: None, services: Services, django_db_blocker: DjangoDbBlocker
) -> Iterator[None]:
    """PostgreSQL drops no database that somebody uses: end what tests left connected."""
    with patch.object(TransactionTestCase, "_fixture_teardown", empty_database):
        yield
    with django_db_blocker.unblock():
        database = connections["default"]
        if isinstance(database, DatabaseWrapper):
            database.close()
            database.close_pool()
            services.postgres.get().disconnect(database.settings_dict["NAME"])
