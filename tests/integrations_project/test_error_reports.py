"""Error reports: enough to find the fault, and nothing of what it was about."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import pytest
import sentry_sdk
import structlog
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from integrations_project import error_reports
from integrations_project.logging import configure
from outbound.errors import OutcomeUnknown, PermanentError, RateLimited, TransientError

DSN = "https://public@sentry.invalid/1"
PLANTED = "hunter22"


class Reports(Transport):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        event = envelope.get_event()
        if event is not None:
            self.events.append(dict(event))

    def text(self) -> str:
        return json.dumps(self.events, default=str)


@pytest.fixture
def reports() -> Iterator[Reports]:
    """Reports are on, and go nowhere."""
    transport = Reports()
    assert error_reports.start(dsn=DSN, transport=transport)
    yield transport
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)


@csrf_exempt
def explode(request: HttpRequest) -> HttpResponse:
    secret = request.headers["Authorization"]
    logging.getLogger("tests").info("asked with %s", secret)
    raise ValueError(f"no luck with https://api.example/v1?key={PLANTED} for person@example.com")


urlpatterns = [path("explode", explode)]


@pytest.mark.parametrize("dsn", ["", "not a dsn", "https://sentry.invalid/1", "ftp://k@host/1"])
def test_nothing_is_reported_without_a_usable_dsn(dsn: str) -> None:
    """Off by default; a wrong one is for the checks to name."""
    assert error_reports.start(dsn=dsn) is False
    assert not sentry_sdk.get_client().is_active()


@pytest.mark.urls("tests.integrations_project.test_error_reports")
def test_a_request_that_fails_is_reported_without_its_content(reports: Reports) -> None:
    """Neither query, headers, cookies, body, local variables, breadcrumbs nor the error's text."""
    environ = (
        RequestFactory()
        .post(
            f"/explode?token={PLANTED}",
            data={"card": PLANTED, "nested": {"email": "person@example.com"}},
            content_type="application/json",
            headers={
                "Authorization": f"Bearer {PLANTED}",
                "Cookie": f"sessionid={PLANTED}",
                "X-Api-Key": PLANTED,
                "host": "localhost",
            },
        )
        .environ
    )
    start_response = Mock()
    WSGIHandler()(environ, start_response)
    assert start_response.call_args.args[0] == "500 Internal Server Error"
    [event] = reports.events
    assert PLANTED not in reports.text()
    assert "person@example.com" not in reports.text()
    assert event["request"] == {"method": "POST", "url": "http://localhost/explode"}
    [value] = event["exception"]["values"]
    assert value["type"] == "ValueError"
    assert value["value"].startswith("no luck with https://api.example/v1")
    functions = [frame["function"] for frame in value["stacktrace"]["frames"]]
    assert functions[-1] == "explode"
    assert not any("vars" in frame for frame in value["stacktrace"]["frames"])


def test_configured_secrets_are_known_by_value(reports: Reports, settings: Any) -> None:
    """Whatever they look like."""
    key = settings.STRIPE_SECRET_KEY
    assert key in settings.ENVIRONMENT.secret_values
    logging.getLogger("tests").error("refused %s", key)
    [event] = reports.events
    assert key not in reports.text()
    assert "refused" in reports.text()
    assert event["level"] == "error"


class TestLogLines:
    @pytest.fixture(autouse=True)
    def structured(self, settings: Any) -> None:
        configure(settings.LOGGING)

    def test_a_line_is_reported_by_its_words(self, reports: Reports) -> None:
        """Its fields beside it, so that equal errors are one issue."""
        structlog.get_logger("tests").error("sweep_failed", count=3, value=f"Bearer {PLANTED}")
        [event] = reports.events
        assert event["logentry"]["message"] == "sweep_failed"
        assert event["extra"]["count"] == 3
        assert PLANTED not in reports.text()

    def test_with_its_traceback(self, reports: Reports) -> None:
        """A logged exception is a reported one."""
        try:
            raise ValueError(f"Bearer {PLANTED}")
        except ValueError:
            structlog.get_logger("tests").exception("sweep_failed")
        [event] = reports.events
        [value] = event["exception"]["values"]
        assert value["type"] == "ValueError"
        assert PLANTED not in reports.text()

    def test_one_issue_for_each_adapter_and_kind(self, reports: Reports) -> None:
        """Wherever it surfaced."""
        logger = structlog.get_logger("tests")
        logger.error("attempt_failed", adapter="stripe", error_kind="permanent_error")
        logger.error("call_failed", adapter="stripe", error_kind="permanent_error", call_id="1")
        assert [event["fingerprint"] for event in reports.events] == [
            ["outbound", "stripe", "permanent_error"]
        ] * 2


@pytest.mark.parametrize(
    "error", [TransientError("away"), RateLimited("slow down"), OutcomeUnknown("lost")]
)
def test_transient_trouble_is_no_issue(reports: Reports, error: TransientError) -> None:
    """It is tried again; the row tells."""
    sentry_sdk.capture_exception(error)
    assert reports.events == []


def test_a_final_refusal_is_an_issue_of_its_kind(reports: Reports) -> None:
    """Grouped by what it is, not by the line that raised it."""
    sentry_sdk.capture_exception(PermanentError(f"declined, Bearer {PLANTED}"))
    [event] = reports.events
    assert event["fingerprint"] == ["outbound", "any", "permanent_error"]
    assert PLANTED not in reports.text()


def test_strangers_make_no_issues(reports: Reports) -> None:
    """A wrong Host header is their mistake."""
    assert Client().get("/admin/", headers={"host": "stranger.example"}).status_code == 400
    assert reports.events == []


def test_providers_get_no_headers_from_the_reporter(reports: Reports) -> None:
    """Requests to them carry what the adapter wrote, byte for byte."""
    assert sentry_sdk.get_client().should_send_default_pii() is False
    options = sentry_sdk.get_client().options
    assert options["trace_propagation_targets"] == []
    assert options["max_request_body_size"] == "never"
    assert options["include_local_variables"] is False


def test_breadcrumbs_keep_their_words_only() -> None:
    """Not what was sent, nor where exactly."""
    crumb = {
        "type": "http",
        "message": f"GET https://host/path?token={PLANTED}",
        "data": {"url": f"https://host/?token={PLANTED}"},
        "timestamp": RequestFactory(),
    }
    kept = error_reports.before_breadcrumb(crumb, {})
    assert kept is not None
    assert kept["timestamp"] is crumb["timestamp"]
    assert "data" not in kept
    assert PLANTED not in str(kept)
