"""Stripe's REST API, its version pinned by STRIPE_API_VERSION. https://docs.stripe.com/api"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl

from pydantic import BaseModel

from outbound.adapters import Adapter, CallContext, Reply, operation
from outbound.client import Request, Response
from outbound.errors import DidNotHappen, PermanentError
from payments.adapters.stripe_errors import error_of, unreadable
from payments.adapters.stripe_form import encode_form
from payments.adapters.stripe_payloads import (
    CALL_KEY,
    KEY_KEY,
    CancelPaymentIntent,
    DeleteCustomer,
    ListEvents,
    NewCustomer,
    NewPaymentIntent,
    NewRefund,
    RetrievePaymentIntent,
)

# Stripe may forget a key after 24 hours. https://docs.stripe.com/api/idempotent_requests
KEY_LIFETIME = timedelta(hours=20)
DEFAULT_API_BASE = "https://api.stripe.com"
DEFAULT_API_VERSION = "2023-10-16"
QUOTABLE = 3  # characters: shorter texts are everywhere
PAGES = 10  # of a hundred objects: the furthest that a look-up goes
ID = re.compile(r"[A-Za-z0-9_]{1,255}")
ACCOUNT = re.compile(r"acct_[A-Za-z0-9]{1,90}")

VISIBLE = """
    id object type code decline_code param status livemode created deleted has_more
    amount amount_capturable amount_captured amount_received amount_refunded captured currency
    cancellation_reason canceled_at capture_method confirm customer payment_intent
    payment_method latest_charge charge reason refunded
"""  # names of fields that identify nobody: the rest of a summary is hidden


class StripeAdapter(Adapter):
    """One method per request. Everything that is made carries our call's id in its metadata, and
    the key it was made with: what an older key made is not mistaken for this call's effect."""

    required_options = {"API_KEY": "STRIPE_SECRET_KEY"}  # noqa: RUF012  # a ClassVar in Adapter
    visible_fields = frozenset(VISIBLE.split())

    @operation(key_lifetime=KEY_LIFETIME, replays_failures=True)
    def create_payment_intent(self, payload: NewPaymentIntent, context: CallContext) -> Reply:
        """Ask for money; with `confirm`, take it at once, where no redirect is needed for it."""
        form = _form(payload, context)
        if payload.confirm:
            form["automatic_payment_methods"] = {"enabled": True, "allow_redirects": "never"}
        response = self._post("/v1/payment_intents", form, context)
        return _object_in(response, "payment_intent")

    @operation(reads=True)
    def retrieve_payment_intent(
        self, payload: RetrievePaymentIntent, context: CallContext
    ) -> Reply:
        """The payment intent as it stands now."""
        return self._payment_intent(payload.payment_intent, context)

    @operation(key_lifetime=KEY_LIFETIME, replays_failures=True)
    def cancel_payment_intent(self, payload: CancelPaymentIntent, context: CallContext) -> Reply:
        """Give up a payment that has not been taken."""
        form = payload.model_dump(exclude={"payment_intent"})
        path = f"/v1/payment_intents/{payload.payment_intent}/cancel"
        return _object_in(self._post(path, form, context), "payment_intent")

    @operation(key_lifetime=KEY_LIFETIME, replays_failures=True)
    def create_customer(self, payload: NewCustomer, context: CallContext) -> Reply:
        """Let Stripe know somebody."""
        response = self._post("/v1/customers", _form(payload, context), context)
        return _object_in(response, "customer")

    @operation(key_lifetime=KEY_LIFETIME)
    def delete_customer(self, payload: DeleteCustomer, context: CallContext) -> Reply:
        """Let Stripe forget somebody, for ever.

        DELETE knows no keys, and needs none: it can be repeated. What it answers to the second
        one (404) therefore says nothing about the first.
        """
        path = f"/v1/customers/{payload.customer}"
        response = self._send("DELETE", path, context, keyed=False)
        return _object_in(response, "customer")

    @operation(key_lifetime=KEY_LIFETIME, replays_failures=True)
    def create_refund(self, payload: NewRefund, context: CallContext) -> Reply:
        """Give money back."""
        response = self._post("/v1/refunds", _form(payload, context), context)
        return _object_in(response, "refund")

    @operation(reads=True)
    def list_events(self, payload: ListEvents, context: CallContext) -> Reply:
        """One page of what happened in the last thirty days, newest first."""
        query = payload.model_dump(exclude={"created_from"})
        if payload.created_from is not None:
            query["created"] = {"gte": payload.created_from}
        response = self._get("/v1/events", query, context)
        return _reply(response, _document(response, "list", reads=True))

    def resolve(self, name: str, payload: BaseModel, context: CallContext) -> Reply | None:
        """Look for what the call made, or for the state it wanted.

        Search lags behind by up to a minute, and longer in trouble: not found is not "did not
        happen". https://docs.stripe.com/search#data-freshness
        """
        if isinstance(payload, NewPaymentIntent):
            return _paid_if_confirmed(payload, self._search("/v1/payment_intents/search", context))
        if isinstance(payload, NewCustomer):
            return self._search("/v1/customers/search", context)
        if isinstance(payload, NewRefund):
            return self._refund_of(payload.payment_intent, context)
        if isinstance(payload, CancelPaymentIntent):
            reply = self._payment_intent(payload.payment_intent, context)
            return reply if reply.result.get("status") == "canceled" else None
        if isinstance(payload, DeleteCustomer):
            response = self._get(f"/v1/customers/{payload.customer}", {}, context)
            reply = _object_in(response, "customer", reads=True)
            return reply if reply.result.get("deleted") is True else None
        return None

    def _payment_intent(self, payment_intent: str, context: CallContext) -> Reply:
        response = self._get(f"/v1/payment_intents/{payment_intent}", {}, context)
        return _object_in(response, "payment_intent", reads=True)

    def _search(self, path: str, context: CallContext) -> Reply | None:
        query = {"query": f"metadata['{CALL_KEY}']:'{context.call_id}'", "limit": 100}
        response = self._get(path, query, context)
        return _made_by_call(response, _document(response, "search_result", reads=True), context)

    def _refund_of(self, payment_intent: str, context: CallContext) -> Reply | None:
        query: dict[str, Any] = {"payment_intent": payment_intent, "limit": 100}
        for _ in range(PAGES):
            response = self._get("/v1/refunds", query, context)
            page = _document(response, "list", reads=True)
            found = _made_by_call(response, page, context)
            last = _objects(page)[-1:]
            if found or page.get("has_more") is not True or not last:
                return found
            query["starting_after"] = str(last[0].get("id", ""))
        return None

    def _post(self, path: str, form: Mapping[str, Any], context: CallContext) -> Response:
        return self._send("POST", path, context, body=encode_form(form))

    def _get(self, path: str, query: Mapping[str, Any], context: CallContext) -> Response:
        encoded = encode_form(query)
        return self._send("GET", f"{path}?{encoded}" if encoded else path, context, reads=True)

    def _send(
        self,
        method: str,
        path: str,
        context: CallContext,
        *,
        body: str = "",
        reads: bool = False,
        keyed: bool = True,
    ) -> Response:
        base = str(self.options.get("API_BASE") or DEFAULT_API_BASE).rstrip("/")
        headers = self._headers(context)
        if method == "POST":
            headers["Idempotency-Key"] = context.idempotency_key
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        request = Request(method, base + path, headers, body.encode("ascii"))
        response = self.http.send(request, context)
        error = error_of(response, reads=reads, keyed=keyed, private=self._private_texts(body))
        if error is not None:
            raise error
        return response

    def _headers(self, context: CallContext) -> dict[str, str]:
        headers = {
            "Authorization": f"Bearer {self.options['API_KEY']}",
            "Stripe-Version": str(self.options.get("API_VERSION") or DEFAULT_API_VERSION),
        }
        if context.account:
            if not ACCOUNT.fullmatch(context.account):
                raise PermanentError("the account must be acct_…", http_status=400)
            headers["Stripe-Account"] = context.account
        return headers

    def _private_texts(self, body: str) -> frozenset[str]:
        """What of a request must not be quoted in an error message."""
        return frozenset(
            value
            for name, value in parse_qsl(body)
            if name.partition("[")[0] not in self.visible_fields and len(value) >= QUOTABLE
        )


