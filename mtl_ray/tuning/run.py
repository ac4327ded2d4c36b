"""`tune`: a resumable search through Ray Tune, with an MLflow run and a child run per trial."""

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from typing import Any

import ray
import ray.tune

from mtl_ray.cluster.session import connect
from mtl_ray.cluster.storage_check import check_storage
from mtl_ray.config import Experiment
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.prepare import prepare
from mtl_ray.data.shared import SharedDataset, share_dataset
from mtl_ray.errors import InputError
from mtl_ray.evaluation.segments import segment_masks
from mtl_ray.runs.lifecycle import finish_on_exit, new_name
from mtl_ray.runs.parallel import train_in_parallel
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.schema import ITEM_SUPPORT, USER_SUPPORT, label_column, segments
from mtl_ray.tasks.base import build_task
from mtl_ray.tracking.tracked_run import Run
from mtl_ray.training.recipe import completed
from mtl_ray.training.single_process import Training
from mtl_ray.tuning.refit import refit
from mtl_ray.tuning.report import write_report
from mtl_ray.tuning.resources import check_resources, max_parallel_trials, num_trials_that_fit, resources_of
from mtl_ray.tuning.results import Tuning, best_epoch_of_file, read_references, reference_experiments
from mtl_ray.tuning.search_algorithms import build_scheduler, build_searcher, population_space
from mtl_ray.tuning.space import check_tune, tune_of, untuned
from mtl_ray.tuning.trial import searched_metrics
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


@dataclass(frozen=True)
class Tuned:
    """A finished search, and where its files are."""

    name: str
    folder: RunFolder
    run_id: str | None
    tuning: Tuning
    refitted: dict[str, Any] | None
    """The result of `refit`, if it was asked for."""

    def lines(self) -> Iterator[str]:
        """Yield lines for the terminal that say where the results are."""
        yield f"MLflow run: {self.run_id}"
        yield f"report: {self.folder}/report.html; trials: {self.folder}/tuning.json"
        if self.tuning.keeps_file:
            yield f"best: the file as it stands, since no trial is better; {self.folder}/best.yaml says the same"
        elif best := self.tuning.best:
            yield f"best: {best.name}, as an experiment file: {self.folder}/best.yaml"
            yield f"to compare it on test rows with the file as it stands: mtl-ray compare {self.folder}/compare.yaml"
        else:
            yield "no trial trained to its end within the constraints, so none is suggested"
        if self.refitted:
            yield f"candidate: {self.refitted['candidate']}"
            for key, found in self.refitted["summary"].items():
                if key.count("/") == 2 and not key.endswith(("/count", "/loss")):
                    deviation = "" if found.sd is None else f", deviation {found.sd:.4f} over {found.n} seeds"
                    yield f"  {key}: {found.mean:.4f}{deviation}"

    def to_dict(self) -> dict[str, Any]:
        """Return the results in a form for JSON."""
        found = {"run": self.name, "run_id": self.run_id, "folder": self.folder.location, **self.tuning.to_dict()}
        if self.refitted:
            found["candidate"] = self.refitted["candidate"]
            found["refit"] = {key: asdict(summary) for key, summary in self.refitted["summary"].items()}
        return found


