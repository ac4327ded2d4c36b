"""Everything in Ray that has no public name, each with the reason we need it. All were seen in Ray 2.60.

No other module uses a private name, so this is the file to read when Ray is upgraded. Ray is imported where it is
needed: some callers, such as the start of the command line, must not load it.
"""

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna
    from ray.train.torch import TorchTrainer
    from ray.tune.search.optuna import OptunaSearch

MANIFEST = "checkpoint_manager_snapshot.json"
"""Ray Train's file that lists a run's checkpoints (`CHECKPOINT_MANAGER_SNAPSHOT_FILENAME` in
`ray.train.v2._internal.constants`). Ray cannot repair a half-written one, so `runs.recovery` does."""


PROXY_CALLBACK = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
"""Variable that names a function for each proxy of Ray Serve to call at its start. There is no setting for that."""


def checkpoint_names(manifest: dict[str, Any]) -> set[str]:
    """Return the names of the checkpoint folders that a manifest lists."""
    results = [*manifest["checkpoint_results"], manifest["latest_checkpoint_result"]]
    return {result["checkpoint_dir_name"] for result in results if result}


def checkpoint_metrics(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the metrics that were reported with each checkpoint that a manifest keeps, by name of its folder."""
    return {result["checkpoint_dir_name"]: result["metrics"] for result in manifest["checkpoint_results"]}


def latest_reported_metrics(manifest: dict[str, Any]) -> dict[str, Any] | None:
    """Return the metrics reported with the latest checkpoint of a manifest, or None without any checkpoint."""
    latest = manifest.get("latest_checkpoint_result")
    return latest["metrics"] if latest else None


def authorization_header() -> str | None:
    """Return the header with the cluster's token, or None if token authentication is off.

    Ray finds the token in three places (a variable, a file that a variable names, `~/.ray/auth_token`) and has no
    public function that reads it.
    """
    from ray._private.authentication import http_token_authentication  # noqa: PLC0415

    found = http_token_authentication.get_auth_headers_if_auth_enabled({})
    return {name.lower(): value for name, value in found.items()}.get("authorization")


def stay_on_loopback() -> None:
    """Let the Ray that this process starts next listen on 127.0.0.1 alone, as it does by default on macOS.

    Otherwise its ports are open on every interface. The constant is Ray's only way: `ray.init` replaces an address of
    the loopback that it is given by the machine's. Ray's own processes read the variable.
    """
    from ray._private import ray_constants  # noqa: PLC0415

    ray_constants.ENABLE_RAY_CLUSTER = False
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"


def max_cluster_resources() -> Mapping[str, float]:
    """Return the resources that an autoscaling cluster can grow to; empty if it does not autoscale.

    Ray Train asks the same function before it starts elastic workers; the public `ray.cluster_resources` knows the
    present nodes alone.
    """
    from ray._private.state import state  # noqa: PLC0415

    return dict(state.get_max_resources_from_cluster_config() or {})


def skip_default_callbacks(trainer: "TorchTrainer", *, resource_cleaner: bool) -> None:
    """Keep a trainer from starting processes that nothing here uses. Call it before `fit`.

    Beside the workers, Ray Train starts a process that hands out Ray Data, although every worker here reads its own
    shard, and one that frees the workers' resources if the controller dies. Each costs a second or more per training,
    and there is no setting that turns them off.

    Args:
        trainer: the trainer to change.
        resource_cleaner: also skip the process that frees resources, which asks Ray's dashboard once a second.
    """
    from ray.train.v2._internal.callbacks.datasets import DatasetsCallback  # noqa: PLC0415
    from ray.train.v2._internal.callbacks.placement_group_callback import (  # noqa: PLC0415
        PlacementGroupCleanerCallback,
    )

    skipped = (DatasetsCallback, PlacementGroupCleanerCallback) if resource_cleaner else (DatasetsCallback,)
    create = trainer._create_default_callbacks
    trainer._create_default_callbacks = lambda: [each for each in create() if not isinstance(each, skipped)]


def tell_controller(trainer: "TorchTrainer", tell: Callable[[Any], None]) -> None:
    """Let a trainer tell its controller as soon as `fit` has started it. Call this before `fit`.

    `fit` keeps the controller to itself, and only after Ctrl-C in the main thread does it end it. This is
    `DataParallelTrainer._initialize_and_run_controller` without the handler for that.
    """
    import ray  # noqa: PLC0415
    from ray.train.v2._internal.constants import get_env_vars_to_propagate  # noqa: PLC0415
    from ray.train.v2._internal.execution.controller import TrainController  # noqa: PLC0415

    def run(**arguments: Any) -> Any:
        options: dict[str, Any] = {
            "num_cpus": 0,
            "label_selector": {ray._raylet.RAY_NODE_ID_KEY: ray.get_runtime_context().get_node_id()},
            "runtime_env": {"env_vars": {"RAY_WARN_BLOCKING_GET_INSIDE_ASYNC": "0", **get_env_vars_to_propagate()}},
        }
        actor: Any = ray.remote(**options)(TrainController)
        controller: Any = actor.remote(**arguments)
        tell(controller)
        ray.get(controller.run.remote())
        return ray.get(controller.get_result.remote())

    trainer._initialize_and_run_controller = run


def abort_controller(controller: Any) -> None:
    """End a training and its workers; do nothing if it has ended."""
    import ray  # noqa: PLC0415

    with suppress(ray.exceptions.RayActorError):  # the controller ends its own process
        ray.get(controller.abort.remote())


def original_error(error: BaseException) -> BaseException | None:
    """Return the worker's exception inside the wrapper that Ray Train raises for it, if it is one.

    `UserExceptionWithTraceback` keeps it as `_base_exc` and sets no `__cause__`.
    """
    return getattr(error, "_base_exc", None)


def running_optuna_trial(searcher: "OptunaSearch", trial_id: str) -> "optuna.Trial | None":
    """Return Optuna's trial behind one of Ray Tune's, or None if it has completed.

    Constraints are set on it: Ray's searcher tells Optuna nothing but objectives.
    """
    return None if trial_id in searcher._completed_trials else searcher._ot_trials[trial_id]


def progress_bar(title: str, total: int, unit: str) -> Any:
    """Return a `tqdm` bar that the driver draws, wherever its owner runs. Ray Data uses it; it is experimental."""
    from ray.experimental import tqdm_ray  # noqa: PLC0415

    return tqdm_ray.tqdm(desc=title, total=total, unit=unit)


def quiet_train_reports() -> None:
    """Keep Ray Train from printing every report whole. Its logger is named after its file, not after its module."""
    import ray.train  # noqa: PLC0415

    _quiet(str(Path(ray.train.__file__).parent / "v2/_internal/execution/context.py"))


def quiet_tune_checkpoints() -> None:
    """Keep Ray Tune from printing a line per checkpoint."""
    _quiet("ray.train._internal.storage")


def quiet_token_setup() -> None:
    """Keep Ray from printing that it uses the token that `cluster.session` has just made."""
    _quiet("ray._private.authentication.authentication_token_setup", logging.ERROR)


def quiet_job_client() -> None:
    """Keep Ray's job client from printing each upload; the command line prints its own lines."""
    for module in ("dashboard_sdk", "job.sdk"):
        _quiet(f"ray.dashboard.modules.{module}")


def _quiet(logger: str, level: int = logging.WARNING) -> None:
    logging.getLogger(logger).setLevel(level)
