"""Every request to the API, and how it ended."""

from __future__ import annotations

import hashlib
import time

from sandbox.recent import Recent
from sandbox.records import Seen
from sandbox.wire import Request


class Traffic(Recent[Seen]):
    """Counted from the moment a request has arrived in full."""

    def arrived(self, request: Request, *, request_id: str) -> Seen:
        """Write a request down."""
        return self.add(
            lambda seq: Seen(
                seq=seq,
                method=request.method,
                path=request.path,
                account=request.headers.get("stripe-account", ""),
                key=request.headers.get("idempotency-key", ""),
                body_sha256=hashlib.sha256(request.body).hexdigest(),
                request_id=request_id,
                arrived_at=time.time(),
            )
        )
