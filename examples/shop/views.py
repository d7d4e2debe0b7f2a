"""A checkout that needs the provider's answer, and a refund that does not."""

from __future__ import annotations

import uuid

from django.contrib.auth.decorators import permission_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from examples.shop.forms import CheckoutForm, RefundForm
from examples.shop.models import Order
from examples.shop.orders import place_order, refund_order
from outbound.errors import InvalidPayload
from outbound.services import deliver_now
from outbound.states import CallStatus

WAIT_SECONDS = 5


@require_http_methods(["GET", "POST"])
def checkout(request: HttpRequest) -> HttpResponse:
    """201 with what the payer's browser needs to go on; 202 when the provider has not answered in
    time, and the payment goes on without us; 402 when the card was declined."""
    if request.method == "GET":
        form = CheckoutForm(initial={"cart": uuid.uuid4()})
        return render(request, "shop/checkout.html", {"form": form})
    form = CheckoutForm(request.POST)
    if not form.is_valid():
        return JsonResponse({"errors": form.errors}, status=422)
    order = place_order(**form.cleaned_data)
    payment = order.payment
    if payment is None or payment.call is None:
        raise RuntimeError(f"{order} has no call")
    call = deliver_now(call=payment.call, wait=WAIT_SECONDS)
    payment.refresh_from_db()
    if call.status == CallStatus.FAILED:
        return JsonResponse({"order": order.pk, "error": call.error_message}, status=402)
    said = {"order": order.pk, "client_secret": payment.client_secret}
    return JsonResponse(said, status=201 if payment.client_secret else 202)


@require_POST
@permission_required("shop.refund_order", raise_exception=True)
def refund(request: HttpRequest, order_id: int) -> HttpResponse:
    """202: the refund is stored, and a worker makes it. 422 for more than was paid."""
    order = get_object_or_404(Order, pk=order_id)
    form = RefundForm(request.POST)
    if not form.is_valid():
        return JsonResponse({"errors": form.errors}, status=422)
    try:
        asked = refund_order(order=order, amount=form.cleaned_data["amount"])
    except InvalidPayload as error:
        return JsonResponse({"errors": {"amount": [str(error)]}}, status=422)
    return JsonResponse({"order": order.pk, "refund": str(asked.pk)}, status=202)


@require_GET
def show_order(request: HttpRequest, order_id: int) -> HttpResponse:
    """How the order stands."""
    order = get_object_or_404(Order.objects.select_related("payment"), pk=order_id)
    refunded = order.payment.amount_refunded if order.payment else 0
    return JsonResponse({"order": order.pk, "status": order.status, "refunded": refunded})
