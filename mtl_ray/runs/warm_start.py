"""Put the checkpoint that a training starts from where every worker can read it."""

import pyarrow.fs as pafs

from mtl_ray.config import Experiment
from mtl_ray.errors import InputError
from mtl_ray.models import checkpoint
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.storage import Folder
from mtl_ray.tracking.registry import is_model_uri, opened_checkpoint
from mtl_ray.tracking.tracked_run import tracking_uri


def stage_warm_start(experiment: Experiment, folder: RunFolder) -> Experiment:
    """Return the experiment with `training.warm_start` as the location of a checkpoint folder.

    Args:
        experiment: the experiment of a run.
        folder: the run's folder, on storage that all workers share; a registered model is copied into it.

    Raises:
        InputError: there is no such model or folder, or it is an ensemble of another number of members.
    """
    model = experiment.training.warm_start
    if model is None:
        return experiment
    start = folder.warm_start_copy(model)
    if not is_model_uri(model):
        start = Folder(model)
    elif not start.exists(checkpoint.SETTINGS):
        aside = start.suffixed(".partial").create()
        with opened_checkpoint(model, tracking_uri(experiment)) as own:
            pafs.copy_files(str(own), aside.path, destination_filesystem=aside.fs)
        aside.rename(start, last=checkpoint.SETTINGS)
    if start.exists(checkpoint.ENSEMBLE):
        _refuse_other_members(start, experiment.training.ensemble)
    elif not start.exists(checkpoint.WEIGHTS):
        raise InputError(f"training.warm_start: expected a checkpoint folder or a model URI; found {model}")
    training = experiment.training.model_copy(update={"warm_start": start.location})
    return experiment.model_copy(update={"training": training})


def _refuse_other_members(start: Folder, wanted: int) -> None:
    found = len(start.read_model(checkpoint.ENSEMBLE, checkpoint.EnsembleFile).members)
    if found != wanted:
        raise InputError(
            f"training.warm_start: {start} is an ensemble of {found} members, each of which starts a member; expected "
            f"as many as training.ensemble, {wanted}; or name one of them, such as {start / 'members/1'}"
        )
