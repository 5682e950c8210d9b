"""What a proof is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

TIME_TOLERANCE = 0.00101  # seconds: Matroska keeps milliseconds


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. detail: what was found, fit to print."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Proof:
    """All checks of one result."""

    checks: tuple[Check, ...] = field(default=())

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if not check.passed)
