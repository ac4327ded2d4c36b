"""Put the earlier models that a training uses where every worker can read them."""

import pyarrow.fs as pafs

from mtl_ray.config import Experiment
from mtl_ray.errors import InputError
from mtl_ray.models import checkpoint
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.storage import Folder
from mtl_ray.tracking.registry import is_model_uri, opened_checkpoint
from mtl_ray.tracking.tracked_run import tracking_uri

SETTINGS = ("warm_start", "distill")
"""Settings of `training` that name a model."""


def stage_models(experiment: Experiment, folder: RunFolder) -> Experiment:
    """Return the experiment with `training.warm_start` and `training.distill` as locations of checkpoint folders.

    Args:
        experiment: the experiment of a run.
        folder: the run's folder, on storage that all workers share; a registered model is copied into it.

    Raises:
        InputError: there is no such model or folder, or training starts from an ensemble of another size.
    """
    given = {setting: getattr(experiment.training, setting) for setting in SETTINGS}
    staged = {setting: _staged(experiment, folder, setting, model) for setting, model in given.items() if model}
    if not staged:
        return experiment
    return experiment.model_copy(update={"training": experiment.training.model_copy(update=staged)})


def _staged(experiment: Experiment, folder: RunFolder, setting: str, model: str) -> str:
    place = folder.earlier_model(setting, model) if is_model_uri(model) else Folder(model)
    if is_model_uri(model) and not place.exists(checkpoint.SETTINGS):
        aside = place.suffixed(".partial").create()
        with opened_checkpoint(model, tracking_uri(experiment)) as own:
            pafs.copy_files(str(own), aside.path, destination_filesystem=aside.fs)
        aside.rename(place, last=checkpoint.SETTINGS)
    if place.exists(checkpoint.ENSEMBLE):
        if setting == "warm_start":
            _refuse_other_members(place, experiment.training.ensemble)
    elif not place.exists(checkpoint.WEIGHTS):
        raise InputError(f"training.{setting}: expected a checkpoint folder or a model URI; found {model}")
    return place.location


def _refuse_other_members(start: Folder, wanted: int) -> None:
    found = len(start.read_model(checkpoint.ENSEMBLE, checkpoint.EnsembleFile).members)
    if found != wanted:
        raise InputError(
            f"training.warm_start: {start} is an ensemble of {found} members, each of which starts a member; expected "
            f"as many as training.ensemble, {wanted}; or name one of them, such as {start / 'members/1'}"
        )