def _form(
    payload: NewPaymentIntent | NewCustomer | NewRefund, context: CallContext
) -> dict[str, Any]:
    form = payload.model_dump()
    ours = {CALL_KEY: context.call_id, KEY_KEY: context.idempotency_key}
    form["metadata"] = {**(payload.metadata or {}), **ours}
    return form


def _object_in(response: Response, kind: str, *, reads: bool = False) -> Reply:
    """Raises OutcomeUnknown, or TransientError for a read, when it is not there."""
    document = _document(response, kind, reads=reads)
    if not _is_id(document.get("id")):
        raise unreadable(response, reads=reads)
    return _reply(response, document)


def _document(response: Response, kind: str, *, reads: bool) -> dict[str, Any]:
    try:
        document = response.json()
    except ValueError as error:
        raise unreadable(response, reads=reads) from error
    if not isinstance(document, dict) or document.get("object") != kind:
        raise unreadable(response, reads=reads)
    return document


def _objects(page: Mapping[str, Any]) -> list[dict[str, Any]]:
    objects = page.get("data")
    return [o for o in objects if isinstance(o, dict)] if isinstance(objects, list) else []


def _made_by_call(
    response: Response, page: Mapping[str, Any], context: CallContext
) -> Reply | None:
    """The object on this page that the call made with its present key."""
    for candidate in _objects(page):
        metadata = candidate.get("metadata")
        if isinstance(metadata, dict) and _is_id(candidate.get("id")):
            marks = (metadata.get(CALL_KEY), metadata.get(KEY_KEY))
            if marks == (context.call_id, context.idempotency_key):
                return _reply(response, candidate)
    return None


def _reply(response: Response, document: dict[str, Any]) -> Reply:
    return Reply(
        result=document,
        provider_reference=document["id"] if _is_id(document.get("id")) else "",
        provider_status=response.status,
        provider_request_id=response.headers.get("Request-Id", ""),
    )


def _is_id(value: object) -> bool:
    return isinstance(value, str) and ID.fullmatch(value) is not None


def _paid_if_confirmed(payload: NewPaymentIntent, found: Reply | None) -> Reply | None:
    """A call that was to take the money at once did not, where the intent waits for another way
    to pay: its answer was a decline. Raises DidNotHappen then.
    https://docs.stripe.com/payments/paymentintents/lifecycle
    """
    if found and payload.confirm and found.result.get("status") == "requires_payment_method":
        raise DidNotHappen(
            "stripe: the payment was declined",
            code="card_declined",
            http_status=400,
            provider_request_id=found.provider_request_id,
        )
    return found
