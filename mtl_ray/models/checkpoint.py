"""Checkpoints: folders from which a model can be rebuilt without anything else.

`experiment.json`, `schema.json`, `model.safetensors`, `trainer.pt` (optimizer, scheduler, balancer, position), and
`vocabulary.parquet`, which `prepare` made. No file is a pickle: `trainer.pt` is read with `weights_only=True`.

The checkpoint of an ensemble has `ensemble.json` and folders `members/1`, `members/2` and so on in place of the weights
and of `trainer.pt`. Each of them is a checkpoint without vocabulary and trainer.
"""

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, PositiveInt
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from mtl_ray.config import Experiment, parse
from mtl_ray.config.base import Section
from mtl_ray.config.custom import Trust
from mtl_ray.errors import InputError
from mtl_ray.models.build import build_model
from mtl_ray.models.checkpoint_parts import MIX, refuse_members, refuse_parts, refuse_untrusted, refuse_weights
from mtl_ray.models.ensemble import Ensemble
from mtl_ray.models.model import MultiTaskModel
from mtl_ray.parquet import damaged
from mtl_ray.schema import Schema
from mtl_ray.storage import Folder
from mtl_ray.values.vocabulary import VOCABULARY

WEIGHTS, TRAINER = "model.safetensors", "trainer.pt"
ENSEMBLE = "ensemble.json"
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
    model: MultiTaskModel | Ensemble
    """The model in evaluation mode, on the CPU."""
    noise: Mapping[str, float] = field(default_factory=dict)
    """See `EnsembleFile`."""


class MemberEntry(Section):
    """A member of an ensemble."""

    folder: str = Field(pattern=r"^members/[0-9]+$")
    weight: PositiveInt = 1
    """How often the member counts in the mean."""


class EnsembleFile(Section):
    """The content of `ensemble.json`."""

    members: tuple[MemberEntry, ...] = Field(min_length=1)
    noise: dict[str, float] = Field(default={})
    """Root mean squared error of the ensemble on validation rows, by task whose label is a number."""
    digests: dict[str, str] = Field(default={})
    """Digests of the settings and of the schema, and of the settings of each member, by name of the file."""


def save(
    folder: Path, experiment: Experiment, schema: Schema, model: MultiTaskModel, trainer: dict[str, Any] | None
) -> None:
    """Write a checkpoint; the weights come last, so that a folder without them is recognised as incomplete.

    Without the state of a trainer, no training can go on from it. The weights hold the digests of the settings and the
    schema that they belong to. All settings are written, those that the file left out, too: a default that changes
    later changes no model, and a run that is resumed writes the same text.
    """
    _write_parts(folder, experiment, schema)
    if trainer is not None:
        torch.save(trainer, folder / TRAINER)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    # In one entry: safetensors writes several in an order that changes, and the same weights are to be the same file.
    save_file(weights, folder / f"{WEIGHTS}.partial", {DIGESTS: json.dumps(_digests(folder, (SETTINGS, SCHEMA)))})
    (folder / f"{WEIGHTS}.partial").rename(folder / WEIGHTS)


def save_ensemble(
    folder: Path,
    experiment: Experiment,
    schema: Schema,
    members: Sequence[tuple[Experiment, MultiTaskModel, int]],
) -> None:
    """Write the checkpoint of an ensemble but for its vocabulary; `ensemble.json` comes last.

    Args:
        folder: folder to make.
        experiment: settings with the features and tasks of all members.
        schema: schema of the data set, on which all members were trained.
        members: settings, model and weight of each.
    """
    _write_parts(folder, experiment, schema)
    entries = []
    for number, (settings, model, weight) in enumerate(members, 1):
        entry = MemberEntry(folder=f"members/{number}", weight=weight)
        save(folder / entry.folder, settings, schema, model, None)
        entries.append(entry)
    written = EnsembleFile(members=tuple(entries), digests=_ensemble_digests(folder, entries))
    Folder(str(folder)).write_atomic(ENSEMBLE, written.model_dump_json(indent=2))


def note_noise(folder: Path, noise: Mapping[str, float]) -> None:
    """Write the noise, see `EnsembleFile`, into the checkpoint of an ensemble."""
    files = Folder(str(folder))
    content = files.read_model(ENSEMBLE, EnsembleFile).model_copy(update={"noise": dict(noise)})
    files.write_atomic(ENSEMBLE, content.model_dump_json(indent=2))


def member_folder(ensemble: Folder, number: int) -> str:
    """Return the location of a member, counted from 1."""
    return (ensemble / f"members/{number}").location


def vocabulary_folder(location: str) -> Folder:
    """Return the folder with the vocabulary of a checkpoint: its own or, of a member, that of the ensemble."""
    folder = Folder(location)
    parent, found, number = folder.place.rpartition("/members/")
    if found and number.isdigit() and not folder.exists(VOCABULARY):
        return Folder(parent + folder.options)
    return folder


