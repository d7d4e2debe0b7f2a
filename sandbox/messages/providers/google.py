"""Google's tokens for service accounts. https://developers.google.com/identity/protocols/oauth2/service-account"""

from __future__ import annotations

import binascii
import json
from base64 import urlsafe_b64decode
from typing import Any, ClassVar

from sandbox.fields import BadInput
from sandbox.ids import random_text
from sandbox.messages.forms import read_form
from sandbox.messages.provider import Ask, MessageProvider, Taken, answer, demand
from sandbox.messages.refused import Refused
from sandbox.wire import Answer

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
CLAIMS = ("iss", "scope", "aud", "iat", "exp")
LIFETIME = 3599
LONGEST = 3600
SKEW = 300


class Google(MessageProvider):
    """Sends nothing; gives a token to who shows an assertion that is well-formed and fresh. Its
    signature is not looked at: `credentials` may name the only issuers that are good."""

    name: ClassVar[str] = "google"
    kind: ClassVar[str] = ""

    def take(self, ask: Ask) -> Taken:
        if (ask.request.method, ask.path) != ("POST", "/token"):
            raise Refused(404, "Not Found", code="not_found")
        form = read_form(ask.request)
        if form.first("grant_type") != GRANT:
            raise Refused(400, f"Invalid grant_type: {form.first('grant_type')}",
                          code="unsupported_grant_type")  # fmt: skip
        claims = _read_claims(form.first("assertion"))
        demand(
            self.conditions,
            str(claims["iss"]),
            Refused(400, "Invalid grant: account not found", code="invalid_grant"),
        )
        begins, ends = _times(claims)
        if ends - begins > LONGEST or not begins - SKEW <= ask.now <= ends:
            raise Refused(
                400,
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable "
                "timeframe. Check your iat and exp values in the JWT claim.",
                code="invalid_grant",
            )
        said = {
            "access_token": f"ya29.{random_text(60)}",
            "expires_in": LIFETIME,
            "token_type": "Bearer",
        }
        return Taken(answer(200, said))

    def refusal(self, refused: Refused, *, request_id: str) -> Answer:
        said = {
            "error": refused.first.code or "internal_failure",
            "error_description": str(refused),
        }
        return answer(refused.status, said).with_headers(refused.headers)

    def misshapen(self, error: BadInput) -> Refused:
        return Refused(400, str(error), code="invalid_request")


def _read_claims(assertion: str) -> dict[str, Any]:
    refused = Refused(400, "Invalid JWT Signature.", code="invalid_grant")
    parts = assertion.split(".")
    if len(parts) != 3 or not all(parts):
        raise refused
    try:
        header, claims = (json.loads(urlsafe_b64decode(each + "===")) for each in parts[:2])
    except (ValueError, binascii.Error) as error:
        raise refused from error
    if not isinstance(claims, dict) or not isinstance(header, dict) or header.get("alg") != "RS256":
        raise refused
    missing = [name for name in CLAIMS if not claims.get(name)]
    if missing:
        raise Refused(400, f"Required claims are missing: {', '.join(missing)}",
                      code="invalid_request")  # fmt: skip
    return claims


def _times(claims: dict[str, Any]) -> tuple[float, float]:
    """From when until when."""
    try:
        return float(claims["iat"]), float(claims["exp"])
    except (TypeError, ValueError) as error:
        raise Refused(
            400, "Invalid JWT: iat and exp must be numbers", code="invalid_grant"
        ) from error
