"""One alert for each incident, of a circuit or of a burst of refusals: a Sentry event at its start.

Whoever has won the change says it, once in the fleet. The recovery is told by the log line and the
signal with the same incident.
"""

from __future__ import annotations

from typing import Any

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
    _tell(
        f"circuit {transition.circuit_id} opened",
        fingerprint=["circuit", transition.circuit_id, str(transition.incident)],
        incident=str(transition.incident),
        why=transition.why,
    )


def alert_of_rejects(*, watch: Any, incident: Any, began: bool, **_: Any) -> None:
    """Tell Sentry that too many deliveries of a source are refused; of the end, nothing."""
    if not began:
        return
    name = watch.source or "unknown sources"
    _tell(
        f"deliveries of {name} are refused",
        fingerprint=["rejects", watch.source, str(incident)],
        incident=str(incident),
        refused=watch.refused,
    )


def _tell(message: str, *, fingerprint: list[str], **extra: Any) -> None:
    import sentry_sdk  # takes its time, and without an incident nobody needs it

    with sentry_sdk.new_scope() as scope:
        scope.fingerprint = fingerprint
        for name, value in extra.items():
            scope.set_extra(name, value)
        sentry_sdk.capture_message(message, level="error")
