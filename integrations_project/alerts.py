"""One alert for each incident, of a circuit or of a burst of refusals: a Sentry event at its start.

Whoever has won the change says it, once in the fleet. The recovery is told by the log line and the
signal with the same incident.
"""

from __future__ import annotations

from typing import Any

import sentry_sdk

from outbound.signals import circuit_changed
from outbound.states import CircuitState
from webhooks.signals import rejects_burst


def watch() -> None:
    circuit_changed.connect(alert, dispatch_uid="integrations_project.alerts")
    rejects_burst.connect(alert_of_rejects, dispatch_uid="integrations_project.alerts")


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


def alert_of_rejects(*, watch: Any, incident: Any, began: bool, **_: Any) -> None:
    """Tell Sentry that too many deliveries of a source are refused; of the end, nothing."""
    if not began:
        return
    name = watch.source or "unknown sources"
    with sentry_sdk.new_scope() as scope:
        scope.fingerprint = ["rejects", watch.source, str(incident)]
        scope.set_extra("incident", str(incident))
        scope.set_extra("refused", watch.refused)
        sentry_sdk.capture_message(f"deliveries of {name} are refused", level="error")
