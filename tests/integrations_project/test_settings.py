"""What settings.py makes of an environment."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from django.utils.module_loading import import_string

from outbound.client import check_url
from tests.integrations_project.loading import load, problems


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path


def test_nothing_set_is_a_production_that_refuses(state: Path) -> None:
    """DEBUG is off unless asked for, and what then is missing is for the checks to say."""
    bare = load(state, DEBUG=None, EMBEDDED=None, SECRET_KEY=None)
    assert bare.DEBUG is False
    assert bare.EMBEDDED is False
    assert bare.EMBEDDED_BROKER is True
    assert bare.SECRET_KEY == bare.DEFAULT_SECRET_KEY
    assert problems(bare) == {}


@pytest.mark.parametrize(
    "debug, broker, said, embedded",
    [
        ("1", "memory://", None, True),
        ("0", "memory://", None, False),
        ("0", "memory://", "1", True),
        ("1", "memory://", "0", False),
        ("1", "amqp://localhost//", None, False),
        ("0", "amqp://localhost//", None, False),
    ],
)
def test_embedded_is_implied_in_debug_only(
    state: Path, debug: str, broker: str, said: str | None, embedded: bool
) -> None:
    """A memory broker in DEBUG means it; elsewhere somebody has to say so."""
    found = load(state, DEBUG=debug, CELERY_BROKER_URL=broker, EMBEDDED=said)
    assert found.EMBEDDED is embedded
    assert found.EMBEDDED_BROKER is broker.startswith("memory")


class TestDatabases:
    def test_sqlite_has_all_that_it_needs_together(self, state: Path) -> None:
        """IMMEDIATE, WAL, a timeout and synchronous FULL: each alone ends in locked databases."""
        entry = load(state).DATABASES["default"]
        assert entry["ENGINE"] == "django.db.backends.sqlite3"
        options = entry["OPTIONS"]
        assert options["transaction_mode"] == "IMMEDIATE"
        assert options["timeout"] == 20
        connection = sqlite3.connect(entry["NAME"])
        connection.executescript(options["init_command"])
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        connection.close()

    def test_the_default_lies_in_the_state_folder(self, state: Path) -> None:
        """And the folder is made: the first command may be `migrate`."""
        folder = state / "new" / "folder"
        entry = load(state, STATE_DIR=str(folder), DATABASE_URL=None).DATABASES["default"]
        assert entry["NAME"] == str(folder / "holdfast.sqlite3")
        assert folder.is_dir()

    def test_postgresql_is_pooled(self, state: Path) -> None:
        """Celery closes connections after each task; the pool is as large as the worker."""
        url = "postgres://user:p%40ss@db.example:5433/holdfast"
        found = load(state, DATABASE_URL=url, WORKER_CONCURRENCY="24").DATABASES["default"]
        assert found["ENGINE"] == "django.db.backends.postgresql"
        assert (found["HOST"], found["PORT"], found["NAME"]) == ("db.example", 5433, "holdfast")
        assert found["PASSWORD"] == "p@ss"
        assert found["CONN_MAX_AGE"] == 0
        assert found["CONN_HEALTH_CHECKS"] is True
        pool = found["OPTIONS"]["pool"]
        assert (pool["min_size"], pool["max_size"]) == (2, 28)
        assert pool["timeout"] <= 5
        assert found["OPTIONS"]["connect_timeout"] <= 5

    def test_options_of_the_url_are_added(self, state: Path) -> None:
        """TLS to the database is asked for in its URL."""
        url = "postgres://user@db.example/holdfast?sslmode=verify-full&connect_timeout=1"
        options = load(state, DATABASE_URL=url).DATABASES["default"]["OPTIONS"]
        assert options["sslmode"] == "verify-full"
        assert options["connect_timeout"] == 1
        assert options["pool"]

    @pytest.mark.parametrize(
        "url, why",
        [
            (
                "mysql://u:hunter22@host/db",
                "must begin with postgres:// or sqlite:///, not 'mysql'",
            ),
            ("hunter22", "must begin with postgres:// or sqlite:///"),
            ("postgres://u:hunter22@host", "names no database"),
            ("postgres://u:hunter22@host:port/db", "is no URL"),
            ("postgres://u:[hunter22@host/db", "is no URL"),
            ("sqlite:///", "names no file"),
            ("sqlite://file.sqlite3", "names no file"),
        ],
    )
    def test_a_malformed_url_leaves_no_database(self, state: Path, url: str, why: str) -> None:
        """Rather none than another one: nothing may be written into a default by mistake."""
        found = load(state, DATABASE_URL=url)
        assert found.DATABASES == {"default": {}}
        detail = problems(found)["DATABASE_URL"]
        assert why in detail
        assert "hunter22" not in detail

    def test_a_folder_that_cannot_be_made(self, state: Path) -> None:
        """Is said by the variable's name."""
        (state / "file").touch()
        found = load(state, DATABASE_URL=f"sqlite:///{state}/file/db.sqlite3")
        assert "names a folder that cannot be made" in problems(found)["DATABASE_URL"]

    def test_times_are_utc(self, state: Path) -> None:
        """Rows hold moments, not local times."""
        found = load(state)
        assert (found.TIME_ZONE, found.USE_TZ, found.CELERY_TIMEZONE) == ("UTC", True, "UTC")


