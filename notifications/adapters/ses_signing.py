"""Signature Version 4, by botocore's signer: our requests to AWS go through our own client.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html"""

from __future__ import annotations

from dataclasses import dataclass, field

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from outbound.client import Request

SERVICE = "ses"


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs for one account in one region."""

    region: str
    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)

    def sign(self, request: Request) -> Request:
        """The same request with its signature, which counts for a few minutes."""
        credentials = Credentials(self.access_key, self.secret_key, self.session_token or None)
        signed = AWSRequest(request.method, request.url, dict(request.headers), request.body)
        SigV4Auth(credentials, SERVICE, self.region).add_auth(signed)
        return Request(request.method, request.url, dict(signed.headers.items()), request.body)
