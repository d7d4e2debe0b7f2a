"""https://docs.stripe.com/api/charges"""

from __future__ import annotations

from sandbox.stripe.call import Call
from sandbox.stripe.errors import Json
from sandbox.stripe.params import Params


def retrieve(call: Call, params: Params, id: str) -> Json:  # noqa: A002  # Stripe's name
    """https://docs.stripe.com/api/charges/retrieve"""
    params.end()
    return call.store.charges.find(id, scope=call.scope, param="id").document()
