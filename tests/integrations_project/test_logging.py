"""Logs: one form for every logger, and the last net under what they say."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from integrations_project.logging import FORMATS, formatter, logging_config
from outbound.request_ids import bind_request_id

PLANTED = {
    "sk_" + "live_0123456789abcdef": "a provider's key",
    "hunter22-configured": "a configured secret",
    "https://user:hunter22@host/path": "a URL with a password",
    "https://host/path?token=hunter22": "a URL with a query",
    "Bearer hunter22hunter22": "a bearer token",
    "person@example.com": "an address",
    "4242 4242 4242 4242": "a card number",
}
LEAKS = ("0123456789abcdef", "hunter22", "person@example.com", "4242")


@pytest.fixture(params=FORMATS)
def written(request: pytest.FixtureRequest, settings: Any) -> Iterator[io.StringIO]:
    """What the loggers write, in each form."""
    settings.ENVIRONMENT = SimpleNamespace(secret_values={"hunter22-configured"})
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter(log_format=request.param))
    logger = logging.getLogger("tests.lines")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield stream
    logger.removeHandler(handler)
    logger.propagate = True


@pytest.fixture
def line(settings: Any) -> Iterator[Any]:
    """One JSON line, read back."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter(log_format="json"))
    logger = logging.getLogger("tests.lines")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield lambda: json.loads(stream.getvalue())
    logger.removeHandler(handler)
    logger.propagate = True


def fail(message: str) -> None:
    raise ValueError(message)


class TestShape:
    def test_structlog(self, line: Any) -> None:
        """One object, with the time in UTC, the level, the logger and what was said."""
        structlog.get_logger("tests.lines").info("attempt", call_id="1", duration=0.25, due_at=None)
        found = line()
        assert found.pop("timestamp").endswith("Z")
        assert found == {
            "event": "attempt",
            "level": "info",
            "logger": "tests.lines",
            "call_id": "1",
            "duration": 0.25,
            "due_at": None,
        }

    def test_the_standard_library(self, line: Any) -> None:
        """Django, Celery and gunicorn speak through the same door."""
        logging.getLogger("tests.lines").warning("%s of %d", "one", 2)
        found = line()
        assert found.pop("timestamp").endswith("Z")
        assert found == {"event": "one of 2", "level": "warning", "logger": "tests.lines"}

    def test_a_request_marks_its_lines(self, line: Any) -> None:
        """From the view to the task."""
        with bind_request_id("req-1"):
            logging.getLogger("tests.lines").info("hello")
        assert line()["request_id"] == "req-1"

    @pytest.mark.parametrize("kind", ["structlog", "stdlib"])
    def test_a_traceback_stays_a_traceback(self, line: Any, kind: str) -> None:
        """Where it happened is what it is for."""
        logger: Any = structlog.get_logger if kind == "structlog" else logging.getLogger
        try:
            fail("no such thing")
        except ValueError:
            logger("tests.lines").exception("failed")
        story = line()["exception"]
        assert story.startswith("Traceback (most recent call last):")
        assert "in fail" in story
        assert story.endswith("ValueError: no such thing")


class TestNoSecrets:
    @pytest.mark.parametrize("secret", PLANTED, ids=PLANTED.values())
    @pytest.mark.parametrize("way", ["message", "argument", "field", "nested", "object", "error"])
    def test_none_is_written(self, written: io.StringIO, secret: str, way: str) -> None:
        """Whichever way it comes: a dependency may log what we never would."""
        structured = structlog.get_logger("tests.lines")
        match way:
            case "message":
                logging.getLogger("tests.lines").info("got %s", secret)
            case "argument":
                logging.getLogger("tests.lines").info("got %r", {"value": secret})
            case "field":
                structured.info("got", value=secret)
            case "nested":
                structured.info("got", values=[{"value": (secret,)}])
            case "object":
                structured.info("got", error=ValueError(secret))
            case "error":
                try:
                    fail(secret)
                except ValueError:
                    structured.exception("failed")
        assert "got" in written.getvalue() or "failed" in written.getvalue()
        for leak in LEAKS:
            assert leak not in written.getvalue()

    @pytest.mark.parametrize(
        "name", ["password", "api_key", "Authorization", "webhook_secret", "Set-Cookie", "payload"]
    )
    def test_a_telling_name_hides_its_value(self, written: io.StringIO, name: str) -> None:
        """However harmless it looks."""
        structlog.get_logger("tests.lines").info("got", **{name: {"value": "plain"}})
        assert "got" in written.getvalue()
        assert "plain" not in written.getvalue()

    def test_ids_are_left_alone(self, line: Any) -> None:
        """They are what one searches for."""
        ids = {
            "call_id": "0199e0a7-6d2c-7f3e-9a41-3b0f7c2d1e58",
            "reference": "order-2026-11-24",
            "provider_reference": "pi_3MtwBwLkdIwHu7ix28a3tqPa",
            "idempotency_key": "0199e0a7-6d2c-7f3e-9a41-3b0f7c2d1e58",
        }
        structlog.get_logger("tests.lines").info("attempt", **ids)
        found = line()
        assert {name: found[name] for name in ids} == ids


class TestConfiguration:
    def test_gunicorn_and_django_write_no_lines_of_their_own(self) -> None:
        """Both bring handlers with them, which would speak beside ours."""
        loggers = logging_config(log_format="json", level="INFO")["loggers"]
        for name in ("django", "django.server", "gunicorn.error", "gunicorn.access"):
            assert loggers[name]["handlers"] == ["stderr"]
            assert loggers[name]["propagate"] is False
        assert loggers["gunicorn.access"]["level"] == "WARNING"

    def test_the_level_is_the_one_asked_for(self) -> None:
        """LOG_LEVEL, save for the loggers that would speak three times for each call."""
        config = logging_config(log_format="json", level="DEBUG")
        assert config["root"]["level"] == config["loggers"]["django"]["level"] == "DEBUG"
        assert config["loggers"]["celery.app.trace"]["level"] == "WARNING"