class TestTransport:
    """https, proxies, cookies."""

    def test_https_outside_of_debug(self, state: Path) -> None:
        """Redirects, HSTS, secure cookies."""
        found = load(state, PUBLIC_URL="https://holdfast.example", ALLOWED_HOSTS=None)
        assert found.SECURE_SSL_REDIRECT is True
        assert found.SECURE_HSTS_SECONDS > 0
        assert found.SESSION_COOKIE_SECURE is found.CSRF_COOKIE_SECURE is True
        assert found.ALLOWED_HOSTS == ["holdfast.example"]
        assert found.CSRF_TRUSTED_ORIGINS == ["https://holdfast.example"]

    @pytest.mark.parametrize(
        "debug, public_url, secure",
        [("1", "https://a.example", False), ("0", "http://a.example", False), ("0", "", True)],
    )
    def test_no_redirect_where_there_is_no_https(
        self, state: Path, debug: str, public_url: str, secure: bool
    ) -> None:
        """Cookies stay safe where nothing is known; a log-in over plain http must work."""
        found = load(state, DEBUG=debug, PUBLIC_URL=public_url)
        assert found.SECURE_SSL_REDIRECT is False
        assert found.SECURE_HSTS_SECONDS == 0
        assert found.SESSION_COOKIE_SECURE is secure

    def test_forwarded_headers_are_believed_only_when_said(self, state: Path) -> None:
        """Anybody can send X-Forwarded-Proto."""
        found = load(state)
        assert found.SECURE_PROXY_SSL_HEADER is None
        assert found.USE_X_FORWARDED_HOST is False
        behind = load(state, TRUST_PROXY="1")
        assert behind.SECURE_PROXY_SSL_HEADER == ("HTTP_X_FORWARDED_PROTO", "https")
        assert behind.USE_X_FORWARDED_HOST is True


class TestBroker:
    def test_confirms_and_timeouts_on_rabbitmq(self, state: Path) -> None:
        """Confirms are off by default, and wait for ever on a frozen broker without timeouts."""
        found = load(state, CELERY_BROKER_URL="amqp://localhost//", EMBEDDED=None)
        options = found.CELERY_BROKER_TRANSPORT_OPTIONS
        assert options["confirm_publish"] is True
        assert 0 < options["read_timeout"] <= 5
        assert 0 < options["write_timeout"] <= 5

    def test_the_embedded_broker_is_polled_often(self, state: Path) -> None:
        """The default of one second would run eight tasks a second."""
        assert load(state).CELERY_BROKER_TRANSPORT_OPTIONS == {"polling_interval": 0.02}

    def test_a_malformed_url_is_not_taken_for_embedded_in_debug(self, state: Path) -> None:
        """It stands in, and the checks refuse to go on."""
        assert "CELERY_BROKER_URL" in problems(load(state, CELERY_BROKER_URL="redis://host"))


