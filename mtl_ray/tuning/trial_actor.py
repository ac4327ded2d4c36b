"""The process of a trial in Ray Tune, which trains by itself or starts several workers through Ray Train."""

from typing import Any

import ray
import ray.train
import ray.tune
from ray.train.torch import TorchConfig
from ray.tune.integration.ray_train import TuneReportCallback
from ray.util.placement_group import PlacementGroup, remove_placement_group

from mtl_ray.cluster.session import connect
from mtl_ray.config import parse
from mtl_ray.runs.ray_trainer import RayTrainer
from mtl_ray.storage import Folder
from mtl_ray.training.worker import quiet, workers_of
from mtl_ray.tuning.trial import GROUP, train_trial


def run_trial(params: dict[str, Any], common: dict[str, Any]) -> None:
    """Train, and report each epoch to Ray Tune (see `train_trial`).

    A trial that had reported its end reports it again, since the state of a killed driver may not know of it.

    With several workers Ray Train writes the checkpoints, under the trial's id, and a restarted process continues from
    them.

    Args:
        params: values of the parameters of the space.
        common: values shared by all trials: `experiment` and `shared` (see `train_trial`), `storage` (Ray Train's
            folder), `ended` (by id, the last reports of the trials that have ended) and `kept` (the folder of the
            trials' models, or None).
    """
    trial_id = ray.tune.get_context().get_trial_id()
    if trial_id in common["ended"]:
        ray.tune.report(common["ended"][trial_id])
        return
    kept = common["kept"] and (Folder(common["kept"]) / trial_id).location
    config = {**common, "params": params, "kept": kept}
    training = parse(common["experiment"], "experiment").training
    if training.most_workers == 1:
        train_trial(config, ray.tune)
        return
    connect()
    RayTrainer(
        _worker,
        frees_resources=False,  # `EndWorkers` does
        train_loop_config=config,
        scaling_config=workers_of(training),
        torch_config=TorchConfig(timeout_s=training.timeout),
        run_config=ray.train.RunConfig(
            name=trial_id,
            storage_path=common["storage"],
            failure_config=ray.train.FailureConfig(max_failures=0),  # Ray Tune starts the trial again
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=1),
            callbacks=[TuneReportCallback()],
            logging_config=ray.train.LoggingConfig(log_level="ERROR"),
        ),
    ).fit()


def _worker(config: dict[str, Any]) -> None:
    quiet()
    train_trial(config, ray.train)


class EndWorkers(ray.tune.Callback):
    """A callback that ends the workers of a trial whose process Ray Tune has ended.

    They have resources of their own, which Ray Train frees only if Ray's dashboard runs.
    """

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Remove the placement group of a trial that has ended."""
        if group := trial.last_result.get(GROUP):
            remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(group)))

    on_trial_error = on_trial_recover = on_trial_complete
