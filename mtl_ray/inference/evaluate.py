"""Evaluate a model on a split of a prepared data set, through Ray Data if it has many rows."""

import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.table import Table

from mtl_ray.config.custom import Trust
from mtl_ray.data.dataset import Prepared, open_prepared
from mtl_ray.data.loader import Batch, read_directly, to_batch
from mtl_ray.errors import InputError
from mtl_ray.evaluation.baselines import evaluate_baselines
from mtl_ray.evaluation.evaluate import by_row, evaluated, metrics_of
from mtl_ray.evaluation.segments import segment_masks
from mtl_ray.evaluation.spread import SpreadCheck, spread_checks
from mtl_ray.evaluation.uncertainty import Bin, calibration, intervals
from mtl_ray.inference.batch import IN_PROCESS_ROWS
from mtl_ray.models import MultiTaskModel, checkpoint
from mtl_ray.models.ensemble import Ensemble
from mtl_ray.reporting.results import Shown, metrics_frame, metrics_table
from mtl_ray.schema import ITEM_SUPPORT, SEGMENTS, SPLITS, USER_SUPPORT, SplitName, segments
from mtl_ray.storage import Folder

if TYPE_CHECKING:
    import pandas as pd

# Few rows are evaluated without Ray, which is slow to load; so is MLflow, which not every model needs.
# ruff: noqa: PLC0415


@dataclass(frozen=True, repr=False)
class Evaluation(Shown):
    """Metrics of a split, and those of predictions without a model.

    Example:
        >>> found = Evaluation({"test/click/count": 80.0, "test/click/auc": 0.75}, {"constant": {}})
        >>> found.to_frame()
          split   task metric segment  value  rows
        0  test  click    auc     all   0.75    80
    """

    metrics: dict[str, float]
    """`split/task/metric[/segment]` and row counts `split/task/count[/segment]`."""
    baselines: dict[str, dict[str, float]]
    """Metrics with the same keys, by baseline (see `mtl_ray.evaluation.baselines`)."""
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    """95% intervals of each task's first metric, with the same keys (see `mtl_ray.evaluation.uncertainty`)."""
    calibration: dict[str, list[Bin]] = field(default_factory=dict)
    """Calibration by task, for tasks whose prediction estimates the label."""
    spread: dict[str, SpreadCheck] = field(default_factory=dict)
    """Stated uncertainty and error by `task[/segment]`, for an ensemble (see `mtl_ray.evaluation.spread`)."""

    @property
    def constant(self) -> dict[str, float]:
        """Metrics of a model that always predicts the mean training label, with the same keys."""
        return self.baselines["constant"]

    def to_frame(self) -> "pd.DataFrame":
        """Return `metrics` as a tidy frame: split, task, metric, segment, value, rows."""
        return metrics_frame(self.metrics)

    def table(self, name: str = "", noise_floor: Mapping[str, float] | None = None) -> Table:
        """Return the metrics by segment as a table, beside those of the constant prediction.

        Args:
            name: stands first in the title.
            noise_floor: best reachable values by `task/metric`, for a column of its own.
        """
        split = next((key.partition("/")[0] for key in self.metrics), "no")
        beside = {"constant": self.constant}
        if noise_floor is not None:
            beside["noise floor"] = {f"{split}/{key}": value for key, value in noise_floor.items()}
        return metrics_table(self.metrics, f"{name}: {split} rows, by segment".removeprefix(": "), beside)


def _of_file(model: MultiTaskModel | Ensemble, folder: Folder, file: str, batch_size: int) -> Batch:
    """Return the evaluated rows of one file.

    A prediction's last digits depend on the other rows of its batch, so batches never span files.
    """
    (table,) = read_directly(folder, [file])
    slices = (table.slice(first, batch_size) for first in range(0, len(table), batch_size))
    return evaluated(model, map(to_batch, slices))


class _Predictor:
    """An actor with the model, which is passed by value since the checkpoint may exist on the driver's node alone."""

    def __init__(self, model: list[Any], location: str, batch_size: int) -> None:
        import ray

        torch.set_num_threads(1)
        self.model: MultiTaskModel | Ensemble = ray.get(model[0])
        self.folder, self.batch_size = Folder(location), batch_size

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        part = _of_file(self.model, self.folder, row["file"], self.batch_size)
        return {**row, "part": pickle.dumps({name: column.numpy() for name, column in part.items()})}