OPTIONAL_SOURCES = {
    "github": "GITHUB_WEBHOOK_SECRETS",
    "mailgun": "MAILGUN_WEBHOOK_SIGNING_KEYS",
    "postmark": "POSTMARK_WEBHOOK_CREDENTIALS",
    "resend": "RESEND_WEBHOOK_SECRETS",
    "sendgrid": "SENDGRID_WEBHOOK_PUBLIC_KEYS",
    "slack": "SLACK_SIGNING_SECRETS",
    "standard": "STANDARD_WEBHOOK_SECRETS",
    "svix": "SVIX_WEBHOOK_SECRETS",
    "twilio": "TWILIO_AUTH_TOKENS",
}


class TestOptionalSources:
    """A source is there once its variable is set."""

    def test_none(self, state: Path) -> None:
        assert set(load(state).WEBHOOK_SOURCES) == {"stripe"}

    @pytest.mark.parametrize("name, variable", OPTIONAL_SOURCES.items())
    def test_one(self, state: Path, name: str, variable: str) -> None:
        """With the secrets of its list, each once, and a class that can be imported."""
        found = load(state, **{variable: "one, two,one"}).WEBHOOK_SOURCES
        assert set(found) == {"stripe", name}
        assert found[name]["OPTIONS"]["SECRETS"] == ["one", "two"]
        source = import_string(found[name]["SOURCE"])
        assert source.secret_variable == variable

    def test_the_token_that_sends_proves_as_well(self, state: Path) -> None:
        """Twilio signs with the auth token that our own requests show."""
        settings = load(state, TWILIO_AUTH_TOKEN="three", TWILIO_AUTH_TOKENS="one,three")
        assert settings.WEBHOOK_SOURCES["twilio"]["OPTIONS"]["SECRETS"] == ["one", "three"]
        found = load(state, TWILIO_AUTH_TOKEN="three").WEBHOOK_SOURCES
        assert found["twilio"]["OPTIONS"]["SECRETS"] == ["three"]

    def test_topics(self, state: Path) -> None:
        """Of Amazon SNS, with the adapter that confirms subscriptions to them."""
        topic = "arn:aws:sns:us-east-1:123456789012:t"
        settings = load(state, SNS_TOPIC_ARNS=f"{topic},{topic}")
        assert settings.WEBHOOK_SOURCES["sns"]["OPTIONS"] == {"TOPIC_ARNS": [topic]}
        assert import_string(settings.WEBHOOK_SOURCES["sns"]["SOURCE"])
        assert import_string(settings.OUTBOUND_ADAPTERS["sns"]["ADAPTER"])


OPTIONAL_SENDERS = {
    "fcm": {
        "FIREBASE_CREDENTIALS": json.dumps(
            dict.fromkeys(("project_id", "client_email", "private_key", "token_uri"), "x")
        ),
    },
    "mailgun": {"MAILGUN_API_KEY": "key", "MAILGUN_DOMAIN": "mg.example.com"},
    "postmark": {"POSTMARK_SERVER_TOKEN": "token"},
    "resend": {"RESEND_API_KEY": "key"},
    "sendgrid": {"SENDGRID_API_KEY": "key"},
    "ses": {
        "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_REGION": "eu-west-1",
    },
    "smtp": {"EMAIL_HOST": "mail.example.com"},
    "twilio": {"TWILIO_AUTH_TOKEN": "token", "TWILIO_ACCOUNT_SID": "AC1"},
}  # fmt: skip


