"""What the benchmarks measured, as one table: in the terminal, and in `docs/results/performance.md`.

The rows are kept in `performance.json` beside it. A run of some benchmarks renews their rows and leaves the others.
"""

import json
import os
import platform
import statistics
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from rich.table import Table

RESULT = Path(__file__).parents[2] / "docs/results/performance.md"
ROWS = RESULT.with_suffix(".json")
HEAD = """# Performance

Ratios, each of two things measured side by side in one run; of several repetitions the median, with the lowest and the
highest behind it. Made by `make bench`. Times in seconds are of this machine alone.

"""


class Performance:
    """Rows of one test; what is below its bar fails the test when it ends."""

    def __init__(self, test: str, how: str) -> None:
        self.test, self.how = test, how
        self.rows: list[dict[str, Any]] = []

    def __call__(
        self,
        name: str,
        value: float | Sequence[float],
        *,
        bar: float | None = None,
        at_least: bool = True,
        note: str = "",
        seconds: bool = False,
    ) -> None:
        """Put a row into the table, and print it.

        Args:
            name: what is measured over what.
            value: the ratio, or those of several repetitions.
            bar: where it must be; None if it is only told.
            at_least: whether the bar is a lower one.
            note: the absolute numbers.
            seconds: the value is a time, which is told beside its bar and never fails.
        """
        values = sorted([value] if isinstance(value, int | float) else value)
        middle = statistics.median(values)
        held = None if bar is None else (middle >= bar if at_least else middle <= bar)
        unit = " s" if seconds else ""
        spread = f" ({values[0]:.2f} to {values[-1]:.2f})" if len(values) > 1 else ""
        row = {
            "name": name,
            "value": f"{middle:.2f}{unit}{spread}",
            "bar": "" if bar is None else f"{'at least' if at_least else 'at most'} {bar:g}{unit}",
            "held": {None: "", True: "held", False: "missed"}[held],
            "note": note,
            "asserted": not seconds,
        }
        self.rows.append(row)
        print(f"\n{name}: {row['value']} {row['bar']} {row['held']}; {note}")

    def record(self) -> dict[str, Any]:
        """What is kept of the test."""
        return {"how": self.how, "machine": _machine(), "date": date.today().isoformat(), "rows": self.rows}


@pytest.fixture
def performance(request: pytest.FixtureRequest) -> Iterator[Performance]:
    """Called with what a benchmark measured; see `Performance`."""
    how = " ".join((request.function.__doc__ or request.module.__doc__).split())
    measured = Performance(request.node.nodeid, how)
    yield measured
    request.config.stash[_MEASURED][measured.test] = measured
    missed = [f"{row['name']}: {row['value']}" for row in measured.rows if row["asserted"] and row["held"] == "missed"]
    if missed:
        pytest.fail("; ".join(missed), pytrace=False)


_MEASURED = pytest.StashKey[dict[str, Performance]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_MEASURED] = {}


def pytest_terminal_summary(config: pytest.Config) -> None:
    measured = {test: each.record() for test, each in config.stash[_MEASURED].items() if each.rows}
    if not measured:
        return
    table = Table(title="performance")
    for title in ("measured", "value", "bar", "", "numbers"):
        table.add_column(title)
    for record in measured.values():
        for row in record["rows"]:
            table.add_row(row["name"], row["value"], row["bar"], row["held"], row["note"])
    Console(width=160).print(table)
    kept = json.loads(ROWS.read_text()) if ROWS.exists() else {}
    kept = dict(sorted({**kept, **measured}.items()))
    ROWS.write_text(json.dumps(kept, indent=2) + "\n")
    RESULT.write_text(markdown(kept))


def markdown(records: dict[str, dict[str, Any]]) -> str:
    """The table of all rows, and under it how each was measured, by what command, when and where."""
    lines = ["| measured | value | bar | | numbers |", "|---|---|---|---|---|"]
    for record in records.values():
        lines += ["| {name} | {value} | {bar} | {held} | {note} |".format(**row) for row in record["rows"]]
    lines += ["", "## How", ""]
    for test, record in records.items():
        lines += [f"- `pytest {test} -s`, {record['date']}, {record['machine']}: {record['how']}"]
    return HEAD + "\n".join(lines) + "\n"


def _machine() -> str:
    return f"{os.cpu_count()} cores ({_processor()}), torch {torch.__version__}"


def _processor() -> str:
    """The processor's model, where Linux tells it."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
    return names[0] if names else platform.machine()
