"""When a circuit opens and closes."""

from __future__ import annotations

from dataclasses import dataclass, fields

from django.core.exceptions import ImproperlyConfigured

BOUNDS: dict[str, tuple[float, float]] = {
    "failure_rate": (0.01, 1),
    "minimum_calls": (1, 1_000_000),
    "window": (1, 3600),
    "consecutive_failures": (1, 1_000_000),
    "slow_rate": (0.01, 1),
    "slow_seconds": (0.001, 3600),
    "open_seconds": (1, 86_400),
    "open_seconds_max": (1, 86_400),
    "jitter": (0, 10),
    "probes": (1, 1000),
    "successes": (1, 1000),
    "probe_lease": (1, 3600),
}
WHOLE = frozenset({"minimum_calls", "consecutive_failures", "probes", "successes"})
MAY_BE_NONE = frozenset({"consecutive_failures", "slow_rate"})


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a circuit opens and closes. Times in seconds. Raises ImproperlyConfigured when one is
    out of range.

    It opens when, of at least `minimum_calls` that ended within `window`, a share of
    `failure_rate` failed, or one of `slow_rate` took `slow_seconds`; or after
    `consecutive_failures`. It stays open for `open_seconds`, twice as long each time a probe
    fails, up to `open_seconds_max`, and longer by up to the share `jitter`. `probes` may be out at
    once, each for `probe_lease`; after `successes` of them it closes.
    """

    failure_rate: float = 0.5
    minimum_calls: int = 10
    window: float = 60.0
    consecutive_failures: int | None = None
    slow_rate: float | None = None
    slow_seconds: float = 5.0
    open_seconds: float = 30.0
    open_seconds_max: float = 600.0
    jitter: float = 0.2
    probes: int = 1
    successes: int = 3
    probe_lease: float = 30.0

    def __post_init__(self) -> None:
        for each in fields(self):
            _check(each.name, getattr(self, each.name))
        if self.open_seconds_max < self.open_seconds:
            raise ImproperlyConfigured(
                "breaker setting open_seconds_max must not be below open_seconds"
            )


def _check(name: str, value: object) -> None:
    if value is None and name in MAY_BE_NONE:
        return
    kinds = int if name in WHOLE else (int, float)
    low, high = BOUNDS[name]
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        what = "a whole number" if name in WHOLE else "a number"
        raise ImproperlyConfigured(
            f"breaker setting {name} must be {what} from {low:g} to {high:g}, not {value!r}"
        )