class TestOptionalSenders:
    """An adapter is there once its secret is set; the console always."""

    def test_none(self, state: Path) -> None:
        assert set(load(state).OUTBOUND_ADAPTERS) == {"stripe", "console"}

    @pytest.mark.parametrize("name, variables", OPTIONAL_SENDERS.items())
    def test_one(self, state: Path, name: str, variables: dict[str, str]) -> None:
        """With all that its class wants, and limits of its own."""
        limit = {f"{name.upper()}_RATE_LIMIT": "5"}
        found = load(state, **variables, **limit).OUTBOUND_ADAPTERS
        assert set(found) == {"stripe", "console", name}
        adapter = import_string(found[name]["ADAPTER"])
        assert all(found[name]["OPTIONS"].get(option) for option in adapter.required_options)
        assert set(adapter.required_options.values()) <= set(variables)
        if name != "smtp":
            check_url(found[name]["OPTIONS"]["API_BASE"])
        assert found[name]["LIMITS"] == {"rate": 5, "concurrency": None}
        assert found[name]["QUEUE"] == "notifications-v1"

    @pytest.mark.parametrize(
        "public,expected",
        [("https://shop.example.com", "https://shop.example.com/webhooks/twilio"), (None, "")],
    )
    def test_where_twilio_tells(self, state: Path, public: str | None, expected: str) -> None:
        """Each message names the address of our source, where that is known."""
        found = load(state, TWILIO_AUTH_TOKEN="token", PUBLIC_URL=public).OUTBOUND_ADAPTERS
        assert found["twilio"]["OPTIONS"]["STATUS_CALLBACK"] == expected

    @pytest.mark.parametrize(
        "variables, port, tls, ssl",
        [
            ({}, 587, True, False),
            ({"EMAIL_USE_SSL": "1"}, 465, False, True),
            ({"EMAIL_USE_TLS": "0", "EMAIL_PORT": "25"}, 25, False, False),
            ({"EMAIL_HOST": "127.0.0.1", "EMAIL_PORT": "1025"}, 1025, False, False),
            ({"EMAIL_HOST": "localhost", "EMAIL_USE_TLS": "1"}, 587, True, False),
        ],
    )
    def test_a_mail_server_is_spoken_to_in_tls(
        self, state: Path, variables: dict[str, str], port: int, tls: bool, ssl: bool
    ) -> None:
        """Unless it is on this machine, or somebody says that it need not be."""
        settings = load(state, **{"EMAIL_HOST": "mail.example.com", **variables})
        options = settings.OUTBOUND_ADAPTERS["smtp"]["OPTIONS"]
        assert (options["PORT"], options["USE_TLS"], options["USE_SSL"]) == (port, tls, ssl)

    @pytest.mark.parametrize("variable, value", [("EMAIL_USE_TLS", "1"), ("EMAIL_PORT", "70000")])
    def test_what_makes_no_sense_together(self, state: Path, variable: str, value: str) -> None:
        """Named by the checks, and not used."""
        settings = load(state, EMAIL_HOST="h", EMAIL_USE_SSL="1", **{variable: value})
        assert [each.variable for each in settings.ENVIRONMENT.problems] == [variable]
        assert settings.EMAIL_PORT == 465
        assert not settings.EMAIL_USE_TLS


class TestStripe:
    def options(self, settings: Any) -> dict[str, Any]:
        options: dict[str, Any] = settings.WEBHOOK_SOURCES["stripe"]["OPTIONS"]
        return options

    def test_both_variables_give_secrets(self, state: Path) -> None:
        """The union, each once: several are active while one is being replaced."""
        found = load(
            state, STRIPE_WEBHOOK_SECRETS="whsec_one, whsec_two", STRIPE_WEBHOOK_SECRET="whsec_one"
        )
        assert self.options(found)["SECRETS"] == ["whsec_one", "whsec_two"]
        assert self.options(load(state, STRIPE_WEBHOOK_SECRETS=None))["SECRETS"] == []

    @pytest.mark.parametrize(
        "key, livemode",
        [
            ("sk_live_abc", True),
            ("rk_live_abc", True),
            ("sk_test_abc", False),
            ("rk_test_abc", False),
            ("something", None),
            (None, None),
        ],
    )
    def test_the_key_tells_the_mode(
        self, state: Path, key: str | None, livemode: bool | None
    ) -> None:
        """Test events must not settle live payments, nor the other way about."""
        assert self.options(load(state, STRIPE_SECRET_KEY=key))["LIVEMODE"] is livemode

    def test_defaults(self, state: Path) -> None:
        """Stripe's own address, and a pinned version."""
        found = load(state, STRIPE_API_BASE=None).OUTBOUND_ADAPTERS["stripe"]["OPTIONS"]
        assert found["API_BASE"] == "https://api.stripe.com"
        assert found["API_VERSION"] == "2023-10-16"


