"""Register a checkpoint as a model in MLflow, and find the checkpoint of a registered model."""

import atexit
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, TensorSpec
from mlflow.types.schema import AnyType, Array, Schema

import mtl_ray
from mtl_ray.config import Experiment
from mtl_ray.config.custom import code_of
from mtl_ray.config.tasks import metric_names
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.item_catalog import ITEMS
from mtl_ray.data.preparation.write import RAW_TEST
from mtl_ray.errors import InputError, first_line
from mtl_ray.models import checkpoint
from mtl_ray.models.ensemble import Ensemble
from mtl_ray.schema import SEGMENTS, segments
from mtl_ray.scoring.scorer import Scorer
from mtl_ray.storage import Folder, local_copy
from mtl_ray.tracking.database import client_of, use_server
from mtl_ray.tracking.entries import metric_key
from mtl_ray.tracking.tracked_run import Run, git_commit

CANDIDATE = "candidate"
"""Alias of the version that was registered last and is not promoted yet."""

DATASET_FOLDER = "dataset_folder"
"""Tag of a version with the location of its data set."""

WEIGHTS = "weights"
"""Tag of a version with the digest of its weights."""


def signature_of(scorer: Scorer) -> ModelSignature:
    """Return the signature: raw columns in (text or numbers; only the ids are required), one column per task out.

    An ensemble takes the parameter `uncertainty`.
    """
    experiment = scorer.experiment
    keys = {experiment.column_of(experiment.user), experiment.column_of(experiment.item)}
    inputs: list[ColSpec | TensorSpec] = [
        ColSpec(AnyType(), name, required=name in keys) for name in scorer.input_columns()
    ]
    outputs: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.double if task.predicts_number else Array(DataType.double), name)
        for name, task in experiment.tasks.items()
    ]
    params: Any = None
    if isinstance(scorer.model, Ensemble):
        params = ParamSchema([ParamSpec("uncertainty", DataType.boolean, default=False)])
    return ModelSignature(inputs=Schema(inputs), outputs=Schema(outputs), params=params)


def example_of(scorer: Scorer, prepared: Prepared) -> pd.DataFrame:
    """Return a few raw test rows, or one row of unknown entities if there are none."""
    names = scorer.input_columns()
    files = (prepared.folder / RAW_TEST).files(".parquet")
    if not files:
        return pd.DataFrame({name: ["unknown"] for name in names[:2]})
    table = prepared.folder.read_table(f"{RAW_TEST}/{files[0].rpartition('/')[2]}").slice(0, 3)
    return pd.DataFrame({name: table.column(name).to_pylist() for name in names if name in table.column_names})


def register(
    experiment: Experiment,
    run: Run,
    folder: Path,
    prepared: Prepared,
    signature: Any,
    example: Any,
    metrics: Mapping[str, float],
) -> str | None:
    """Log the checkpoint in `folder` as a pyfunc model, and return its URI, or None if MLflow does not answer.

    With `tracking.register_as` it becomes a registered version with tags (see `version_tags`) and the alias
    `candidate`. The model contains the items of the data set, so that it can recommend on its own. Weights that the run
    registered before it was killed are not registered again.
    """
    package = Path(mtl_ray.__file__).parent
    needed = ("torch", "numpy", "pandas", "pyarrow", "pydantic", "PyYAML", "safetensors", "torchmetrics", "torchjd")
    uri: list[str] = []
    weights = checkpoint.digest_of(folder, checkpoint.files_of(folder)[1])

    def log() -> None:
        name, client = experiment.tracking.register_as, run.client
        if name and (known := _registered(client, name, run.required_id(), weights)):
            uri.append(f"models:/{name}/{known.version}")
            if "promotion" not in known.tags and str(known.version) not in _aliased(client, name):
                client.set_registered_model_alias(name, CANDIDATE, str(known.version))
            return
        use_server(run.uri)
        with tempfile.TemporaryDirectory() as place, mlflow.start_run(run_id=run.required_id()):
            # MLflow keeps the path of the model's code, so give it one that tells nothing about this machine.
            code = Path(place) / "pyfunc.py"
            # Scoring needs no optimizer state. The folder's name becomes part of the model.
            scored = Path(place) / "checkpoint"
            shutil.copytree(folder, scored, ignore=shutil.ignore_patterns(checkpoint.TRAINER))
            if prepared.folder.exists(ITEMS):
                prepared.folder.copy_to(ITEMS, scored / ITEMS)
            code.write_text((package / "tracking/pyfunc.py").read_text())
            info = mlflow.pyfunc.log_model(
                name="model",
                python_model=str(code),
                artifacts={"checkpoint": str(scored)},
                code_paths=[str(package), *map(str, _code_of(folder))],
                signature=signature,
                input_example=example,
                pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in needed],
            )
            if name is None:
                uri.append(info.model_uri)
                return
            tags = {**version_tags(experiment, prepared, metrics), WEIGHTS: weights}
            number = mlflow.register_model(info.model_uri, name, tags=tags).version
            uri.append(f"models:/{name}/{number}")
            client.set_registered_model_alias(name, CANDIDATE, str(number))

    run.attempt("log the model", log)
    return uri[0] if uri else None


