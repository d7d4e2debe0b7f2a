"""Signature Version 4. https://docs.aws.amazon.com/IAM/latest/UserGuide/create-signed-request.html"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote

from sandbox.messages.refused import Refused
from sandbox.wire import Request

AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/,\s]{3,128})/"
    r"([0-9]{8}/[a-z0-9-]{4,30}/([a-z0-9-]+)/aws4_request),"
    r" ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})"
)
TOLERANCE_SECONDS = 300.0
SERVICE = "ses"


def demand_signature(
    request: Request, *, credentials: tuple[str, ...] | None, now: float | None = None
) -> None:
    """Raises Refused for what is not signed as AWS wants it. The signature itself is compared when
    there are `credentials`, each `ACCESS_KEY:SECRET`."""
    found = AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    if found is None:
        raise Refused(
            403, "Missing Authentication Token", code="MissingAuthenticationTokenException"
        )
    access_key, scope, service, names, signature = found.groups()
    stamp = request.headers.get("x-amz-date", "")
    if service != SERVICE or not {"host", "x-amz-date"} <= set(names.split(";")):
        raise _mismatch(f"Credential should be scoped to correct service: '{SERVICE}'.")
    if stamp[:8] != scope[:8] or abs(_moment(stamp) - (now or time.time())) > TOLERANCE_SECONDS:
        raise _mismatch("Signature expired, or not yet current")
    if credentials is None:
        return
    secrets = dict(each.partition(":")[::2] for each in credentials)
    if access_key not in secrets:
        raise Refused(
            403,
            "The security token included in the request is invalid.",
            code="UnrecognizedClientException",
        )
    wanted = _signature(request, names, stamp, scope, secrets[access_key])
    if not hmac.compare_digest(wanted, signature):
        raise _mismatch(
            "The request signature we calculated does not match the signature you provided."
        )


def _mismatch(message: str) -> Refused:
    return Refused(403, message, code="InvalidSignatureException")


def _moment(stamp: str) -> float:
    try:
        return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0


def _signature(request: Request, names: str, stamp: str, scope: str, secret: str) -> str:
    canonical = "\n".join(
        [
            request.method,
            quote(request.path, safe="/-_.~"),
            _canonical_query(request.query),
            *(f"{name}:{_squeezed(request.headers.get(name, ''))}" for name in names.split(";")),
            "",
            names,
            hashlib.sha256(request.body).hexdigest(),
        ]
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _canonical_query(query: str) -> str:
    pairs = sorted(
        (quote(name, safe="-_.~"), quote(value, safe="-_.~"))
        for name, value in parse_qsl(query, keep_blank_values=True)
    )
    return "&".join(f"{name}={value}" for name, value in pairs)


def _squeezed(value: str) -> str:
    return " ".join(value.split())
