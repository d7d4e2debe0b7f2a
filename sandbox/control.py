"""Start and steer a sandbox from Python. Standard library only.

with Sandbox.start(webhook_url=url, webhook_secret=secret) as sandbox:
    sandbox.add_fault("status", times=3, status=503)
    ...
    assert len(sandbox.ledger(key=key)) == 1
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sandbox.asking import Json
from sandbox.message_steering import MessageSteering
from sandbox.process import SMTP, SandboxError, finish_process, start_process
from sandbox.records import Delivery, Effect, Seen

POLL_SECONDS = 0.02

Fault = str | Mapping[str, Any]  # a kind, or {"kind": ..., options}


class Sandbox(MessageSteering):
    """One running sandbox. Everything here goes over its control endpoint. `smtp_port`: where it
    takes mail, if we started it so."""

    smtp_port: int | None = None

    def __init__(
        self, url: str, *, process: subprocess.Popen[str] | None = None, timeout: float = 10.0
    ) -> None:
        super().__init__(url, timeout=timeout)
        self._process = process

    @classmethod
    def start(
        cls,
        *,
        port: int = 0,
        smtp_port: int | None = None,
        host: str = "127.0.0.1",
        seed: int | None = None,
        webhook_url: str | None = None,
        webhook_secret: str | None = None,
        tracking_url: str | None = None,
        tracking_secrets: Path | None = None,
        ledger: Path | None = None,
        patience: float = 20.0,
    ) -> Sandbox:
        """Start one and wait until it listens, `patience` seconds at most. It ends with us.

        Raises SandboxError.
        """
        options = {
            "--port": port,
            "--smtp-port": smtp_port,
            "--host": host,
            "--seed": seed,
            "--webhook-url": webhook_url,
            "--webhook-secret": webhook_secret,
            "--tracking-url": tracking_url,
            "--tracking-secrets": tracking_secrets.resolve() if tracking_secrets else None,
            "--ledger": ledger.resolve() if ledger else None,
        }
        given = [f"{name}={value}" for name, value in options.items() if value is not None]
        process, where = start_process(["--exit-with-parent", *given], patience=patience)
        url, _, mail = where.partition(SMTP)
        started = cls(url, process=process)
        started.smtp_port = int(mail.rpartition(":")[2]) if mail else None
        return started

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()

    @property
    def pid(self) -> int:
        """Of the process that we started."""
        return self._started().pid

    def stop(self, *, patience: float = 10.0) -> int:
        """SIGTERM. The exit status. Raises SandboxError when it does not end in time."""
        process = self._started()
        process.terminate()
        try:
            return process.wait(patience)
        except subprocess.TimeoutExpired as error:
            raise SandboxError("the sandbox does not end") from error
        finally:
            finish_process(process)

    def kill(self) -> None:
        """SIGKILL, if we started it and it still runs."""
        if self._process is not None:
            finish_process(self._process)

    def freeze(self) -> None:
        """SIGSTOP: it is there and says nothing."""
        self._started().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._started().send_signal(signal.SIGCONT)

    def add_fault(
        self,
        fault: Fault,
        *,
        times: int | None = 1,
        rate: float = 1.0,
        per_key: int | None = None,
        method: str = "",
        path: str = "",
        key: str = "",
        body: str = "",
        **options: Any,
    ) -> int:
        """The next `times` requests (None: all, until it is cleared) that match meet the fault.
        `options` are the fault's own. The id of the rule."""
        rule = {
            "fault": {**_fault(fault), **options},
            "times": times,
            "rate": rate,
            "per_key": per_key,
            "match": {"method": method, "path": path, "key": key, "body": body},
        }
        return int(self.ask("POST", "/faults", rule)["id"])

    def set_mix(
        self,
        *,
        rate: float,
        kinds: Sequence[Fault],
        per_key: int | None = None,
        method: str = "",
        path: str = "",
    ) -> None:
        """Until it is cleared, this share of the requests meets one of these faults."""
        mix = {
            "rate": rate,
            "kinds": [_fault(kind) for kind in kinds],
            "per_key": per_key,
            "match": {"method": method, "path": path},
        }
        self.ask("PUT", "/faults/mix", mix)

    def clear_faults(self, id: int | None = None) -> int:  # noqa: A002
        """One rule, or all and the mix. How many."""
        return int(self.ask("DELETE", "/faults", _given(id=id))["cleared"])

    def faults(self) -> Json:
        """The rules in force."""
        return self.ask("GET", "/faults")

    def decline_for(
        self,
        *,
        amount: int | None = None,
        payment_method: str | None = None,
        customer: str | None = None,
        metadata: Mapping[str, str] | None = None,
        code: str | None = None,
        decline_code: str | None = None,
    ) -> int:
        """Payments that fit all of this are declined until it is cleared. The id of the rule."""
        rule = _given(
            amount=amount,
            payment_method=payment_method,
            customer=customer,
            metadata=dict(metadata) if metadata else None,
            code=code,
            decline_code=decline_code,
        )
        return int(self.ask("POST", "/declines", rule)["id"])

    def clear_declines(self, id: int | None = None) -> int:  # noqa: A002
        """One rule, or all. How many."""
        return int(self.ask("DELETE", "/declines", _given(id=id))["cleared"])

    def declines(self) -> list[Json]:
        """The rules in force."""
        return list(self.ask("GET", "/declines")["declines"])

    def change_settings(
        self,
        *,
        latency: float | None = None,
        search_lag: float | None = None,
        key_lifetime: float | None = None,
    ) -> Json:
        """All in seconds; what is not given stays. The settings in force."""
        given = _given(latency=latency, search_lag=search_lag, key_lifetime=key_lifetime)
        return self.ask("PATCH", "/settings", given)

    def confirm(self, payment_intent: str, *, payment_method: str | None = None) -> Json:
        """The customer pays. The payment intent."""
        given = _given(payment_intent=payment_intent, payment_method=payment_method)
        intent: Json = self.ask("POST", "/confirm", given)["payment_intent"]
        return intent

    def forget_keys(self, key: str | None = None) -> int:
        """As after 24 hours: one idempotency key, or all. How many."""
        return int(self.ask("POST", "/keys/forget", _given(key=key))["forgotten"])

    def reset(self) -> None:
        """As just started, but for the ledger's file; other connections are cut."""
        self.ask("POST", "/reset")

    def change_webhooks(
        self,
        *,
        url: str | None = None,
        secrets: Sequence[str] | None = None,
        types: Sequence[str] | None = None,
        timeout: float | None = None,
        retry_seconds: Sequence[float] | None = None,
        policy: Mapping[str, Any] | None = None,
        rules: Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        """Where events go, and how; what is not given stays. See docs/sandbox.md for policies."""
        given = _given(
            url=url,
            secrets=secrets,
            types=types,
            timeout=timeout,
            retry_seconds=retry_seconds,
            policy=policy,
            rules=rules,
        )
        self.ask("PATCH", "/webhooks", given)

    def hold_webhooks(self) -> None:
        """Keep all events back from now on."""
        self.change_webhooks(policy={"hold": True})

    def release_webhooks(
        self,
        *,
        types: Sequence[str] | None = None,
        limit: int | None = None,
        shuffle: bool = False,
    ) -> int:
        """Let held ones go; later ones are held as before. How many."""
        given = _given(types=types, limit=limit, shuffle=shuffle)
        return int(self.ask("POST", "/webhooks/release", given)["released"])

    def emit_event(
        self,
        type: str,  # noqa: A002  # Stripe's name
        object: Mapping[str, Any],  # noqa: A002
        **members: Any,
    ) -> str:
        """Make an event by hand; `members` as in docs/sandbox.md. Its id."""
        given = {"type": type, "object": dict(object), **members}
        return str(self.ask("POST", "/events", given)["id"])

    def post_raw(self, body: str, *, policy: Mapping[str, Any] | None = None) -> None:
        """Deliver this body as it is, signed."""
        self.ask("POST", "/events", _given(raw=body, policy=policy))

    def resend_event(self, event: str, *, policy: Mapping[str, Any] | None = None) -> None:
        """Deliver an event again."""
        self.ask("POST", "/events/resend", _given(event=event, policy=policy))

    def ledger(self, **equal: str) -> list[Effect]:
        """Effects, oldest first; by key, call, kind, object, account, provider or recipient."""
        return list(self.records("/ledger", Effect, equal))

    def requests(self, **equal: str) -> list[Seen]:
        """Requests, oldest first; by key, method, path, fault or request_id."""
        return list(self.records("/requests", Seen, equal))

    def deliveries(self, **equal: str) -> list[Delivery]:
        """Attempts to deliver events, oldest first; by event, type, outcome or provider."""
        return list(self.records("/deliveries", Delivery, equal))

    def summary(self) -> Json:
        """The numbers."""
        return self.ask("GET", "/summary")

    def wait_for_deliveries(self, *, patience: float = 30.0) -> None:
        """Until no event is on its way; held ones may stay. Raises SandboxError."""
        deadline = time.monotonic() + patience
        while self.ask("GET", "/deliveries?limit=1")["pending"]:
            if time.monotonic() > deadline:
                raise SandboxError(f"events are still on their way after {patience:g} s")
            time.sleep(POLL_SECONDS)

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise SandboxError("this sandbox was started by somebody else")
        return self._process


def _fault(fault: Fault) -> Json:
    return {"kind": fault} if isinstance(fault, str) else dict(fault)


def _given(**members: Any) -> Json:
    return {name: value for name, value in members.items() if value is not None}
