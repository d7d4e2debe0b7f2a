"""The task to which ours is compared: a request, repeated when it fails, and no rows."""

from __future__ import annotations

import os
import threading

import requests
from celery import Celery

app = Celery("bare", broker=os.environ["CELERY_BROKER_URL"])
app.conf.task_default_queue = "bare-calls"
app.conf.task_ignore_result = True
app.conf.broker_transport_options = {"confirm_publish": True}
_own = threading.local()


@app.task(
    acks_late=True,
    autoretry_for=(requests.RequestException,),
    retry_backoff=True,
    max_retries=10,
)
def create_customer(email: str, key: str) -> None:
    """Over the thread's own connection. key: what Stripe tells repetitions by."""
    answer = _session().post(
        f"{os.environ['STRIPE_API_BASE']}/v1/customers",
        data={"email": email},
        headers={"Idempotency-Key": key},
        timeout=10,
    )
    answer.raise_for_status()


def _session() -> requests.Session:
    session: requests.Session | None = getattr(_own, "session", None)
    if session is None:
        session = _own.session = requests.Session()
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {os.environ['STRIPE_SECRET_KEY']}"
    return session
