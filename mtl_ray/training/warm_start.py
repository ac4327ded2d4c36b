"""Warm start: weights of an earlier model for a model whose data have grown; known values keep their weights."""

import copy
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from ray.train import Checkpoint
from torch import Tensor, nn

from mtl_ray.config.custom import Trust, classes_of
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.encoding import texts
from mtl_ray.errors import InputError
from mtl_ray.models import MultiTaskModel, checkpoint
from mtl_ray.models.cold_start.meta_learned import MWUF
from mtl_ray.nn.compressed_embedding import CompressedTable
from mtl_ray.nn.number_encoders import PiecewiseLinearNumber
from mtl_ray.schema import FIRST, UNKNOWN, FittedFeature, Schema
from mtl_ray.storage import Folder
from mtl_ray.training.trainer import Trainer
from mtl_ray.values.vocabulary import Vocabulary, read_vocabularies


def start_from(trainer: Trainer, prepared: Prepared, location: str) -> None:
    """Begin a training with the weights of a checkpoint; see `copy_weights`.

    Args:
        trainer: the new training, on any worker.
        prepared: its data set.
        location: folder or URL of the checkpoint.

    Raises:
        InputError: see `copy_weights`.
    """
    vocabularies = read_vocabularies(prepared.folder, list(trainer.experiment.features), texts(trainer.experiment))
    with Checkpoint(location).as_directory() as folder:
        words, own = checkpoint.vocabulary_folder(location), classes_of(trainer.experiment)
        copy_weights(trainer.model, trainer.schema, vocabularies, Path(folder), words, own)
    if trainer.average is not None:
        trainer.average.module.load_state_dict(trainer.model.state_dict())


def copy_weights(
    model: MultiTaskModel,
    schema: Schema,
    vocabularies: dict[str, Vocabulary],
    folder: Path,
    vocabulary: Folder | None = None,
    trust: Trust = False,
) -> None:
    """Give `model` the weights of a checkpoint.

    A value in both vocabularies keeps its embedding; a new one gets the embedding of values not seen in training. A
    quantile bucket gets the embedding of the old bucket that contains its middle; the outermost buckets correspond.
    Piecewise-linear vectors of a number are as before at the new borders. A
    new class keeps its initial output. In a compressed table a value in both vocabularies keeps its code, and a new one
    reads rows by a code of its own. Everything else must have the same shape and is copied as it is.

    Args:
        model: model of the new data set; changed in place.
        schema: schema of the new data set.
        vocabularies: vocabularies of the new data set, by feature.
        folder: folder of the checkpoint.
        vocabulary: folder with its vocabulary; the same by default.
        trust: the `custom` classes that the model may import, see `checkpoint.load`.

    Raises:
        InputError: `folder` is no checkpoint, or its model has other parts or sizes.
    """
    old = checkpoint.load(folder, trust)
    names = [name for name in vocabularies if name in old.experiment.features]
    known = read_vocabularies(vocabulary or Folder(str(folder)), names, texts(old.experiment))
    state = old.model.state_dict()
    found = {key: value.cpu() for key, value in model.state_dict().items()}  # as what was loaded is
    tables, outputs = _tables_and_outputs(model)
    state |= _pieces(old, model, schema)
    state |= {key: value for key, value in found.items() if key.startswith("catalogs.")}  # they are of the data set
    compressed = {name: part for name, part in model.named_modules() if isinstance(part, CompressedTable)}
    missing = [key for key in found if key not in state] + [key for key in state if key not in found]
    if missing:
        raise InputError(f"training.warm_start: {folder} has another model; only one of both has `{missing[0]}`")
    for key, new in found.items():
        value, task = state[key], outputs.get(key)
        part, _, own = key.rpartition(".codes")
        if part in compressed and not own:
            name = part.rpartition(".")[2].removesuffix(":")
            rows = _rows(old.schema.features[name], schema.features[name], known.get(name), vocabularies.get(name))
            value = compressed[part].codes_after(value, torch.from_numpy(rows))
        elif name := tables.get(key):
            rows = _rows(old.schema.features[name], schema.features[name], known.get(name), vocabularies.get(name))
            value = value[torch.from_numpy(rows)]
        elif task and schema.tasks[task].classes:
            value = _classes(value, old.schema.tasks[task].classes, new, schema.tasks[task].classes)
        elif key.removesuffix(".factors.weight") in compressed:
            value = _first_rows(value, new)
        if value.shape != new.shape:
            raise InputError(
                f"training.warm_start: {folder} has another model; expected {tuple(new.shape)} numbers in `{key}`, "
                f"found {tuple(value.shape)}"
            )
        state[key] = value
    model.load_state_dict(state)


