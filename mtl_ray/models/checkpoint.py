"""Checkpoints: folders from which a model can be rebuilt without anything else.

`experiment.json`, `schema.json`, `model.safetensors`, `trainer.pt` (optimizer, scheduler, balancer, position), and
`vocabulary.parquet`, which `prepare` made. No file is a pickle: `trainer.pt` is read with `weights_only=True`.
"""

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mtl_ray.config import Experiment, parse
from mtl_ray.errors import InputError
from mtl_ray.models import MultiTaskModel
from mtl_ray.models.checkpoint_parts import refuse_parts, refuse_weights
from mtl_ray.parquet import damaged
from mtl_ray.schema import Schema
from mtl_ray.storage import Folder

WEIGHTS, TRAINER = "model.safetensors", "trainer.pt"
SETTINGS, SCHEMA = "experiment.json", "schema.json"

DIGESTS = "digests"
"""Metadata of the weights: the digests of the files that they belong to, by name, as JSON."""

SCORE = "score"
"""Reported metric by which Ray keeps the best checkpoint: the early-stopping metric, larger is better. Without early
stopping it is the number of the epoch, so that the last checkpoint is kept."""

WITHIN_EPOCH = -1e30
"""Score of a checkpoint written within an epoch: one to resume from, never the best."""


@dataclass(frozen=True)
class LoadedCheckpoint:
    """The parts of a checkpoint that evaluation and scoring need."""

    experiment: Experiment
    schema: Schema
    model: MultiTaskModel
    """The model in evaluation mode, on the CPU."""


def save(folder: Path, experiment: Experiment, schema: Schema, model: MultiTaskModel, trainer: dict[str, Any]) -> None:
    """Write a checkpoint; the weights come last, so that a folder without them is recognised as incomplete.

    The weights hold the digests of the settings and the schema that they belong to. All settings are written, those
    that the file left out, too: a default that changes later changes no model, and a run that is resumed writes the
    same text.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SETTINGS).write_text(json.dumps(experiment.model_dump(mode="json"), indent=2))
    (folder / SCHEMA).write_text(schema.model_dump_json(indent=2))
    torch.save(trainer, folder / TRAINER)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    # In one entry: safetensors writes several in an order that changes, and the same weights are to be the same file.
    save_file(weights, folder / f"{WEIGHTS}.partial", {DIGESTS: json.dumps(_digests(folder))})
    (folder / f"{WEIGHTS}.partial").rename(folder / WEIGHTS)


def load_settings(folder: Path) -> Experiment:
    """Return the settings of a checkpoint. Raises InputError if they cannot be read."""
    return parse(Folder(str(folder)).read_json(SETTINGS), str(folder / SETTINGS))


def load(folder: Path) -> LoadedCheckpoint:
    """Rebuild the model.

    Raises:
        InputError: `folder` is not a complete checkpoint, a file of it is damaged, its parts do not belong together, or
            weights are not finite.
    """
    for name in (SETTINGS, SCHEMA, WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(f"{folder}: expected a checkpoint folder; {name} is missing")
    files, experiment = Folder(str(folder)), load_settings(folder)
    schema = files.read_model(SCHEMA, Schema)
    weights, digests = _read_weights(folder / WEIGHTS)
    for name, digest in _digests(folder).items():
        if digests.get(name, digest) != digest:
            raise InputError(f"{folder / name}: expected what {WEIGHTS} was written with, found another; restore it")
    refuse_parts(experiment, schema, files)
    with torch.device("meta"):
        model = MultiTaskModel(experiment, schema)
    refuse_weights(model, weights, str(folder / WEIGHTS))
    model.load_state_dict(weights, strict=True, assign=True)
    return LoadedCheckpoint(experiment, schema, model.eval())


def load_trainer(folder: Path) -> dict[str, Any]:
    """Return the state of the trainer at the checkpoint. Raises InputError if it is missing or damaged."""
    file = folder / TRAINER
    if not file.is_file():
        raise InputError(f"{folder}: expected a checkpoint folder to continue from; {TRAINER} is missing")
    if not zipfile.is_zipfile(file):  # its directory comes last: what was cut off has none
        raise damaged(str(file), "the state of a trainer", "cut off, or no state at all")
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, zipfile.BadZipFile) as error:
        raise damaged(str(file), "the state of a trainer", str(error).partition("\n")[0]) from error


def _digests(folder: Path) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in (SETTINGS, SCHEMA)}


def _read_weights(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(file, "pt") as opened:
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            return weights, json.loads((opened.metadata() or {}).get(DIGESTS, "{}"))
    except (SafetensorError, ValueError) as error:
        raise damaged(str(file), "weights", error) from error
