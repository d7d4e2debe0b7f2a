"""The environment in which the tests, and the processes they start, see the project."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

ROOT = Path(__file__).resolve().parents[2]

# What a process needs to run at all. An allow-list: a variable that the settings learn to read
# tomorrow cannot leak in from a developer's shell either, nor can a proxy.
KEPT = re.compile(
    r"PATH|HOME|USER|LOGNAME|SHELL|LANG|LC_\w+|TZ|TMPDIR|LD_LIBRARY_PATH|VIRTUAL_ENV|PYTHON\w*"
    r"|TERM|COLUMNS|LINES|NO_COLOR|FORCE_COLOR|CI|PYTEST\w*|PY_COLORS|COV\w*|HYPOTHESIS\w*"
    r"|TEST_DATABASE_URL|TEST_BROKER_URL|REQUIRE_SERVICES"
)

ENCRYPTION_KEY = base64.urlsafe_b64encode(b"a key that only these tests have").decode()
STRIPE_KEY = "sk_test_holdfast"
WEBHOOK_SECRET = "whsec_holdfast_tests"
NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody answers, nothing leaves this machine


def kept(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that have nothing to do with the project."""
    return {name: value for name, value in environment.items() if KEPT.fullmatch(name)}


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"


def with_option(url: str, name: str, value: str) -> str:
    """The URL of the same database, with one option of its connections more."""
    return f"{url}{'&' if urlsplit(url).query else '?'}{name}={quote(value)}"


def project_environment(
    *, state: Path, database_url: str, broker_url: str = "memory://"
) -> dict[str, str]:
    """Every variable that the tests set, as in production but for the secrets."""
    return {
        "DEBUG": "0",
        "SECRET_KEY": "only-for-tests-0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJ",
        "FIELD_ENCRYPTION_KEYS": ENCRYPTION_KEY,
        "ALLOWED_HOSTS": "127.0.0.1,localhost",
        "ALLOW_HTTP_PROVIDERS": "127.0.0.1",
        "STATE_DIR": str(state),
        "DATABASE_URL": database_url,
        "CELERY_BROKER_URL": broker_url,
        "EMBEDDED": "1" if broker_url == "memory://" else "0",
        "CATCH_UP": "0",  # or it would be a call that no test has asked for
        "WEBHOOK_FAILURES_PER_MINUTE": "1000000",  # tests fail to prove themselves all day
        "STRIPE_SECRET_KEY": STRIPE_KEY,
        "STRIPE_API_BASE": NOWHERE,
        "STRIPE_WEBHOOK_SECRETS": WEBHOOK_SECRET,
    }
