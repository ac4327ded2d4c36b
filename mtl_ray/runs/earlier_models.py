"""Put the earlier models that a training uses where every worker can read them."""

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
        InputError: there is no such model or folder.
    """
    given = {setting: getattr(experiment.training, setting) for setting in SETTINGS}
    staged = {setting: _staged(experiment, folder, setting, model) for setting, model in given.items() if model}
    if not staged:
        return experiment
    return experiment.model_copy(update={"training": experiment.training.model_copy(update=staged)})


def _staged(experiment: Experiment, folder: RunFolder, setting: str, model: str) -> str:
    place = folder.earlier_model(setting, model) if is_model_uri(model) else Folder(model)
    if is_model_uri(model) and not _is_whole(place):
        aside = place.suffixed(".partial").create()
        with opened_checkpoint(model, tracking_uri(experiment)) as own:
            files = [path.relative_to(own).as_posix() for path in own.rglob("*") if path.is_file()]
            for name in files:
                if name != checkpoint.TRAINER:
                    inside, _, file = name.rpartition("/")
                    (aside / inside if inside else aside).write_bytes(file, (own / name).read_bytes())
        aside.rename(place, last=next(name for name in checkpoint.LAST if name in files))
    if not _is_whole(place):
        raise InputError(f"training.{setting}: expected a checkpoint folder or a model URI; found {model}")
    return place.location


def _is_whole(folder: Folder) -> bool:
    return any(folder.exists(name) for name in checkpoint.LAST)
