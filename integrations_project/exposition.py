"""/metrics, for Prometheus: the counters of all processes of this machine, and figures that are
read from the database at that moment, within a second or not at all.

Off unless METRICS_ENABLED; with METRICS_TOKEN only for who has it.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from http import HTTPStatus
from importlib import import_module

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Metric, values
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from integrations_project.parts import Part


def metrics(request: HttpRequest) -> HttpResponse:
    """200 whatever the database does; `holdfast_figures_up` tells whether its figures are there."""
    if not settings.METRICS_ENABLED:
        return HttpResponse(status=HTTPStatus.NOT_FOUND)
    if not _may_read(request):
        answer = HttpResponse(status=HTTPStatus.UNAUTHORIZED)
        answer["WWW-Authenticate"] = "Bearer"
        return answer
    FIGURES.ask()
    well, figures = FIGURES.outcome()
    shown = _text(_Given([_up(well)])) + (figures.encode() if well else b"")
    return HttpResponse(_counters() + shown, content_type=CONTENT_TYPE_LATEST)


def _may_read(request: HttpRequest) -> bool:
    token = settings.METRICS_TOKEN
    given = request.headers.get("Authorization", "").encode("utf-8", "replace")
    return not token or hmac.compare_digest(given, f"Bearer {token}".encode())


def _counters() -> bytes:
    """Those of all processes where they count into one folder, else this one's."""
    if values.ValueClass is values.MutexValue:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, path=settings.METRICS_DIR)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _up(well: bool) -> Metric:
    return GaugeMetricFamily(
        "holdfast_figures_up", "1 when the database has answered in time.", int(well)
    )


class _Given(Collector):
    """Metrics that are there already."""

    def __init__(self, found: list[Metric]) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        yield from self._found


def _text(collector: Collector) -> bytes:
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry)


def read_figures() -> str:
    """What each app of settings.VITALS knows of itself."""
    found = [metric for name in settings.VITALS for metric in import_module(name).gauges()]
    return _text(_Given(found)).decode()


FIGURES = Part(read_figures)