def tune(
    experiment: Experiment,
    resume: str | None = None,
    echo: Callable[[str], None] = print,
    show: Callable[[Tuning], None] = lambda _: None,
    num_refits: int = 0,
) -> Tuned:
    """Search what `experiment.tune` declares.

    The run's folder receives `best.yaml` and `compare.yaml` (experiment files), `tuning.json`, `report.html`, and a
    file per trial under `trials/` and per reference under `references/`; MLflow one run with a child for each.

    Args:
        experiment: has a section `tune`.
        resume: name of an unfinished search of the same experiment.
        echo: receives lines of text for the user.
        show: receives the results so far whenever a trial changes.
        num_refits: number of seeds over which the winner is trained on training and validation rows.

    Raises:
        InputError: the search cannot be done (see `check_tune`), the cluster has no room for a trial, an objective has
            no validation rows, or `resume` names no search of this experiment.
    """
    check_tune(experiment)
    name = resume or new_name(experiment, "-tune")
    folder = RunFolder.of(experiment, name)
    record = folder.record_to_resume("tune", experiment) if resume else None
    connect()
    check_resources(experiment)
    check_storage(experiment)
    prepared = prepare(untuned(experiment), echo)
    shared = share_dataset(prepared, ("train", "valid"), int(experiment.training.cache_memory))
    check_rows(experiment, shared)
    resume_command = f"mtl-ray tune EXPERIMENT --resume {name}"
    if record:
        run = record.tracked_run(folder)
        echo(f"resuming run {name}: {Tuning(experiment, read_trials(folder), {}).progress()}")
    else:
        run = Run.start(experiment, name, folder.create())
        folder.write_record("tune", experiment, run, prepared.folder.location)
        run.log_experiment(experiment, prepared)
        echo(f"run {name}: {tune_of(experiment).trials} trials; if it is interrupted, continue with: {resume_command}")
    experiment = completed(experiment, prepared.schema)
    with finish_on_exit(run, echo, resume_command):
        references = _references(experiment, prepared, folder, run, name, echo)
        trials = search(experiment, shared, run, name, references, show)
        tuning = Tuning(experiment, trials, references)
        folder.keep_search(tuning.to_dict(), tuning.best_experiment(), tuning.comparison(), run)
        best_epoch = best_epoch_of_file(folder) if tuning.keeps_file else tuning.best.best_epoch if tuning.best else 0
        if tuning.best:
            run.log_metrics(tuning.best.best_metrics, best_epoch)
        write_report(experiment, folder, run)
        refitted = None
        if num_refits and tuning.best and (best := tuning.best_experiment()):
            epochs = best_epoch if best.training.early_stopping else best.training.epochs
            refitted = refit(best, epochs, num_refits, folder, run, echo)
            write_report(experiment, folder, run)  # again, with what MLflow lacks of these trainings
    return Tuned(name, folder, run.run_id, tuning, refitted)


def search(
    experiment: Experiment,
    shared: SharedDataset,
    run: Run,
    title: str,
    references: dict[str, dict[str, float]],
    show: Callable[[Tuning], None] = lambda _: None,
) -> list[Trial]:
    """Run the trials that have not finished yet, and return all trials.

    Args:
        experiment: has a section `tune`.
        shared: the data set.
        run: the parent run in MLflow; its folder receives the trials.
        title: stands before the names of the child runs.
        references: metrics of the references that trials are measured by.
        show: receives the results so far whenever a trial changes.
    """
    settings, folder = tune_of(experiment), RunFolder(run.folder.location)
    known = Tuning(experiment, [], references)
    store = TrialStore(
        experiment, run, title, lambda _: show(Tuning(experiment, list(store.trials.values()), references))
    )
    if len([t for t in store.trials.values() if t.state != "running"]) == settings.trials:
        store.close(set(store.trials))
        return read_trials(folder)
    tree = experiment.model_dump(mode="json", exclude_unset=True)
    place = folder.search
    common = {
        "experiment": tree,
        "shared": ray.put(shared),
        "storage": (place / WORKERS).location,
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
        if not unstarted:
            break
        resume = "AUTO+ERRORED"
    for trial in unstarted:
        store.fail(trial)
    store.close({trial.trial_id for trial in found})
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


def check_rows(experiment: Experiment, shared: SharedDataset) -> None:
    """Raise InputError if a searched metric has no validation rows."""
    named = {segment.name: segment for segment in segments(experiment.evaluation.support_buckets)}
    for key in searched_metrics(tune_of(experiment)):
        _, task, _, *segment = key.split("/")
        head, found = build_task(experiment.tasks[task], shared.prepared.schema.tasks[task]), 0
        for rows in shared.shard("valid").evaluation_batches(experiment.evaluation.batch_size):
            mask = head.labelled(rows[label_column(task)])
            for name in segment:
                mask &= segment_masks(rows[USER_SUPPORT], rows[ITEM_SUPPORT], [named[name]])[name]
            found += int(mask.sum())
        if not found:
            raise InputError(
                f"tune: expected validation rows for `{key}`; found none with a label of {task}"
                f"{f' in the segment {segment[0]}' if segment else ''}: see data.split"
            )


def _references(
    experiment: Experiment, prepared: Prepared, folder: RunFolder, run: Run, title: str, echo: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Train the references that have not finished yet, and return the metrics of all."""
    found = read_references(experiment, folder)
    missing = {n: Training(e, prepared) for n, e in reference_experiments(experiment).items() if n not in found}
    cpus = max(1, int(tune_of(experiment).cpus_per_trial))
    for name, result in train_in_parallel(missing, folder.references, "valid", cpus, run, title):
        echo(f"{name.replace('_', ' ')}: {result['seconds']:.0f} s")
    return read_references(experiment, folder)
