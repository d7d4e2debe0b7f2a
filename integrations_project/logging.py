"""Logs: structlog, and the standard library's loggers through the same door.

Lines for people in DEBUG, one JSON object per line otherwise, all to standard error. What could
be secret is kept out where a line is written; here is only the last net.
"""

from __future__ import annotations

import logging.config
import sys
import traceback
from typing import Any, cast

import structlog
from structlog.processors import ExceptionRenderer
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from outbound.request_ids import current_request_id

FORMATS = ("console", "json")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
TRACEBACK_CHARACTERS = 20_000
OURS = ("level", "logger", "timestamp")  # written here, and not by whoever logs

# Lines that would repeat the engine's own, or show what is in rows.
QUIET = (
    "celery.app.trace",
    "celery.beat",
    "celery.worker.strategy",
    "django.db.backends",
    "kombu",
    "urllib3",
)


def logging_config(*, log_format: str, level: str) -> dict[str, Any]:
    """The LOGGING setting. Loggers that come with handlers of their own are named."""
    ours = {"handlers": ["stderr"], "level": level, "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": formatter, "log_format": log_format}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            "django": ours,
            "django.server": ours,
            "gunicorn.error": ours,
            # Its lines hold queries and addresses; what matters about a request has its own line.
            "gunicorn.access": {**ours, "level": "WARNING"},
            **{name: {"level": "WARNING"} for name in QUIET},
        },
    }


def configure(config: dict[str, Any]) -> None:
    """Set up both kinds of logger. Django calls it with LOGGING before it loads the apps."""
    logging.config.dictConfig(config)
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(),
            ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # or a logger keeps the set-up of its first line
    )


def formatter(*, log_format: str) -> ProcessorFormatter:
    """Turns a record of either kind into one line."""
    return ProcessorFormatter(
        foreign_pre_chain=[*_shared(), structlog.stdlib.ExtraAdder(allow=("status_code",))],
        processors=[
            ProcessorFormatter.remove_processors_meta,
            ExceptionRenderer(cast(Any, _traceback)),
            _scrub,
            _renderer(log_format),
        ],
    )


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_request_id,
    ]


def _renderer(log_format: str) -> Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer(ensure_ascii=True)
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )


def _add_request_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    request_id = current_request_id()
    if request_id:
        event.setdefault("request_id", request_id)
    return event


def _traceback(exc_info: ExcInfo) -> str:
    return "".join(traceback.format_exception(*exc_info)).rstrip()


def _scrub(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    from integrations_project.scrubbing import scrub, scrub_text  # settings import this module

    story = event.pop("exception", None)
    ours = {name: event.pop(name) for name in OURS if name in event}
    scrubbed: EventDict = scrub(event) | ours
    if story is not None:
        scrubbed["exception"] = scrub_text(str(story), limit=TRACEBACK_CHARACTERS)
    return scrubbed