def files_of(folder: Path) -> tuple[list[str], list[str]]:
    """Return the files of a checkpoint that predictions depend on: those beside the weights, and those of weights."""
    if not (folder / ENSEMBLE).is_file():
        return [SETTINGS, SCHEMA, VOCABULARY], [WEIGHTS]
    places = [member.folder for member in Folder(str(folder)).read_model(ENSEMBLE, EnsembleFile).members]
    settings = [f"{place}/{SETTINGS}" for place in places]
    return [SETTINGS, SCHEMA, VOCABULARY, ENSEMBLE, *settings], [f"{place}/{WEIGHTS}" for place in places]


def digest_of(folder: Path, names: Sequence[str]) -> str:
    """Return the SHA-256 digest of files of a folder, one after the other."""
    whole = hashlib.sha256()
    for name in names:
        with (folder / name).open("rb") as file:
            while part := file.read(2**20):
                whole.update(part)
    return whole.hexdigest()


def load_settings(folder: Path, trust: Trust = False) -> Experiment:
    """Return the settings of a checkpoint.

    Args:
        folder: folder of the checkpoint.
        trust: the `custom` classes that are imported: none by default, since the files may come from elsewhere.

    Raises:
        InputError: the settings cannot be read, or a trusted class is not there.
    """
    tree = Folder(str(folder)).read_json(SETTINGS)
    return parse(tree, str(folder / SETTINGS), trust=trust, model_alone=True)


def load(folder: Path, trust: Trust = False) -> LoadedCheckpoint:
    """Rebuild the model.

    Args:
        folder: folder of the checkpoint.
        trust: see `load_settings`.

    Raises:
        InputError: `folder` is not a complete checkpoint, a file of it is damaged, its parts do not belong together,
            weights are not finite, or the model needs a class that is not trusted or not there.
    """
    if (folder / ENSEMBLE).is_file():
        return _load_ensemble(folder, trust)
    return LoadedCheckpoint(*_load_model(folder, trust))


def _load_model(folder: Path, trust: Trust) -> tuple[Experiment, Schema, MultiTaskModel]:
    experiment, schema = _read_parts(folder, WEIGHTS, trust)
    weights, digests = _read_weights(folder / WEIGHTS)
    _refuse_changed(folder, _digests(folder, (SETTINGS, SCHEMA)), digests, WEIGHTS)
    refuse_parts(experiment, schema, Folder(str(folder)))
    refuse_untrusted(experiment, folder)
    with torch.device("meta"):
        model = build_model(experiment, schema)
    refuse_weights(model, weights, str(folder / WEIGHTS))
    model.load_state_dict(weights, strict=True, assign=True)
    return experiment, schema, model.eval()


def _load_ensemble(folder: Path, trust: Trust) -> LoadedCheckpoint:
    experiment, schema = _read_parts(folder, ENSEMBLE, trust)
    files = Folder(str(folder))
    content = files.read_model(ENSEMBLE, EnsembleFile)
    refuse_parts(experiment, schema, files)
    members = [_load_model(folder / entry.folder, trust) for entry in content.members]
    _refuse_changed(folder, _ensemble_digests(folder, content.members), content.digests, ENSEMBLE)
    places = [entry.folder for entry in content.members]
    refuse_members(experiment, {place: own for place, (own, *_) in zip(places, members, strict=True)}, str(folder))
    for place, (_, own, _) in zip(places, members, strict=True):
        if own != schema:
            raise InputError(f"{folder / place / SCHEMA}: expected the schema of the ensemble, found another; {MIX}")
    weights = [entry.weight for entry in content.members]
    model = Ensemble([model for *_, model in members], weights, list(experiment.tasks))
    return LoadedCheckpoint(experiment, schema, model.eval(), content.noise)


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


def _write_parts(folder: Path, experiment: Experiment, schema: Schema) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SETTINGS).write_text(json.dumps(experiment.model_dump(mode="json"), indent=2))
    (folder / SCHEMA).write_text(schema.model_dump_json(indent=2))


def _read_parts(folder: Path, last: str, trust: Trust) -> tuple[Experiment, Schema]:
    """Return settings and schema. Raises InputError if they cannot be read, or if the file written last is missing."""
    for name in (SETTINGS, SCHEMA, last):
        if not (folder / name).is_file():
            raise InputError(f"{folder}: expected a checkpoint folder; {name} is missing")
    return load_settings(folder, trust), Folder(str(folder)).read_model(SCHEMA, Schema)


def _digests(folder: Path, names: Sequence[str]) -> dict[str, str]:
    return {name: digest_of(folder, [name]) for name in names}


def _ensemble_digests(folder: Path, members: Sequence[MemberEntry]) -> dict[str, str]:
    return _digests(folder, (SETTINGS, SCHEMA, *(f"{member.folder}/{SETTINGS}" for member in members)))


def _refuse_changed(folder: Path, found: Mapping[str, str], known: Mapping[str, str], by: str) -> None:
    """Raise InputError unless files have the digests that the file `by` was written with, as far as it knows them."""
    for name, digest in found.items():
        if known.get(name, digest) != digest:
            raise InputError(f"{folder / name}: expected what {by} was written with, found another; restore it")


def _read_weights(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(file, "pt") as opened:
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            return weights, json.loads((opened.metadata() or {}).get(DIGESTS, "{}"))
    except (SafetensorError, ValueError) as error:
        raise damaged(str(file), "weights", error) from error
