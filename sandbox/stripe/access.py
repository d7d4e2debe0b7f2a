"""Who is asking, and in which dialect. https://docs.stripe.com/api/authentication"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping
from http import HTTPStatus

from sandbox.stripe.errors import Refusal, invalid
from sandbox.stripe.keys import Scope

SECRET_KEY = re.compile(r"(?:sk|rk)_(test|live)_[A-Za-z0-9_]{1,247}")
VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(\.[a-z]+)?")
ACCOUNT = re.compile(r"acct_[A-Za-z0-9_]{1,100}")


def scope_of(headers: Mapping[str, str]) -> Scope:
    """The account and mode that the API key speaks for. Raises Refusal."""
    key = _api_key(headers.get("authorization", ""))
    if not key:
        raise _unauthorised(
            "You did not provide an API key. You need to provide your API key in the Authorization "
            "header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See "
            "https://stripe.com/docs/api#authentication for details, or we can help at "
            "https://support.stripe.com/."
        )
    if key.startswith("pk_"):
        raise Refusal(
            HTTPStatus.FORBIDDEN,
            "This API call cannot be made with a publishable API key. Please use a secret API key.",
            code="secret_key_required",
            executed=False,
        )
    match = SECRET_KEY.fullmatch(key)
    if match is None:
        raise _unauthorised(f"Invalid API Key provided: {key[:8]}{'*' * 8}{key[8:][-4:]}")
    _check_version(headers.get("stripe-version"))
    account = headers.get("stripe-account", "")
    if account and not ACCOUNT.fullmatch(account):
        raise Refusal(
            HTTPStatus.FORBIDDEN,
            f"The provided key does not have access to account '{account}' (or that account does "
            "not exist). Application access may have been revoked.",
            code="account_invalid",
            executed=False,
        )
    return Scope(account, match[1] == "live")


def _api_key(authorization: str) -> str:
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    if scheme.lower() == "basic":
        try:
            return b64decode(credentials, validate=True).decode("ascii").partition(":")[0]
        except ValueError:
            return ""
    return ""


def _check_version(version: str | None) -> None:
    if version is not None and not VERSION.fullmatch(version):
        raise invalid(f"Invalid Stripe API version: {version}")


def _unauthorised(message: str) -> Refusal:
    return Refusal(
        HTTPStatus.UNAUTHORIZED,
        message,
        executed=False,
        headers={"WWW-Authenticate": 'Basic realm="Stripe"'},
    )
