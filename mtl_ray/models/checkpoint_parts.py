"""Checks that the parts of a checkpoint belong together: settings, schema, vocabulary and weights."""

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pyarrow.compute as pc
import torch
from torch import Tensor, nn

from mtl_ray.config import Experiment
from mtl_ray.config.custom import custom_parts, untrusted
from mtl_ray.config.features import FeatureConfig, SequenceFeatureConfig
from mtl_ray.config.numbers import NumberSection
from mtl_ray.errors import InputError, some
from mtl_ray.schema import FIRST, Schema
from mtl_ray.storage import Folder
from mtl_ray.values.vocabulary import VOCABULARY

MIX = "the files of several checkpoints are mixed, or one is damaged; restore the folder"


def refuse_parts(experiment: Experiment, schema: Schema, folder: Folder) -> None:
    """Raise InputError unless the schema has what the settings name, finite, and the vocabulary fits it.

    Args:
        experiment: the settings of the checkpoint.
        schema: its schema.
        folder: its folder; the vocabulary may be missing.
    """
    where = f"{folder.path}/schema.json"
    for part, names, known in (
        ("features", experiment.features, schema.features),
        ("tasks", experiment.tasks, schema.tasks),
    ):
        if missing := [name for name in names if name not in known]:
            raise InputError(f"{where}: expected the {part} of experiment.json, found no {some(missing)}; {MIX}")
    _refuse_numbers(experiment.features, schema, where)
    if folder.exists(VOCABULARY):
        _refuse_vocabulary(experiment.features, schema, folder)


def _refuse_numbers(features: Mapping[str, FeatureConfig], schema: Schema, where: str) -> None:
    for name, feature in schema.features.items():
        config = features.get(name)
        is_number = isinstance(config, NumberSection) and config.is_number
        numbers = {"mean": feature.mean, "std": feature.std}
        for key in ("boundaries", "quantiles"):
            numbers |= {f"{key}.{i}": value for i, value in enumerate(getattr(feature, key) or ())}
        for key, value in numbers.items():
            if (value is None and is_number) or (value is not None and not math.isfinite(value)):
                raise InputError(f"{where}: expected a finite number at features.{name}.{key}, found {value}; {MIX}")
    for name, task in schema.tasks.items():
        for key, value in {"mean": task.mean, "std": task.std}.items():
            if not math.isfinite(value):
                raise InputError(f"{where}: expected a finite number at tasks.{name}.{key}, found {value}; {MIX}")


def _refuse_vocabulary(features: Mapping[str, FeatureConfig], schema: Schema, folder: Folder) -> None:
    """Compare the numbers of known values with the rows of the embedding tables."""
    column = folder.read_table(VOCABULARY, columns=["feature"]).column("feature")
    counts = Counter({entry["values"]: entry["counts"] for entry in pc.value_counts(column).to_pylist()})
    for name, config in features.items():
        feature = schema.features[name]
        if feature.num_embeddings is None or (isinstance(config, NumberSection) and config.buckets):
            continue
        words = config.of if isinstance(config, SequenceFeatureConfig) else name
        found = counts[words] + (counts[name] if words != name else 0)  # of what a list describes beside its id
        if feature.num_embeddings != FIRST + found:
            raise InputError(
                f"{folder.path}/{VOCABULARY}: expected {feature.num_embeddings - FIRST:,} values of `{words}`, as "
                f"schema.json has for `{name}`, found {found:,}; {MIX}"
            )


def refuse_untrusted(experiment: Experiment, folder: Path) -> None:
    """Raise InputError, which names the classes, if a model needs `custom` ones that were not imported.

    Args:
        experiment: the settings of the model.
        folder: its checkpoint.
    """
    needed = {at: part for at, part in custom_parts(experiment) if part.is_part_of_model and not part.is_imported}
    if needed:
        raise InputError(f"{folder}: the model {untrusted(needed)}")


def refuse_weights(model: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Raise InputError, which begins with `where`, unless weights are finite and have the names and sizes of a model's.

    Args:
        model: a model without values.
        weights: its weights by name.
        where: their file.
    """
    expected = model.state_dict()
    if different := sorted(expected.keys() ^ weights.keys()):
        found = "no" if different[0] in expected else "an unknown"
        raise InputError(f"{where}: expected the weights of experiment.json, found {found} `{different[0]}`; {MIX}")
    for name, tensor in expected.items():
        if weights[name].shape != tensor.shape:
            raise InputError(
                f"{where}: expected {tuple(tensor.shape)} numbers in `{name}`, as experiment.json and schema.json say, "
                f"found {tuple(weights[name].shape)}; {MIX}"
            )
    for name, _ in model.named_parameters():
        if not _is_finite(weights[name]):
            raise InputError(
                f"{where}: expected finite weights, found others in `{name}`: the training diverged; use an earlier "
                "checkpoint, or train with a smaller learning rate"
            )


def refuse_members(experiment: Experiment, members: Mapping[str, Experiment], where: str) -> None:
    """Raise InputError, which begins with `where`, unless members have the features and tasks of their ensemble.

    Args:
        experiment: the settings of the ensemble.
        members: the settings of the members, by folder.
        where: the folder of the ensemble.
    """
    for folder, member in members.items():
        if unknown := [name for name in member.features if name not in experiment.features]:
            raise InputError(f"{where}/{folder}: expected features of the ensemble, found {some(unknown)}; {MIX}")
        for name in member.tasks.keys() & experiment.tasks.keys():
            found, expected = member.tasks[name].kind, experiment.tasks[name].kind
            if found != expected:
                raise InputError(f"{where}/{folder}: expected tasks.{name} of kind {expected}, found {found}; {MIX}")
    if missing := [name for name in experiment.tasks if not any(name in member.tasks for member in members.values())]:
        raise InputError(
            f"{where}: expected a member with each task of experiment.json, found no {some(missing)}; {MIX}"
        )


def _is_finite(tensor: Tensor) -> bool:
    """Return whether a tensor holds neither NaN nor infinity, without a copy of it: a table may fill the memory."""
    if not tensor.numel():
        return True
    return all(bool(torch.isfinite(bound)) for bound in torch.aminmax(tensor))