def _code_of(folder: Path) -> list[Path]:
    """Return the folders and files with the `custom` classes that a checkpoint names, its members' included."""
    places = [
        (folder / file).parent for file in checkpoint.files_of(folder)[0] if Path(file).name == checkpoint.SETTINGS
    ]
    found = [code_of(checkpoint.load_settings(place)) for place in places]
    return list(dict.fromkeys(place for code in found for place in code.values()))


def _registered(client: MlflowClient, name: str, run_id: str, weights: str) -> ModelVersion | None:
    """Return the version that the run has registered with these weights."""
    found = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    return next((version for version in found if version.tags.get(WEIGHTS) == weights), None)


def _aliased(client: MlflowClient, name: str) -> set[str]:
    return {str(version) for version in client.get_registered_model(name).aliases.values()}


def digest_of(experiment: Experiment) -> str:
    """Return a digest of all settings."""
    settings = json.dumps(experiment.model_dump(mode="json"), sort_keys=True)
    return hashlib.sha256(settings.encode()).hexdigest()


def version_tags(experiment: Experiment, prepared: Prepared, metrics: Mapping[str, float]) -> dict[str, str]:
    """Return the tags of a version of a registered model.

    They are the data set, the experiment, the commit of the code if it is a git checkout, and the test metrics of all
    rows and of each named segment.
    """
    tags = {
        "dataset": prepared.schema.fingerprint,
        DATASET_FOLDER: prepared.folder.location,
        "experiment": digest_of(experiment),
    }
    if commit := git_commit():
        tags["git_commit"] = commit
    shown = {key: value for key, value in metrics.items() if key.count("/") < 3 or key.endswith(SEGMENTS[1:])}
    return tags | {metric_key(key): f"{value:.6g}" for key, value in shown.items()}


def is_model_uri(model: str) -> bool:
    """Return whether it names a model in MLflow rather than a folder."""
    return model.startswith(("models:/", "runs:/", "mlflow-artifacts:/"))


def run_id_of(model: str, uri: str) -> str | None:
    """Return the MLflow run that made the model of a URI; None if it has none.

    Raises:
        InputError: there is no such model.
    """
    client, (kind, _, place) = client_of(uri), model.partition(":/")
    name, _, alias = place.partition("@")
    try:
        if kind == "runs":
            return place.lstrip("/").partition("/")[0]
        if alias:
            return client.get_model_version_by_alias(name, alias).run_id
        if "/" in place:
            name, _, version = place.partition("/")
            return client.get_model_version(name, version).run_id
        return client.get_logged_model(place).source_run_id if kind == "models" else None
    except MlflowException as error:
        raise InputError(f"{model}: expected a model URI such as models:/NAME/1; {first_line(error)}") from None


def logged_metrics(model: str, uri: str, experiment: Experiment) -> dict[str, float]:
    """Return the metrics of the test rows that the run of a model has in MLflow, with the keys that they had here."""
    run_id = run_id_of(model, uri)
    logged = client_of(uri).get_run(run_id).data.metrics if run_id else {}
    named = [s.name for s in segments(experiment.evaluation.support_buckets)]
    metrics = [*{name for task in experiment.tasks.values() for name in metric_names(task)}]
    known = {metric_key(name): name for name in (*named, *metrics)}
    tests = ((key.split("/"), value) for key, value in logged.items() if key.startswith("test/"))
    return {"/".join([*parts[:2], *(known.get(part, part) for part in parts[2:])]): value for parts, value in tests}


@contextmanager
def opened_checkpoint(model: str, uri: str) -> Iterator[Path]:
    """Yield the checkpoint folder of a model. What has to be downloaded for it is removed afterwards.

    Args:
        model: a folder, or a model URI such as `models:/NAME/1` or `models:/NAME@champion`.
        uri: MLflow server.

    Raises:
        InputError: there is no such model.
    """
    if not is_model_uri(model) and "://" not in model:
        yield Path(model)
        return
    with tempfile.TemporaryDirectory(prefix="mtl_ray-") as place:
        if is_model_uri(model):
            yield _downloaded(model, uri, place) / "artifacts" / "checkpoint"
        else:
            yield local_copy(Folder(model), Path(place))


def checkpoint_folder(model: str, uri: str) -> Path:
    """Return the checkpoint folder of a model, see `opened_checkpoint`. A download stays until this process ends."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(opened_checkpoint(model, uri))


def _downloaded(model: str, uri: str, place: str) -> Path:
    """Return the folder of a model in MLflow: its own where MLflow keeps it on this machine, or a copy in `place`."""
    use_server(uri)
    try:
        repository = get_artifact_repository(model)
        is_local = isinstance(getattr(repository, "repo", repository), LocalArtifactRepository)
        return Path(download_artifacts(model, dst_path=None if is_local else place))
    except (MlflowException, OSError) as error:
        raise InputError(
            f"{model}: expected a checkpoint folder or a model URI such as models:/NAME/1; {first_line(error)}"
        ) from None
