"""Demands of the gate on a candidate, and what it found."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Requirement:
    """A requirement of the gate on one metric in one segment."""

    task: str
    metric: str
    segment: str
    margin: float | None
    """Largest loss, as a share of the champion's value; None for the target, where the candidate must be better."""

    def __str__(self) -> str:
        return f"{self.task}/{self.metric}" + (f"/{self.segment}" if self.segment else "")


@dataclass(frozen=True)
class Finding:
    """The evidence of the rows on one requirement."""

    requirement: Requirement
    rows: int
    """Labelled rows of the segment."""
    users: int
    champion: float
    candidate: float
    improvement: float
    """Difference to the champion with the sign that makes positive values better."""
    low: float
    high: float
    """Bounds of the improvement; each is exceeded with probability `promotion.level`."""
    needed: float
    """Value that `low` must exceed."""
    decides: bool
    """False for a guard in a segment with too few users."""

    @property
    def passed(self) -> bool:
        """True if the candidate passes."""
        return not self.decides or self.low > self.needed

    @property
    def outcome(self) -> str:
        """The outcome in words."""
        if not math.isfinite(self.candidate):
            return "not a finite number"
        if not self.decides:
            return "too few users to decide"
        if self.requirement.margin is None:
            return "better" if self.passed else "not shown to be better"
        return "within the margin" if self.passed else "not shown to be within the margin"

    def refusal(self) -> str:
        """Return the numbers that refuse the candidate, as one line."""
        if not math.isfinite(self.candidate):
            return f"{self.requirement}: {self.champion:z.4f} -> {self.candidate}, on {self.rows:,} labelled rows"
        return (
            f"{self.requirement}: {self.champion:z.4f} -> {self.candidate:z.4f}, improvement {self.improvement:+z.4f}, "
            f"lower bound {self.low:+z.4f}, which must be above {self.needed:+z.4f}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the finding in a form for JSON."""
        found = {"key": str(self.requirement), **asdict(self), "passed": self.passed, "verdict": self.outcome}
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in found.items()}


@dataclass(frozen=True)
class GateResult:
    """The findings on all requirements."""

    findings: list[Finding]
    rows: int
    users: int
    missing: list[str]
    """Requirements that could not be checked, and why."""
    lost: list[str]
    """Tasks that the champion predicts and the candidate does not."""
    broken: dict[str, int] = field(default_factory=dict)
    """Rows whose prediction by the candidate is not finite, by task."""

    @property
    def refusals(self) -> list[str]:
        """The reasons to refuse the candidate; empty if it passes."""
        lost = [f"the candidate does not predict `{task}`, the champion does" for task in self.lost]
        broken = [
            f"the candidate's prediction of `{task}` is not finite on {count:,} of {self.rows:,} rows"
            for task, count in self.broken.items()
        ]
        return broken + lost + [finding.refusal() for finding in self.findings if not finding.passed]
