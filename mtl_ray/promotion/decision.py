"""The decision on a version, as a note in Markdown and in a form for JSON."""

import time
from dataclasses import dataclass, field
from typing import Any

from mtl_ray.promotion.findings import GateResult


@dataclass(frozen=True)
class Decision:
    """The decision on a version, and its reasons."""

    name: str
    version: str
    outcome: str
    """`promoted`, `refused`, `forced` or `rolled back`."""
    against: str | None
    """Version that was champion before."""
    reason: str = ""
    gate_result: GateResult | None = None
    rows_from: str = ""
    caveats: list[str] = field(default_factory=list)

    @property
    def live(self) -> bool:
        """True if the version is the champion now."""
        return self.outcome != "refused"

    def markdown(self) -> str:
        """Return the note that is kept with the version."""
        lines = [f"## {self.outcome.capitalize()} on {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC", ""]
        lines.append(self.summary())
        lines += [f"- {line}" for line in (self.gate_result.refusals if self.gate_result else [])]
        if result := self.gate_result:
            lines += ["", *_table(result), ""]
            lines.append(
                f"{result.rows:,} rows of {result.users:,} users from `{self.rows_from}`; paired bootstrap over "
                "users. `improvement` is above 0 where the candidate is better, its bound must be above `needed`."
            )
            lines += [f"- not compared: {line}" for line in result.missing]
        lines += [f"- {line}" for line in self.caveats]
        return "\n".join(lines) + "\n"

    def summary(self) -> str:
        """Return the decision in one line."""
        before = f"version {self.against}" if self.against else "no champion"
        match self.outcome:
            case "refused":
                return f"Version {self.version} is refused; {before} stays champion."
            case "rolled back":
                return f"Version {self.version} is champion again, before it was {before}."
            case _ if self.against is None:
                return f"Version {self.version} is the first champion: there was none to compare with.{self._why()}"
            case _:
                return f"Version {self.version} is champion, before it was {before}.{self._why()}"

    def _why(self) -> str:
        return f" Forced: {self.reason}" if self.outcome == "forced" else ""

    def to_dict(self) -> dict[str, Any]:
        """Return the decision in a form for JSON."""
        found = self.gate_result
        return {
            "model": self.name,
            "version": self.version,
            "outcome": self.outcome,
            "against": self.against,
            "reason": self.reason,
            "rows": found.rows if found else 0,
            "findings": [finding.to_dict() for finding in found.findings] if found else [],
            "refusals": found.refusals if found else [],
            "missing": found.missing if found else [],
            "caveats": self.caveats,
        }


def _table(result: GateResult) -> list[str]:
    header = ("metric", "rows", "users", "champion", "candidate", "improvement", "bound", "needed", "verdict")
    rows = [
        (
            f"{'**target** ' if f.requirement.margin is None else ''}{f.requirement}",
            f"{f.rows:,}",
            f"{f.users:,}",
            *(f"{value:.4f}" for value in (f.champion, f.candidate)),
            *(f"{value:+.4f}" for value in (f.improvement, f.low, f.needed)),
            f.outcome,
        )
        for f in result.findings
    ]
    return [f"| {' | '.join(row)} |" for row in (header, ("---",) * len(header), *rows)]