def _of_files(model: MultiTaskModel | Ensemble, folder: Folder, files: list[str], batch_size: int) -> list[Batch]:
    """Return the evaluated rows of each file, from processes of Ray Data."""
    import ray
    import ray.data

    from mtl_ray.cluster.session import connect

    connect()
    dataset = ray.data.from_items([{"file": file} for file in files], override_num_blocks=len(files)).map(
        _Predictor,  # pyright: ignore[reportArgumentType] - Ray makes an actor of a class
        fn_constructor_args=([ray.put(model)], folder.location, batch_size),
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(4, len(files))),
        num_cpus=1,
    )
    found = sorted(dataset.iter_rows(), key=lambda row: row["file"])
    parts = [pickle.loads(row["part"]) for row in found]  # noqa: S301 - written a few lines above
    return [{name: torch.from_numpy(column) for name, column in part.items()} for part in parts]


def evaluate(
    model: str | Path,
    dataset: str | Path | Prepared,
    split: SplitName = "test",
    *,
    tracking_uri: str | None = None,
    trust: Trust = False,
) -> Evaluation:
    """Evaluate a model on all rows of a split of the data set that it was trained on.

    Args:
        model: checkpoint folder, or model URI such as `models:/shop@champion`.
        dataset: what `prepare` returned, or the location of the data set.
        split: `train`, `valid` or `test`.
        tracking_uri: MLflow server of a model URI; by default that of the environment.
        trust: the `custom` classes that the model may import: all (True), none (False) or those of these names.

    Raises:
        InputError: no such model or data set, the split has no rows, or the data set was encoded for another model.

    Example:
        >>> evaluate(trained.model_uri, trained.prepared, "valid").metrics["valid/click/auc"]
        0...
    """
    from mtl_ray.tracking.registry import opened_checkpoint
    from mtl_ray.tracking.tracked_run import default_uri

    if split not in SPLITS:
        raise InputError(f"split: expected train, valid or test; found {split}")
    prepared = dataset if isinstance(dataset, Prepared) else open_prepared(str(dataset))
    with opened_checkpoint(str(model), tracking_uri or default_uri()) as folder:
        return evaluate_checkpoint(folder, prepared, split, trust)


def evaluate_checkpoint(folder: Path, prepared: Prepared, split: SplitName, trust: Trust = False) -> Evaluation:
    """Evaluate a checkpoint folder on all rows of a split.

    Args:
        folder: checkpoint folder.
        prepared: its data set.
        split: the rows.
        trust: the `custom` classes that the model may import, see `checkpoint.load`.

    Raises:
        InputError: the split has no rows, or the data set was encoded for another model.
    """
    loaded = checkpoint.load(folder, trust)
    if loaded.schema.fingerprint != prepared.schema.fingerprint:
        raise InputError(
            f"{folder}: the model was trained on data set {loaded.schema.fingerprint[:12]}, whose numbers mean other "
            f"values than those of {prepared.folder}; evaluate it on its own data set, or use `mtl-ray predict`"
        )
    experiment, tasks = loaded.experiment, loaded.model.tasks
    buckets = experiment.evaluation.support_buckets
    baselines = evaluate_baselines(
        experiment.tasks, prepared, split, user=experiment.user, item=experiment.item, support_buckets=buckets
    )
    files = (prepared.folder / split).files(".parquet")
    if not files:
        return Evaluation({}, baselines)
    place, batch_size = prepared.folder / split, experiment.evaluation.batch_size
    if prepared.schema.num_rows[split] > IN_PROCESS_ROWS:
        parts = _of_files(loaded.model, place, files, batch_size)
    else:
        parts = [_of_file(loaded.model, place, file, batch_size) for file in files]
    rows = by_row(parts)
    for name in tasks:
        finite = rows[name].isfinite()
        if broken := int((~(finite if finite.ndim == 1 else finite.all(1))).sum()):
            warnings.warn(f"{folder}: the prediction of {name} is not finite on {broken:,} of the rows", stacklevel=2)
    named = [s for s in segments(buckets) if s.name in SEGMENTS]
    masks = segment_masks(rows[USER_SUPPORT], rows[ITEM_SUPPORT], named)
    masks = {"": torch.ones(len(rows[USER_SUPPORT]), dtype=torch.bool), **masks}
    return Evaluation(
        metrics_of(loaded.model, rows, split, buckets, weights=experiment.weights()),
        baselines,
        intervals(tasks, rows, masks, split),
        calibration(tasks, rows),
        spread_checks(tasks, rows, masks, loaded.noise),
    )
