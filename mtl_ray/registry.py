"""From a trained checkpoint to a model in MLflow, and from a model's name back to its checkpoint folder."""

import re
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, TensorSpec
from mlflow.types.schema import AnyType, Array, Schema

from mtl_ray import checkpoint
from mtl_ray.data.prepare import Prepared
from mtl_ray.data.storage import Folder, local_copy
from mtl_ray.data.write import RAW_TEST
from mtl_ray.errors import InputError, first_line
from mtl_ray.experiment import Experiment
from mtl_ray.experiment.tasks import RANKED
from mtl_ray.score import Scorer
from mtl_ray.tracking import tracking_uri


def signature_of(scorer: Scorer) -> ModelSignature:
    """Raw columns in (a value may be text or number; only the ids must be there), one column a task out."""
    experiment = scorer.experiment
    keys = {experiment.column_of(experiment.user), experiment.column_of(experiment.item)}
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(AnyType(), name, required=name in keys) for name in scorer.input_columns()
    ]
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.double if task.kind in RANKED else Array(DataType.double), name)
        for name, task in experiment.tasks.items()
    ]
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs))


def example_of(scorer: Scorer, prepared: Prepared) -> pd.DataFrame:
    """A few raw test rows, or one row of unknown entities where there are none."""
    names = scorer.input_columns()
    files = (prepared.folder / RAW_TEST).files(".parquet")
    if not files:
        return pd.DataFrame({name: ["unknown"] for name in names[:2]})
    table = prepared.folder.read_table(f"{RAW_TEST}/{files[0].rpartition('/')[2]}").slice(0, 3)
    return pd.DataFrame({name: table.column(name).to_pylist() for name in names if name in table.column_names})


def with_start_at_hand(experiment: Experiment, folder: Folder) -> Experiment:
    """The experiment with the checkpoint of `training.warm_start` where every worker can read it.

    Args:
        experiment: of a run.
        folder: of the run, on storage that all workers share; a registered model is copied into it.

    Raises:
        InputError: there is no such model or folder.
    """
    model = experiment.training.warm_start
    if model is None:
        return experiment
    start = folder / re.sub(r"[^A-Za-z0-9@.]+", "-", f"warm_start-{model}")
    if not is_model_uri(model):
        start = Folder(model)
    elif not start.exists(checkpoint.WEIGHTS):
        own, aside = checkpoint_folder(model, tracking_uri(experiment)), start.suffixed(".partial").create()
        for file in (path for path in own.iterdir() if path.name != checkpoint.TRAINER):
            aside.write_bytes(file.name, file.read_bytes())
        aside.rename(start, last=checkpoint.WEIGHTS)
    if not start.exists(checkpoint.WEIGHTS):
        raise InputError(f"training.warm_start: expected a checkpoint folder or a model URI; found {model}")
    training = experiment.training.model_copy(update={"warm_start": start.location})
    return experiment.model_copy(update={"training": training})


def is_model_uri(model: str) -> bool:
    """Whether it names a model of MLflow, not a folder."""
    return "://" in model or model.startswith(("models:/", "runs:/"))


def checkpoint_folder(model: str, uri: str) -> Path:
    """The checkpoint folder of `model`: a folder, or a model URI such as `models:/NAME/1` or `models:/NAME@champion`.

    Raises:
        InputError: there is no such model.
    """
    if not is_model_uri(model):
        return local_copy(Folder(model)) if "://" in model else Path(model)
    mlflow.set_tracking_uri(uri)
    try:
        return Path(download_artifacts(model)) / "artifacts" / "checkpoint"
    except (MlflowException, OSError) as error:
        raise InputError(
            f"{model}: expected a checkpoint folder or a model URI such as models:/NAME/1; {first_line(error)}"
        ) from None
