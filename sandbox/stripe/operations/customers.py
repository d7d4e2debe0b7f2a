"""https://docs.stripe.com/api/customers"""

from __future__ import annotations

from sandbox.ids import new_id, random_text
from sandbox.stripe.call import Call
from sandbox.stripe.customers import Customer
from sandbox.stripe.errors import Json, missing
from sandbox.stripe.operations.lists import read_page
from sandbox.stripe.operations.search import read_search
from sandbox.stripe.params import Params

SEARCHABLE = ("created", "email", "name")


def create(call: Call, params: Params, _id: str) -> Json:
    """https://docs.stripe.com/api/customers/create"""
    customer = Customer(
        id=new_id("cus", length=14),
        scope=call.scope,
        created=call.second,
        invoice_prefix=random_text(8).upper(),
        email=params.email("email"),
        name=params.text("name", most=256, unset=True),
        metadata=params.metadata(),
        extra=_read_extra(params),
    )
    params.end()
    call.store.customers.add(customer)
    call.record("customer.created", customer.id, metadata=customer.metadata)
    call.emit("customer.created", customer.document())
    return customer.document()


def retrieve(call: Call, params: Params, id: str) -> Json:  # noqa: A002  # Stripe's name
    """https://docs.stripe.com/api/customers/retrieve. A deleted one is answered as such."""
    params.end()
    return call.store.customers.find(id, scope=call.scope, param="id").document()


def delete(call: Call, params: Params, id: str) -> Json:  # noqa: A002
    """https://docs.stripe.com/api/customers/delete. The second time it is a 404."""
    params.end()
    customer = call.store.customers.find(id, scope=call.scope, param="id")
    if customer.deleted:
        raise missing("customer", id, param="id")
    last = customer.document()
    customer.deleted = True
    call.record("customer.deleted", id, metadata=customer.metadata)
    call.emit("customer.deleted", last)
    return customer.document()


def list_all(call: Call, params: Params, _id: str) -> Json:
    """https://docs.stripe.com/api/customers/list"""
    email, page = params.text("email"), read_page(params)
    params.end()
    return page.of(
        call,
        call.store.customers,
        url="/v1/customers",
        keep=lambda customer: not customer.deleted and email in (None, customer.email),
    )


def search(call: Call, params: Params, _id: str) -> Json:
    """https://docs.stripe.com/api/customers/search"""
    query = read_search(params, fields=SEARCHABLE)
    params.end()
    return query.of(
        call,
        call.store.customers,
        url="/v1/customers/search",
        keep=lambda customer: not customer.deleted,
    )


def _read_extra(params: Params) -> Json:
    shown = {
        "address": params.tree("address"),
        "description": params.text("description", unset=True),
        "phone": params.text("phone", most=20, unset=True),
        "preferred_locales": params.texts("preferred_locales"),
        "shipping": params.tree("shipping"),
        "tax_exempt": params.choice("tax_exempt", ("none", "exempt", "reverse")),
    }
    return {name: value for name, value in shown.items() if value is not None}
