"""Evaluate a checkpoint on a split of a prepared data set, through Ray Data if it has many rows."""

import pickle
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mtl_ray.data.dataset import Prepared
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
from mtl_ray.schema import ITEM_SUPPORT, SEGMENTS, USER_SUPPORT, SplitName, segments
from mtl_ray.storage import Folder

# Few rows are evaluated without Ray, which is slow to load.
# ruff: noqa: PLC0415


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a split, and those of predictions without a model."""

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


def evaluate_checkpoint(folder: Path, prepared: Prepared, split: SplitName) -> Evaluation:
    """Evaluate a checkpoint folder on all rows of a split.

    Raises:
        InputError: the split has no rows, or the data set was encoded for another model.
    """
    loaded = checkpoint.load(folder)
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