def _tables_and_outputs(model: MultiTaskModel) -> tuple[dict[str, str], dict[str, str]]:
    """Return, by name in the model's state: the feature of each embedding table, and the task of each output layer."""
    names = {tensor: name for name, tensor in (*model.named_parameters(), *model.named_buffers())}
    inputs = model.inputs.values()
    plain = [(n, t) for part in inputs for n, t in part.tables.items() if isinstance(t, nn.Embedding)]  # pyright: ignore
    tables = {names[table.weight]: name for name, table in plain}
    cold_starts = [pair for part in inputs for pair in part.cold_starts.items()]  # pyright: ignore
    tables |= {names[t]: n for n, part in cold_starts if isinstance(part, MWUF) for t in part.by_id}
    tables |= {names[bias.table.weight]: name for name, bias in model.id_biases.items()}  # pyright: ignore
    towers = {} if model.network is None else dict(model.network.towers.towers.items())  # pyright: ignore
    outputs = {names[p]: task for task, tower in towers.items() for p in tower[-1].parameters()}  # pyright: ignore
    return tables, outputs


def _pieces(old: checkpoint.LoadedCheckpoint, model: MultiTaskModel, schema: Schema) -> dict[str, Tensor]:
    """Return the state of piecewise-linear layers that give numbers at their own borders the vectors of before."""
    before, found = dict(old.model.named_modules()), {}
    for name, part in model.named_modules():
        if isinstance(part, PiecewiseLinearNumber) and isinstance(known := before.get(name), PiecewiseLinearNumber):
            feature = name.rpartition(".")[2].removesuffix(":")
            a, b = old.schema.features[feature], schema.features[feature]
            scale = (b.std or 1.0) / (a.std or 1.0)
            new = copy.deepcopy(part).cpu()
            new.copy_from(known, scale, ((b.mean or 0.0) - (a.mean or 0.0)) / (a.std or 1.0))
            found |= {f"{name}.{key}": value for key, value in new.state_dict().items()}
    return found


def _rows(old: FittedFeature, new: FittedFeature, before: Vocabulary | None, after: Vocabulary | None) -> np.ndarray:
    """Return the (n,) row of the old table for each row of the new one."""
    reserved = np.arange(FIRST)
    if new.boundaries is not None:
        inner = np.asarray(new.boundaries)
        middles = np.concatenate([[-np.inf], (inner[1:] + inner[:-1]) / 2, [np.inf]]) if len(inner) else np.zeros(1)
        return np.append(reserved, FIRST + np.searchsorted(np.asarray(old.boundaries), middles, side="right"))
    if after is None or before is None or not len(before):
        return np.append(reserved, np.full(len(after or ()), UNKNOWN))
    return np.append(reserved, before.rows(after.values.cast(pa.string())))


def _first_rows(old: Tensor, new: Tensor) -> Tensor:
    """Return `new` with the rows of `old`, as many as both have."""
    merged = new.clone()
    size = min(len(old), len(new))
    merged[:size] = old[:size]
    return merged


def _classes(old: Tensor, before: tuple[str, ...], new: Tensor, after: tuple[str, ...]) -> Tensor:
    """Return `new`, which has a row per class, with the rows of `old` for the classes that it knows."""
    kept, merged = [name for name in after if name in before], new.clone()
    merged[[after.index(name) for name in kept]] = old[[before.index(name) for name in kept]]
    return merged
