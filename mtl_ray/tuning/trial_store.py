"""The trials of a search: each has a file and an MLflow run, from its first report on, whatever is killed."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from threading import Lock
from typing import Any, Literal

import ray.tune

from mtl_ray.config import Experiment
from mtl_ray.config.comparison import Changes
from mtl_ray.runs.run_folder import RunFolder, without_null
from mtl_ray.tracking.tracked_run import Run
from mtl_ray.tuning.space import trial_experiment
from mtl_ray.tuning.trial import BEST_EPOCH, BEST_METRICS, EPOCH

State = Literal["running", "finished", "stopped", "failed"]
"""`stopped` means by the scheduler, before the last epoch."""

KEYS_IN_FILES = {"best_metrics": BEST_METRICS, "best_epoch": BEST_EPOCH}
"""Fields of a trial that have another name in files."""

LOG_EVERY = 10.0
"""Seconds between two requests to MLflow for the epochs of a trial: one large batch is cheaper than two small ones. The
rest is logged when the trial ends."""


@dataclass
class Trial:
    """The state of a trial."""

    id: str
    """Id in Ray Tune."""
    number: int
    params: dict[str, Any]
    state: State = "running"
    changes: Changes = field(default_factory=dict)
    """Changes that turn the searched experiment into the trial's."""
    history: dict[int, dict[str, float]] = field(default_factory=dict)
    """Metrics by epoch."""
    best_metrics: dict[str, float] = field(default_factory=dict)
    """Searched metrics of the epoch whose checkpoint `train` would select."""
    best_epoch: int = 0
    reports: dict[int, dict[str, float]] = field(default_factory=dict)
    """The best metrics so far, by epoch."""
    seconds: float = 0.0
    """Seconds since its process last started or resumed it."""
    failure: str | None = None
    run_id: str | None = None
    logged_epoch: int = 0
    """Last epoch that its MLflow run has for sure."""
    logged: bool = False
    """True once its MLflow run has ended."""

    @property
    def name(self) -> str:
        """The name, unique in the search."""
        return f"trial_{self.number:05d}"

    def last_report(self) -> dict[str, Any]:
        """Return what its process reported last (see `train_trial`)."""
        epoch = max(self.history)
        return {
            "metrics": json.dumps(self.history[epoch]),
            BEST_METRICS: self.best_metrics,
            BEST_EPOCH: self.best_epoch,
            EPOCH: epoch,
            "over": self.state == "finished",
            "seconds": self.seconds,
            "changes": json.dumps(self.changes),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the content of its file."""
        return {KEYS_IN_FILES.get(each.name, each.name): getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_dict(cls, tree: dict[str, Any]) -> "Trial":
        """Return the trial of a file."""
        names = {key: name for name, key in KEYS_IN_FILES.items()}
        values = {names.get(key, key): value for key, value in tree.items()}
        for name in ("history", "reports"):
            values[name] = {int(epoch): without_null(metrics) for epoch, metrics in values[name].items()}
        return cls(**values)


def read_trials(folder: RunFolder) -> list[Trial]:
    """Return the trials that reported anything, in the order of their start."""
    return sorted(map(Trial.from_dict, folder.trials.read_all()), key=lambda trial: trial.number)


class TrialStore(ray.tune.Callback):
    """Keeps the files and MLflow runs of trials up to date.

    A file is written before Ray Tune writes its own state, so a search whose driver was killed never resumes from a
    state that is ahead of the files. MLflow is updated in another thread, which does not delay Ray Tune's loop.
    """

    def __init__(self, experiment: Experiment, run: Run, title: str, changed: Callable[[Trial], None]) -> None:
        self.experiment, self.run, self.title, self.changed = experiment, run, title, changed
        folder = RunFolder(run.folder.location)
        self.files = folder.trials
        self.trials = {trial.id: trial for trial in read_trials(folder)}
        self._thread = ThreadPoolExecutor(1)
        self._lock = Lock()
        self._logged: dict[str, float] = {}
        self._stopped = False
        self._pending: list[Any] = []

    def stop(self) -> None:
        """End Ray Tune's loop at its next step, in a state from which it can resume."""
        self._stopped = True

    def on_step_begin(self, iteration: int, trials: list, **info: Any) -> None:
        """End Ray Tune's loop if `stop` was called."""
        if self._stopped:
            raise KeyboardInterrupt

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Note that a trial starts, or continues after a pause, a failure or a resumption."""
        known = self._known(trial)
        if known.state == "stopped":
            known.state = "running"
        self.changed(known)

    def _known(self, trial: Any) -> Trial:
        number = max((known.number for known in self.trials.values()), default=-1) + 1
        return self.trials.setdefault(trial.trial_id, Trial(trial.trial_id, number, dict(trial.config)))

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """Note the report of an epoch."""
        known = self.trials[trial.trial_id]
        known.params, known.failure = dict(trial.config), result.get("failed")
        if known.failure is None:
            known.best_metrics, known.best_epoch = result[BEST_METRICS], result[BEST_EPOCH]
            known.history = _until(result[EPOCH], known.history, json.loads(result["metrics"]))
            known.reports = _until(result[EPOCH], known.reports, result[BEST_METRICS])
            known.changes, known.seconds = json.loads(result["changes"]), result["seconds"]
        known.state = "failed" if known.failure else "finished" if result["over"] else "running"
        self._later(known, lambda trial: None if trial.failure else self._log_epoch(trial, result[EPOCH]))

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Note that a trial has ended."""
        known = self.trials[trial.trial_id]
        if known.state == "running":
            known.state = "stopped"
        self._later(known, self._finish)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Note that a trial failed too often. Ray Tune calls this as well if its process died before it started."""
        if trial.trial_id in self.trials:
            self.fail(trial)

    def fail(self, trial: Any) -> None:
        """Give up a trial."""
        known = self._known(trial)
        known.state, known.failure = "failed", known.failure or _last_line(trial)
        self._later(known, self._finish)

    def close(self, known: set[str], *, timed_out: bool = False) -> None:
        """Wait until everything is written, and end the MLflow runs of trials that ended when a driver was killed.

        Args:
            known: ids of all trials of the search. A running trial that is not among them was started by a driver that
                was killed before Ray Tune saved its state; it is deleted.
            timed_out: whether the search is over for its time, which stops running trials.
        """
        for trial in list(self.trials.values()):
            if timed_out and trial.state == "running" and trial.history:
                trial.state = "stopped"
                self._later(trial, self._finish)
            elif trial.id not in known and trial.state == "running":
                del self.trials[trial.id]
                self._thread.submit(self._drop, trial).result()
            else:
                self._later(trial, lambda trial: None if trial.logged else self._finish(trial))
        self._thread.shutdown()
        for future in self._pending:
            future.result()

    def _later(self, trial: Trial, action: Callable[[Trial], None]) -> None:
        """Write the trial's file now, and act in MLflow later, in the order of the reports."""
        self.changed(trial)
        self._write(trial)
        copy = replace(trial)

        def act() -> None:
            before = copy.run_id, copy.logged, copy.logged_epoch = trial.run_id, trial.logged, trial.logged_epoch
            action(copy)
            trial.run_id, trial.logged, trial.logged_epoch = copy.run_id, copy.logged, copy.logged_epoch
            if before[:2] != (trial.run_id, trial.logged):
                self._write(trial)

        self._pending = [future for future in self._pending if not future.done() or future.exception()]
        self._pending.append(self._thread.submit(act))

    def _write(self, trial: Trial) -> None:
        with self._lock:
            self.files.write(trial.name, trial.to_dict())

    def _drop(self, trial: Trial) -> None:
        self.files.delete(trial.name)
        if trial.run_id:
            self._run(trial).delete()

    def _run(self, trial: Trial) -> Run:
        """Return the trial's MLflow run, which is created if need be."""
        folder = self.files.folder / trial.name
        if trial.run_id is None:
            title = f"{self.title}/{trial.name}"
            trial.run_id = Run.start(self.experiment, title, folder, self.run.run_id).run_id
        return Run(self.run.uri, trial.run_id, folder)

    def _log_epoch(self, trial: Trial, last: int) -> None:
        """Log up to an epoch, every `LOG_EVERY` seconds. A trial that went back to a checkpoint logs epochs again."""
        trial.logged_epoch, now = min(trial.logged_epoch, last - 1), time.monotonic()
        if now - self._logged.setdefault(trial.id, now - trial.seconds) >= LOG_EVERY:
            self._logged[trial.id] = now
            self._log(trial, last)

    def _log(self, trial: Trial, last: int) -> None:
        """Log the epochs up to `last` that are not logged yet; row counts, which never change, only once."""
        history = {
            epoch: {key: value for key, value in metrics.items() if epoch == 1 or key.split("/")[2:3] != ["count"]}
            for epoch, metrics in trial.history.items()
            if trial.logged_epoch < epoch <= last
        }
        self._run(trial).log_history(history)
        trial.logged_epoch = last

    def _finish(self, trial: Trial) -> None:
        run, last = self._run(trial), max(trial.history, default=0)
        if last > trial.logged_epoch:
            self._log(trial, last)
        if trial.changes:
            run.log_experiment(trial_experiment(self.experiment, trial.changes), None)
        run.finish("FAILED" if trial.state == "failed" else "FINISHED")
        self.run.adopt_lost(run.folder, trial.name)
        trial.logged = True


def _until(epoch: int, known: dict[int, Any], found: Any) -> dict[int, Any]:
    """Return values by epoch with a new one, without later ones of a trial that went back to a checkpoint."""
    return {before: values for before, values in known.items() if before < epoch} | {epoch: found}


def _last_line(trial: Any) -> str:
    lines = str(trial.get_error() or "").strip().splitlines()
    return lines[-1] if lines else "unknown error"
