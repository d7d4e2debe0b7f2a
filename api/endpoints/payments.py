"""Payments, customers and refunds."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from ninja import Body, Router
from pydantic import BaseModel, JsonValue

from api.errors import Problem
from api.gate import Access, author, client_of
from api.idempotency import reserved_id
from api.places import place
from api.problems import no_place
from api.rendering import json_of
from api.schemas import (
    Call,
    CustomerRequest,
    PaymentCancellation,
    PaymentIntentRequest,
    RefundRequest,
    declared,
)
from api.scopes import Scope
from api.writes import write
from outbound.errors import InvalidPayload
from outbound.services import OutboundCall
from payments import services

router = Router(tags=["payments"])

WRITES = Access(Scope.PAYMENTS_WRITE, writes=True)
ANSWERS = declared(409, 422, 502, 504, created=Call, accepted=Call)
READ_SECONDS = 15.0


@router.post("/payment-intents", auth=WRITES, response=ANSWERS)
def create_payment_intent(request: HttpRequest, body: Body[PaymentIntentRequest]) -> HttpResponse:
    """Ask somebody for money."""

    def make(inline: bool) -> OutboundCall | None:
        return services.create_payment(**_asked(request, body, inline=inline)).call

    return write(request, make)


@router.post("/customers", auth=WRITES, response=ANSWERS)
def create_customer(request: HttpRequest, body: Body[CustomerRequest]) -> HttpResponse:
    """Let the provider know somebody."""

    def make(inline: bool) -> OutboundCall | None:
        return services.create_customer(**_asked(request, body, inline=inline)).call

    return write(request, make)


@router.post("/refunds", auth=WRITES, response=ANSWERS)
def create_refund(request: HttpRequest, body: Body[RefundRequest]) -> HttpResponse:
    """Give money back: never more than was captured."""

    def make(inline: bool) -> OutboundCall | None:
        fields = _asked(request, body, inline=inline)
        return services.refund_payment(payment=fields.pop("payment_intent"), **fields).call

    return write(request, make)


@router.post(
    "/payment-intents/{payment_intent}/cancel",
    auth=WRITES,
    response={**ANSWERS, **declared(404)},
)
def cancel_payment_intent(
    request: HttpRequest,
    payment_intent: str,
    body: Body[PaymentCancellation | None] = None,
) -> HttpResponse:
    """Give up a payment that has not been taken."""

    def make(inline: bool) -> OutboundCall | None:
        payment = services.find_payment(payment_intent)
        if payment is None:
            raise Problem(404, "there is no such payment here", code="not_found")
        fields = _asked(request, body or PaymentCancellation(), inline=inline)
        return services.cancel_payment(payment=payment, **fields).cancel_call

    return write(request, make)


@router.get(
    "/payment-intents/{payment_intent}",
    auth=Access(Scope.PAYMENTS_READ),
    response=declared(404, 502, 504, ok=dict[str, JsonValue]),
)
def get_payment_intent(request: HttpRequest, payment_intent: str) -> HttpResponse:
    """The provider's payment intent as it stands there now."""
    with place() as free:
        if not free:
            raise no_place()
        try:
            found = services.retrieve_payment(
                payment=payment_intent, wait=READ_SECONDS, created_by=author(client_of(request))
            )
        except InvalidPayload:  # it has not the form of an id
            raise Problem(404, "there is no such payment intent", code="not_found") from None
    return HttpResponse(json_of(found), content_type="application/json")


def _asked(request: HttpRequest, body: BaseModel, *, inline: bool) -> dict[str, Any]:
    """A request as the services take it."""
    return {
        **body.model_dump(exclude_none=True),
        "created_by": author(client_of(request)),
        "inline": inline,
        "call_id": reserved_id(request),
    }
