"""The views to which ours are compared."""

from __future__ import annotations

import json

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from bench.bare.models import Row


@csrf_exempt
def insert(request: HttpRequest) -> HttpResponse:
    """Reads JSON, inserts one row, answers 202."""
    row = Row.objects.create(payload=json.loads(request.body))
    return JsonResponse({"id": row.pk}, status=202)
