"""One alert for each incident of a circuit: a Sentry event when it begins.

Whoever has won the change says it, once in the fleet. The recovery is told by the log line and the
signal with the same incident.
"""

from __future__ import annotations

from typing import Any

import sentry_sdk

from outbound.signals import circuit_changed
from outbound.states import CircuitState


def watch() -> None:
    circuit_changed.connect(alert, dispatch_uid="integrations_project.alerts")


def alert(*, transition: Any, **_: Any) -> None:
    """Tell Sentry of the first opening of an incident, and of no other change."""
    began = (transition.from_state, transition.to_state) == (CircuitState.CLOSED, CircuitState.OPEN)
    if not began:
        return
    with sentry_sdk.new_scope() as scope:
        scope.fingerprint = ["circuit", transition.circuit_id, str(transition.incident)]
        scope.set_extra("incident", str(transition.incident))
        scope.set_extra("why", transition.why)
        sentry_sdk.capture_message(f"circuit {transition.circuit_id} opened", level="error")
