"""The decision on a version, as a note in Markdown and in a form for JSON."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.table import Table

from mtl_ray.promotion.findings import Finding, GateResult
from mtl_ray.reporting.results import Shown, metrics_frame
from mtl_ray.schema import segment_key

if TYPE_CHECKING:
    import pandas as pd

HEADER = ("metric", "rows", "users", "champion", "candidate", "improvement", "bound", "needed", "verdict")


@dataclass(frozen=True, repr=False)
class Decision(Shown):
    """The decision on a version, and its reasons.

    Example:
        >>> Decision("shop", "2", "rolled back", "3")
        Version 2 is champion again, before it was version 3.
    """

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
    dry_run: bool = False
    """True if nothing was changed, whatever the outcome."""

    @property
    def live(self) -> bool:
        """True if the version is the champion now, or would be but for `dry_run`."""
        return self.outcome != "refused"

    @property
    def metrics(self) -> dict[str, float]:
        """The candidate's metrics `test/task/metric[/segment]` on the rows of the gate, with the numbers of rows."""
        found: dict[str, float] = {}
        for key, finding in self._findings().items():
            required = finding.requirement
            found[segment_key("test", required.task, "count", required.segment or "all")] = finding.rows
            found[key] = finding.candidate
        return found

    def to_frame(self) -> "pd.DataFrame":
        """Return `metrics` as a tidy frame, with the champion's value, the improvement, its lower bound and the verdict
        beside each."""
        findings = self._findings().values()
        return metrics_frame(self.metrics).assign(
            champion=[finding.champion for finding in findings],
            improvement=[finding.improvement for finding in findings],
            bound=[finding.low for finding in findings],
            verdict=[finding.outcome for finding in findings],
        )

    def _findings(self) -> dict[str, Finding]:
        """Return the findings by key of the metric."""
        found = self.gate_result.findings if self.gate_result else []
        required = [(finding, finding.requirement) for finding in found]
        return {segment_key("test", r.task, r.metric, r.segment or "all"): finding for finding, r in required}

    def table(self) -> Table:
        """Return what the gate found as a table."""
        table = Table(title=f"{self.name}: {self._done()}")
        header, *rows = _cells(self.gate_result) if self.gate_result else [HEADER]
        for name in header:
            table.add_column(name)
        for row in rows:
            table.add_row(*row)
        return table

    def lines(self) -> Iterator[str]:
        """Yield the decision in one line, and the reasons to refuse."""
        yield self.summary()
        yield from self.gate_result.refusals if self.gate_result else []
        yield from self.caveats

    def markdown(self) -> str:
        """Return the note that is kept with the version."""
        lines = [f"## {self._done().capitalize()} on {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC", ""]
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
        becomes = f"Version {self.version} {'would be' if self.dry_run else 'is'}"
        instead_of = f"{'now it is' if self.dry_run else 'before it was'} {before}"
        match self.outcome:
            case "refused":
                return f"{becomes} refused; {before} stays champion."
            case "rolled back":
                return f"{becomes} champion again, {instead_of}."
            case _ if self.against is None:
                return f"{becomes} the first champion: there was none to compare with.{self._why()}"
            case _:
                return f"{becomes} champion, {instead_of}.{self._why()}"

    def _done(self) -> str:
        return f"would be {self.outcome}" if self.dry_run else self.outcome

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


def _cells(result: GateResult, mark: str = "") -> list[tuple[str, ...]]:
    """Return header and rows of the table of findings; `mark` stands on both sides of the word `target`."""
    rows = [
        (
            f"{f'{mark}target{mark} ' if f.requirement.margin is None else ''}{f.requirement}",
            f"{f.rows:,}",
            f"{f.users:,}",
            *(f"{value:z.4f}" for value in (f.champion, f.candidate)),
            *(f"{value:+z.4f}" for value in (f.improvement, f.low, f.needed)),
            f.outcome,
        )
        for f in result.findings
    ]
    return [HEADER, *rows]


def _table(result: GateResult) -> list[str]:
    header, *rows = _cells(result, "**")
    return [f"| {' | '.join(row)} |" for row in (header, ("---",) * len(header), *rows)]
