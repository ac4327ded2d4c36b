"""The trials of a search, run by Ray Tune until all have ended or the time is over."""

import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import ray
import ray.tune

from mtl_ray.config import Experiment
from mtl_ray.data.shared import SharedDataset
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.tracking.tracked_run import Run
from mtl_ray.tuning.resources import max_parallel_trials, num_trials_that_fit, resources_of
from mtl_ray.tuning.results import Tuning
from mtl_ray.tuning.search_algorithms import build_scheduler, build_searcher, population_space
from mtl_ray.tuning.space import tune_of
from mtl_ray.tuning.trial_actor import EndWorkers, run_trial
from mtl_ray.tuning.trial_store import Trial, TrialStore, read_trials

WORKERS = "workers"
"""Folder, inside Ray Tune's, for what Ray Train writes of trials with several workers."""

SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}
"""Settings that Ray Tune takes from environment variables."""


def search(
    experiment: Experiment,
    shared: SharedDataset,
    run: Run,
    title: str,
    references: dict[str, dict[str, float]],
    show: Callable[[Tuning], None] = lambda _: None,
    seconds: float | None = None,
) -> list[Trial]:
    """Run the trials that have not finished yet, and return all trials.

    Args:
        experiment: has a section `tune`.
        shared: the data set.
        run: the parent run in MLflow; its folder receives the trials.
        title: stands before the names of the child runs.
        references: metrics of the references that trials are measured by.
        show: receives the results so far whenever a trial changes.
        seconds: time after which no trial goes on; a trial that it ends keeps its best epoch so far.
    """
    settings, folder = tune_of(experiment), RunFolder(run.folder.location)
    known = Tuning(experiment, [], references)
    store = TrialStore(
        experiment, run, title, lambda _: show(Tuning(experiment, list(store.trials.values()), references))
    )
    place = folder.search
    ended = len([t for t in store.trials.values() if t.state != "running"])
    if ended == settings.trials or (seconds is not None and store.trials and (seconds <= 0 or not place.exists())):
        store.close(set(store.trials), timed_out=seconds is not None)
        place.delete()
        return read_trials(folder)
    tree = experiment.model_dump(mode="json", exclude_unset=True)
    common = {
        "experiment": tree,
        "shared": ray.put(shared),
        "storage": (place / WORKERS).location,
        "kept": folder.trial_models.location if settings.ensemble else None,
        "ended": {trial.id: trial.last_report() for trial in store.trials.values() if trial.state == "finished"},
    }
    limit = max_parallel_trials(experiment)
    # Without a limit on pending trials, Ray Tune would start them one after the other.
    for key, value in (
        SETTINGS | {"TUNE_MAX_PENDING_TRIALS_PG": str(limit or num_trials_that_fit(experiment))}
    ).items():
        os.environ.setdefault(key, value)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)  # it warns about the files of loggers that are off
    # `ray.tune.run`, since `Tuner` would resume with pickled copies of the store and of the scheduler.

    def run_trials(resume: str | None) -> Any:
        return ray.tune.run(
            ray.tune.with_parameters(run_trial, common=common),
            name=place.name,
            storage_path=folder.location,
            resume=resume,
            config=population_space(experiment),
            num_samples=settings.trials,
            time_budget_s=None if seconds is None else max(1.0, seconds),
            resources_per_trial=resources_of(experiment),
            search_alg=build_searcher(experiment, known.violations),
            scheduler=build_scheduler(experiment, {t.id: t.reports for t in store.trials.values()}),
            max_concurrent_trials=limit,
            max_failures=experiment.training.max_failures,
            # Keep all checkpoints until the search ends: members of a population copy from each other, and the state
            # of the search, written every second, may be older than a killed driver's last checkpoints.
            checkpoint_config=ray.tune.CheckpointConfig(num_to_keep=None),
            reuse_actors=experiment.training.most_workers == 1,
            trial_dirname_creator=lambda trial: trial.trial_id,
            raise_on_failed_trial=False,
            callbacks=[store, EndWorkers()],
            verbose=0,
        )

    found: list[Any] = []
    unstarted: list[Any] = []
    resume = "AUTO" if place.exists() else None
    for _ in range(1 + experiment.training.max_failures):
        found = _beside_main_thread(lambda resume=resume: run_trials(resume), store.stop).trials
        unstarted = [trial for trial in found if trial.trial_id not in store.trials]
        if seconds is not None:  # after which trials that wait are dropped
            unstarted = [trial for trial in unstarted if trial.status == ray.tune.experiment.Trial.ERROR]
        if not unstarted:
            break
        resume = "AUTO+ERRORED"
    for trial in unstarted:
        store.fail(trial)
    store.close({trial.trial_id for trial in found}, timed_out=seconds is not None)
    place.delete()  # all trials have ended
    return read_trials(folder)


def _beside_main_thread(work: Callable[[], ray.tune.ExperimentAnalysis], stop: Callable[[], None]) -> Any:
    """Return the result of the work. After Ctrl-C, which only the main thread receives, stop it and wait for it."""
    pool = ThreadPoolExecutor(1)
    future = pool.submit(work)
    try:
        return future.result()
    except (KeyboardInterrupt, SystemExit):
        stop()
        wait([future], timeout=30)
        ray.shutdown()  # stops the workers, with which the thread ends
        raise
    finally:
        pool.shutdown(wait=False)
