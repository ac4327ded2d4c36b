"""`drift`: compare new rows with those that the model was evaluated on at the end of its training."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from mtl_ray.config.custom import Trust
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.loader import Shard, draw_rows, read_directly, select
from mtl_ray.data.preparation.row_checks import bad_inputs
from mtl_ray.data.sources.csv_dialect import dialect_of
from mtl_ray.data.sources.files import open_log
from mtl_ray.errors import InputError
from mtl_ray.inference.reference import (
    REFERENCE,
    Distribution,
    Reference,
    rate_noise,
    reference_of,
    stability_index,
    values_of,
)
from mtl_ray.models import checkpoint
from mtl_ray.schema import SPLITS, SplitName
from mtl_ray.scoring.scorer import Scorer
from mtl_ray.storage import Folder

REFERENCE_ROWS = 100_000
"""The most rows, drawn at random, from which a reference is made."""


@dataclass(frozen=True)
class Limits:
    """The largest differences that are not a drift."""

    psi: float
    """Population stability index of an input or of a task's predictions."""
    null_change: float
    """Change, in either direction, of an input's share of nulls."""
    unknown_rise: float
    """Rise of an input's share of values that training did not see."""


@dataclass(frozen=True)
class Row:
    """The comparison of one input, or of a task's predictions."""

    psi: float
    noise: float
    """Upper limit of the index for an unchanged distribution with samples of this size; a smaller index is no drift."""
    null_rate: tuple[float, float]
    """Shares of nulls in the reference and in the new rows."""
    unknown_rate: tuple[float, float]
    drifts: tuple[str, ...]
    """Drifts that were found: any of `distribution`, `nulls` and `unknown`."""


@dataclass(frozen=True)
class Drift:
    """The comparison of new rows with a reference."""

    num_rows: int
    num_bad: int
    """Number of rows that could not be scored and are left out."""
    reference: Reference
    rows: dict[str, Row]
    """Comparisons by name of an input, or `predicted_TASK`."""

    @property
    def drifted(self) -> list[str]:
        """Names of inputs and predictions that are over a limit."""
        return [name for name, row in self.rows.items() if row.drifts]

    def table(self) -> Table:
        """Return a table for the terminal."""
        reference = f"{self.reference.num_rows:,} {self.reference.split} rows"
        result = Table(title=f"{self._told()} against {reference} of the training")
        for title in ("", "PSI", "null then", "null now", "unknown then", "unknown now", "drift"):
            result.add_column(title, justify="left" if title in ("", "drift") else "right")
        for name, row in self.rows.items():
            rates = (f"{rate:.1%}" for rate in (*row.null_rate, *row.unknown_rate))
            result.add_row(name, f"{row.psi:z.3f}", *rates, ", ".join(row.drifts))
        return result

    def _told(self) -> str:
        return f"{self.num_rows:,} new rows{f' ({self.num_bad:,} more are bad)' if self.num_bad else ''}"

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison in a form for JSON."""
        return {
            "rows": self.num_rows,
            "bad": self.num_bad,
            "reference": {"split": self.reference.split, "rows": self.reference.num_rows},
            "drifted": self.drifted,
            "values": {name: asdict(row) for name, row in self.rows.items()},
        }


def write_reference(folder: Path, prepared: Prepared, trust: Trust = False) -> None:
    """Write the reference of a trained checkpoint into its folder.

    It is made from rows that were not trained on, if there are any: training rows have no unknown ids, and the model is
    too sure of them.
    """
    loaded, schema = checkpoint.load(folder, trust), prepared.schema
    experiment = loaded.experiment
    split: SplitName = next(name for name in reversed(SPLITS) if schema.num_rows[name])
    batch = draw_rows(Shard(prepared.folder, schema, split, 0, 1, 0, read_directly), REFERENCE_ROWS, experiment.seed)
    places = torch.arange(len(next(iter(batch.values())))).split(experiment.evaluation.batch_size)
    parts = [loaded.model.predict(select(batch, index)) for index in places]
    predictions = {task: torch.cat([part[task] for part in parts]).numpy() for task in experiment.tasks}
    reference = reference_of(experiment, batch, predictions, split)
    (folder / REFERENCE).write_text(reference.model_dump_json(indent=2) + "\n")


def drift(model: Path, rows: str, limits: Limits, trust: Trust = False) -> Drift:
    """Compare raw rows, read chunk by chunk, with the reference of a model.

    Args:
        model: checkpoint folder.
        rows: Parquet or CSV file, folder or glob with rows as `predict` takes them.
        limits: the largest differences that are not a drift.
        trust: the `custom` classes that the model may import, see `checkpoint.load`.

    Raises:
        InputError: the model has no reference, or the rows cannot be read.
    """
    scorer = Scorer(model, trust)
    scorer.check(str(model))
    if not (model / REFERENCE).is_file():
        raise InputError(f"{model}: expected {REFERENCE}, which `train` writes; train the model again")
    reference = Folder(str(model)).read_model(REFERENCE, Reference)
    num_rows = num_bad = 0
    sums = {name: np.zeros(len(d.counts), int) for name, d in reference.distributions.items()}
    log = open_log(rows, dialect=dialect_of(scorer.experiment.data.source))
    scorer.check_ids(log.columns, rows)
    for chunk in log.chunks:
        for _, whole in chunk.read():
            good = bad_inputs(scorer.experiment, whole).is_null()
            table = whole.filter(good)
            num_bad += len(whole) - len(table)
            num_rows += len(table)
            if not len(table):
                continue
            inputs = scorer.inputs(table)
            for name, values in values_of(scorer.experiment, inputs, scorer.predict(inputs)).items():
                sums[name] += reference.distributions[name].count(values)
    if not num_rows:
        raise InputError(f"{rows}: expected rows that can be scored; found {num_bad:,} bad ones")
    found = {name: _compared(d, d.with_counts(sums[name]), limits) for name, d in reference.distributions.items()}
    return Drift(num_rows, num_bad, reference, found)


def _compared(then: Distribution, now: Distribution, limits: Limits) -> Row:
    psi, noise = stability_index(then, now)
    nulls, unknown = (then.null_rate, now.null_rate), (then.unknown_rate, now.unknown_rate)
    over = {
        "distribution": psi > max(limits.psi, noise),
        "nulls": abs(nulls[1] - nulls[0]) > max(limits.null_change, rate_noise(*nulls, then.total, now.total)),
        "unknown": unknown[1] - unknown[0] > max(limits.unknown_rise, rate_noise(*unknown, then.total, now.total)),
    }
    drifts = tuple(kind for kind, is_over in over.items() if is_over)
    return Row(psi, noise, nulls, unknown, drifts)
