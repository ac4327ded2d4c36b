"""Checkpoints: folders from which a model can be rebuilt without anything else.

`experiment.json`, `schema.json`, `model.safetensors`, `trainer.pt` (optimizer, scheduler, balancer, position), and
`vocabulary.parquet`, which `prepare` made. No file is a pickle: `trainer.pt` is read with `weights_only=True`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from mtl_ray.config import Experiment, parse
from mtl_ray.errors import InputError
from mtl_ray.models import MultiTaskModel
from mtl_ray.schema import Schema

WEIGHTS, TRAINER = "model.safetensors", "trainer.pt"

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
    """Write a checkpoint; the weights come last, so that a folder without them is recognised as incomplete."""
    folder.mkdir(parents=True, exist_ok=True)
    tree = experiment.model_dump(mode="json", exclude_unset=True)
    (folder / "experiment.json").write_text(json.dumps(tree, indent=2))
    (folder / "schema.json").write_text(schema.model_dump_json(indent=2))
    torch.save(trainer, folder / TRAINER)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / f"{WEIGHTS}.partial")
    (folder / f"{WEIGHTS}.partial").rename(folder / WEIGHTS)


def load(folder: Path) -> LoadedCheckpoint:
    """Rebuild the model. Raises InputError if `folder` is not a complete checkpoint, or a weight is not finite."""
    for name in ("experiment.json", "schema.json", WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(f"{folder}: expected a checkpoint folder; {name} is missing")
    experiment = parse(json.loads((folder / "experiment.json").read_text()), str(folder / "experiment.json"))
    schema = Schema.model_validate_json((folder / "schema.json").read_text())
    with torch.device("meta"):
        model = MultiTaskModel(experiment, schema)
    weights = load_file(folder / WEIGHTS)
    if broken := [name for name, tensor in weights.items() if not _is_finite(tensor)]:
        raise InputError(
            f"{folder / WEIGHTS}: expected finite weights; found NaN or infinity in {', '.join(broken[:3])}"
            f"{f' and {len(broken) - 3} more' if len(broken) > 3 else ''}; train the model again"
        )
    model.load_state_dict(weights, strict=True, assign=True)
    return LoadedCheckpoint(experiment, schema, model.eval())


def _is_finite(tensor: torch.Tensor) -> bool:
    """Return whether a tensor holds neither NaN nor infinity, without a copy of it: a table may fill the memory."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return all(bool(torch.isfinite(bound)) for bound in torch.aminmax(tensor))


def load_trainer(folder: Path) -> dict[str, Any]:
    """Return the state of the trainer when the checkpoint was written. Raises InputError if it is missing."""
    if not (folder / TRAINER).is_file():
        raise InputError(f"{folder}: expected a checkpoint folder to continue from; {TRAINER} is missing")
    return torch.load(folder / TRAINER, map_location="cpu", weights_only=True)
