"""Hooks by which a tenant learns what became of a call it asked for.

A hook runs inside the transaction that settles the call, in a savepoint of its own. If it fails,
the call stays settled, nothing is sent again, and the sweep runs the hook again until it passes:
so it must be idempotent. Put hooks into `<app>/settlements.py`; they are found by themselves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outbound.models import OutboundCall

Hook = Callable[["OutboundCall"], None]
Decorator = Callable[[Hook], Hook]

_settled: dict[tuple[str, str], list[Hook]] = defaultdict(list)
_revived: dict[tuple[str, str], list[Hook]] = defaultdict(list)
_postponed: dict[tuple[str, str], list[Hook]] = defaultdict(list)


ANY = "*"  # in place of an adapter's name: whoever does this operation


def on_settled(adapter: str, operation: str) -> Decorator:
    """Run a function when a call of this operation has an outcome: SUCCEEDED, FAILED, CANCELLED
    or UNKNOWN."""
    return _into(_settled[adapter, operation])


def on_revived(adapter: str, operation: str) -> Decorator:
    """Run a function in the transaction that retries a failed call, after the row has moved.
    It may raise RetryRefused to forbid that."""
    return _into(_revived[adapter, operation])


def on_postponed(adapter: str, operation: str) -> Decorator:
    """Run a function when a call that was to go now has to wait: parked by its circuit or by a
    limit, or to be tried again; `call.error_kind` and `call.error_code` tell why. It may stop the
    call (`outbound.services.cancel_call`) and ask somebody else. It is not run again when it fails:
    who must not miss one looks at the rows from time to time."""
    return _into(_postponed[adapter, operation])


def postponed_hooks(adapter: str, operation: str) -> list[Hook]:
    return _found(_postponed, adapter, operation)


def settled_hooks(adapter: str, operation: str) -> list[Hook]:
    return _found(_settled, adapter, operation)


def revived_hooks(adapter: str, operation: str) -> list[Hook]:
    return _found(_revived, adapter, operation)


def _found(hooks: dict[tuple[str, str], list[Hook]], adapter: str, operation: str) -> list[Hook]:
    return [*hooks.get((adapter, operation), []), *hooks.get((ANY, operation), [])]


def _into(hooks: list[Hook]) -> Decorator:
    def register(hook: Hook) -> Hook:
        if hook not in hooks:
            hooks.append(hook)
        return hook

    return register
