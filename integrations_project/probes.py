"""/livez, /readyz and /metrics, in front of everything else: no host name, https or session needed.

/livez: this process answers. /readyz: what it depends on answers too, each part within a second.
Nothing is remembered between two probes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from http import HTTPStatus

from django.conf import settings
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse

from integrations_project.celery import app
from integrations_project.exposition import metrics
from integrations_project.parts import SECONDS, Part

OK = ("ok", "embedded")

Responder = Callable[[HttpRequest], HttpResponse]


class ProbeMiddleware:
    """Answers the probes; every other request passes."""

    def __init__(self, get_response: Responder) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        probe = PROBES.get(request.path_info)
        if probe is None:
            return self._get_response(request)
        if request.method not in ("GET", "HEAD"):
            return HttpResponseNotAllowed(["GET", "HEAD"])
        response = probe(request)
        response["Cache-Control"] = "no-store"
        response["Content-Length"] = str(len(response.content))
        if request.method == "HEAD":
            response.content = b""
        return response


def live(request: HttpRequest) -> HttpResponse:
    """Depends on nothing."""
    return JsonResponse({"status": "ok"})


def ready(request: HttpRequest) -> HttpResponse:
    """200 when all parts answer, else 503; the parts are asked at the same time."""
    for part in PARTS.values():
        part.ask()
    found = {name: part.answer() for name, part in PARTS.items()}
    well = all(answer in OK for answer in found.values())
    return JsonResponse(
        {"status": "ok" if well else "unavailable", "checks": found},
        status=HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE,
    )


def database() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.fetchone()
    return "ok"


def migrations() -> str:
    """Whether the tables are those that this code expects."""
    missing = _newest_migrations() - MigrationRecorder(connection).applied_migrations().keys()
    return f"not applied: {', '.join(sorted(app for app, _ in missing))}" if missing else "ok"


@cache
def _newest_migrations() -> frozenset[tuple[str, str]]:
    return frozenset(MigrationLoader(None).graph.leaf_nodes())


def broker() -> str:
    """Opens a connection of its own: one from a pool may be dead without knowing."""
    if settings.EMBEDDED_BROKER:
        return "embedded"
    with app.connection_for_write(
        connect_timeout=SECONDS,
        transport_options={"read_timeout": SECONDS, "write_timeout": SECONDS},
    ) as own:
        transport = own.transport  # Connection.connect would try twice
        transport.close_connection(transport.establish_connection())
    return "ok"


PARTS = {"database": Part(database), "migrations": Part(migrations), "broker": Part(broker)}
PROBES = {"/livez": live, "/readyz": ready, "/metrics": metrics}