def test_the_schedule_of_retries_may_be_set(state: Path) -> None:
    """For every adapter, in seconds; unset it is the policy's own."""
    assert load(state, RETRY_SCHEDULE="0.5,1").OUTBOUND_POLICY == {"schedule": (0.5, 1.0)}
    assert load(state).OUTBOUND_POLICY == {}


def test_the_sweep_sets_the_pace(state: Path) -> None:
    """What waits for the sweep is counted in sweeps."""
    found = load(state, SWEEP_SECONDS="0.5", LEASE_SECONDS="20")
    assert found.OUTBOUND_LEASE_SECONDS == 20
    assert found.OUTBOUND_HINT_GRACE_SECONDS == 1
    assert found.OUTBOUND_REANNOUNCE_SECONDS == 6
    assert found.CELERY_BEAT_SCHEDULE["outbound-sweep"]["schedule"] == 0.5


def test_what_holds_when_nothing_is_said(state: Path) -> None:
    """A lease of 30 s, a sweep every 5 s, four requests of a process that wait for a provider."""
    found = load(state, LEASE_SECONDS=None, SWEEP_SECONDS=None, API_INLINE_CALLS=None)
    assert (found.OUTBOUND_LEASE_SECONDS, found.OUTBOUND_SWEEP_SECONDS) == (30, 5)
    assert found.API_INLINE_CALLS == 4
    assert found.OUTBOUND_BREAKER == {}


def test_the_breaker_may_be_set(state: Path) -> None:
    """What is not said is the breaker's own."""
    found = load(state, BREAKER_FAILURE_RATE="0.3", BREAKER_WINDOW="10", BREAKER_PROBES="2",
                 API_INLINE_CALLS="9")  # fmt: skip
    assert found.OUTBOUND_BREAKER == {"failure_rate": 0.3, "window": 10, "probes": 2}
    assert found.API_INLINE_CALLS == 9


@pytest.mark.parametrize(
    "variable, value",
    [
        ("API_INLINE_CALLS", "0"),
        ("BREAKER_WINDOW", "long"),
        ("DEBUG", "maybe"),
        ("EMBEDDED", "sometimes"),
        ("TRUST_PROXY", "all"),
        ("PUBLIC_URL", "holdfast.example"),
        ("WORKER_CONCURRENCY", "many"),
        ("WEBHOOK_MAX_BYTES", "1MB"),
        ("LEASE_SECONDS", "-1"),
        ("SWEEP_SECONDS", "fast"),
        ("RETRY_SCHEDULE", "1,x"),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "LOUD"),
        ("STRIPE_API_BASE", "api.stripe.com"),
        ("DATABASE_URL", "oracle://x/y"),
        ("CELERY_BROKER_URL", "kafka://x"),
        ("SECRET_KEY_FILE", "/nowhere"),
    ],
)
def test_a_malformed_value_is_named(state: Path, variable: str, value: str) -> None:
    """One problem, with the variable's name; everything else loads."""
    name = variable.removesuffix("_FILE")
    absent = {} if name == variable else {name: None}
    assert set(problems(load(state, **absent, **{variable: value}))) == {variable}


def test_a_body_is_capped_by_the_view_and_not_by_django(state: Path) -> None:
    """Django's own limit would answer first, and with 400."""
    for size in ("1048576", "5000000"):
        found = load(state, WEBHOOK_MAX_BYTES=size)
        assert found.DATA_UPLOAD_MAX_MEMORY_SIZE > found.WEBHOOK_MAX_BYTES == int(size)


def test_logs_are_for_people_in_debug_and_for_machines_elsewhere(state: Path) -> None:
    """LOG_FORMAT says otherwise."""
    assert load(state, DEBUG="1").LOG_FORMAT == "console"
    assert load(state, DEBUG="0").LOG_FORMAT == "json"
    assert load(state, DEBUG="0", LOG_FORMAT="console").LOG_FORMAT == "console"
