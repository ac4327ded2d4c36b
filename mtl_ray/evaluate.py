"""Metrics of a checkpoint on a split of a prepared data set, predicted in parallel by Ray Data."""

import pickle
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import ray.data
import torch

from mtl_ray import checkpoint
from mtl_ray.data.load import Batch, to_batch
from mtl_ray.data.prepare import Prepared
from mtl_ray.errors import InputError
from mtl_ray.evaluation import metrics_of, outputs
from mtl_ray.experiment import Experiment
from mtl_ray.experiment.tasks import BinaryTask, RealTask
from mtl_ray.models import MultiTaskModel
from mtl_ray.schema import Schema, SplitName


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a split, and those of the constant prediction beside them."""

    metrics: dict[str, float]
    """`split/task/metric[/segment]` and row counts `split/task/count[/segment]`."""
    constant: dict[str, float]
    """The same keys for a model that always predicts the mean of the training labels."""


class _Predictor:
    """Loads the model once per actor."""

    def __init__(self, folder: str) -> None:
        torch.set_num_threads(1)
        self.model = checkpoint.load(Path(folder)).model

    def __call__(self, table: pa.Table) -> pa.Table:
        part = outputs(self.model, to_batch(table))
        return pa.table({"part": [pickle.dumps({name: column.numpy() for name, column in part.items()})]})


def evaluate_checkpoint(folder: Path, prepared: Prepared, split: SplitName) -> Evaluation:
    """Evaluate a checkpoint folder; every row of the split counts once.

    Raises:
        InputError: the split has no rows, or the data set was encoded for another model.
    """
    loaded = checkpoint.load(folder)
    if loaded.schema.fingerprint != prepared.schema.fingerprint:
        raise InputError(
            f"{folder}: the model was trained on data set {loaded.schema.fingerprint[:12]}, whose numbers mean other "
            f"values than those of {prepared.folder}; evaluate it on its own data set, or use `mtl-ray predict`"
        )
    files = (prepared.folder / split).files(".parquet")
    if not files:
        return Evaluation({}, {})
    dataset = ray.data.read_parquet(files, filesystem=prepared.folder.fs).map_batches(
        _Predictor,
        fn_constructor_args=(str(folder.absolute()),),
        batch_format="pyarrow",
        batch_size=loaded.experiment.evaluation.batch_size,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=4),
        num_cpus=1,
    )
    parts = [pickle.loads(row["part"]) for row in dataset.iter_rows()]  # noqa: S301 - written a line above
    batches = [{name: torch.from_numpy(column) for name, column in part.items()} for part in parts]
    metrics = metrics_of(loaded.experiment, loaded.model, batches, split)
    return Evaluation(metrics, _constant(loaded.experiment, loaded.schema, loaded.model, batches, split))


def _constant(
    experiment: Experiment, schema: Schema, model: MultiTaskModel, batches: list[Batch], split: SplitName
) -> dict[str, float]:
    """Metrics of always predicting the mean training label, for tasks where that is a prediction."""
    means = {
        name: schema.tasks[name].mean
        for name, task in experiment.tasks.items()
        if isinstance(task, RealTask | BinaryTask)
    }
    flat = [{n: torch.full_like(c, means[n]) if n in means else c for n, c in part.items()} for part in batches]
    metrics = metrics_of(experiment, model, flat, split)
    return {key: value for key, value in metrics.items() if _task_of(key) in means and not key.endswith("/loss")}


def _task_of(key: str) -> str:
    return key.split("/")[1]
