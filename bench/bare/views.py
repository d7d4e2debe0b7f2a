"""The views to which ours are compared."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time

from celery import Celery
from django.db import IntegrityError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from bench.bare.models import Event, Row

# With confirms, for a 200 says that the event will be handled, and here nothing else would know.
app = Celery("bare", broker=os.environ["CELERY_BROKER_URL"])
app.conf.broker_transport_options = {"confirm_publish": True}
QUEUE = "bare"
TOLERANCE_SECONDS = 300


@csrf_exempt
def insert(request: HttpRequest) -> HttpResponse:
    """Reads JSON, inserts one row, answers 202."""
    row = Row.objects.create(payload=json.loads(request.body))
    return JsonResponse({"id": row.pk}, status=202)


@csrf_exempt
def receive(request: HttpRequest) -> HttpResponse:
    """Verifies Stripe's signature, inserts the event, publishes a task, answers 200."""
    pairs = dict(item.split("=", 1) for item in request.headers["Stripe-Signature"].split(","))
    content = pairs["t"].encode() + b"." + request.body
    secret = os.environ["STRIPE_WEBHOOK_SECRETS"].encode()
    expected = hmac.new(secret, content, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, pairs["v1"]):
        return HttpResponse(status=401)
    if abs(time.time() - int(pairs["t"])) > TOLERANCE_SECONDS:
        return HttpResponse(status=401)
    document = json.loads(request.body)
    try:
        event = Event.objects.create(
            event_id=document["id"], event_type=document["type"], payload=document
        )
    except IntegrityError:
        return JsonResponse({"received": True, "duplicate": True})
    app.send_task("bare.process", kwargs={"event_id": event.pk}, queue=QUEUE)
    return JsonResponse({"received": True})
