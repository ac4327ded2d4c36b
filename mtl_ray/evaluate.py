"""Metrics of a checkpoint on a split of a prepared data set, predicted in parallel by Ray Data."""

import pickle
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import ray.data
import torch

from mtl_ray import checkpoint
from mtl_ray.baselines import evaluate_baselines
from mtl_ray.data.load import to_batch
from mtl_ray.data.prepare import Prepared
from mtl_ray.errors import InputError
from mtl_ray.evaluation import metrics_of, outputs
from mtl_ray.schema import SplitName


@dataclass(frozen=True)
class Evaluation:
    """Metrics of a split, and those of predictions without a model beside them."""

    metrics: dict[str, float]
    """`split/task/metric[/segment]` and row counts `split/task/count[/segment]`."""
    baselines: dict[str, dict[str, float]]
    """By baseline (see `mtl_ray.baselines`), the same keys."""

    @property
    def constant(self) -> dict[str, float]:
        """The same keys for a model that always predicts the mean of the training labels."""
        return self.baselines["constant"]


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
        return Evaluation({}, evaluate_baselines(loaded.experiment, prepared, split))
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
    return Evaluation(metrics, evaluate_baselines(loaded.experiment, prepared, split))
