"""The trials of a search: a file and an MLflow run each, from the first report on, whoever is killed."""

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from threading import Lock
from typing import Any, Literal

import ray.tune

from mtl_ray.config import Experiment
from mtl_ray.config.comparison import Changes
from mtl_ray.storage import Folder
from mtl_ray.tracking.tracked_run import Run
from mtl_ray.tuning.space import trial_experiment
from mtl_ray.tuning.trial import EPOCH, KEPT

State = Literal["running", "finished", "stopped", "failed"]
"""`stopped`: by the scheduler, before its last epoch."""

PLACE = "trials"
LOG_EVERY = 10.0
"""Seconds between two times that a trial's epochs are logged in MLflow, which takes longer for two batches than for one
of both; the rest is logged when the trial ends."""


@dataclass
class Trial:
    """What is known of a trial."""

    id: str
    """Ray Tune's."""
    number: int
    params: dict[str, Any]
    state: State = "running"
    changes: Changes = field(default_factory=dict)
    """What makes its experiment of the searched one."""
    history: dict[int, dict[str, float]] = field(default_factory=dict)
    """Metrics by epoch."""
    kept: dict[str, float] = field(default_factory=dict)
    """Searched metrics of the epoch that `train` would keep."""
    kept_epoch: int = 0
    reports: dict[int, dict[str, float]] = field(default_factory=dict)
    """What `kept` was, by epoch."""
    seconds: float = 0.0
    """Since its process took it up last."""
    failure: str | None = None
    run_id: str | None = None
    logged_epoch: int = 0
    """Up to where its MLflow run has the history, at least."""
    logged: bool = False
    """Whether its MLflow run has ended."""

    @property
    def name(self) -> str:
        """Unique in the search."""
        return f"trial_{self.number:05d}"

    def last_report(self) -> dict[str, Any]:
        """What its process reported last (see `train_trial`)."""
        epoch = max(self.history)
        return {
            "metrics": json.dumps(self.history[epoch]),
            KEPT: self.kept,
            "kept_epoch": self.kept_epoch,
            EPOCH: epoch,
            "over": self.state == "finished",
            "seconds": self.seconds,
            "changes": json.dumps(self.changes),
        }


def read_trials(folder: Folder) -> list[Trial]:
    """The trials that reported anything, in the order of their start."""
    files = (folder / PLACE).files(".json") if folder.exists(PLACE) else []
    trees = [json.loads((folder / PLACE).read_text(path.rpartition("/")[2])) for path in files]
    for tree in trees:
        for name in ("history", "reports"):
            tree[name] = {int(epoch): metrics for epoch, metrics in tree[name].items()}
    return sorted((Trial(**tree) for tree in trees), key=lambda trial: trial.number)


class TrialStore(ray.tune.Callback):
    """Keeps files and MLflow runs of trials up to date.

    A file is written before Ray Tune writes its own state, so that a search whose driver is killed never resumes from a
    state that knows more than the files; MLflow is told beside Ray Tune's loop, which it does not hold up.
    """

    def __init__(self, experiment: Experiment, run: Run, title: str, changed: Callable[[Trial], None]) -> None:
        self.experiment, self.run, self.title, self.changed = experiment, run, title, changed
        self.trials = {trial.id: trial for trial in read_trials(run.folder)}
        self._thread = ThreadPoolExecutor(1)
        self._lock = Lock()
        self._logged: dict[str, float] = {}
        self._stopped = False
        self._pending: list[Any] = []

    def stop(self) -> None:
        """End Ray Tune's loop at its next step, with a state from which it can go on."""
        self._stopped = True

    def on_step_begin(self, iteration: int, trials: list, **info: Any) -> None:
        """The loop of Ray Tune begins a step."""
        if self._stopped:
            raise KeyboardInterrupt

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A trial begins, or goes on after a pause, a failure or a resumption; it may have reported its end before."""
        known = self._known(trial)
        if known.state == "stopped":
            known.state = "running"
        self.changed(known)

    def _known(self, trial: Any) -> Trial:
        number = max((known.number for known in self.trials.values()), default=-1) + 1
        return self.trials.setdefault(trial.trial_id, Trial(trial.trial_id, number, dict(trial.config)))

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """A trial reported an epoch."""
        known = self.trials[trial.trial_id]
        known.params, known.failure = dict(trial.config), result.get("failed")
        if known.failure is None:
            known.kept, known.kept_epoch = result[KEPT], result["kept_epoch"]
            known.history = _until(result[EPOCH], known.history, json.loads(result["metrics"]))
            known.reports = _until(result[EPOCH], known.reports, result[KEPT])
            known.changes, known.seconds = json.loads(result["changes"]), result["seconds"]
        known.state = "failed" if known.failure else "finished" if result["over"] else "running"
        self._later(known, lambda trial: None if trial.failure else self._log_epoch(trial, result[EPOCH]))

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A trial will not go on."""
        known = self.trials[trial.trial_id]
        if known.state == "running":
            known.state = "stopped"
        self._later(known, self._finish)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A trial failed as often as it may; or its process died before it began, which Ray Tune takes for the same."""
        if trial.trial_id in self.trials:
            self.fail(trial)

    def fail(self, trial: Any) -> None:
        """Give a trial up."""
        known = self._known(trial)
        known.state, known.failure = "failed", known.failure or _last_line(trial)
        self._later(known, self._finish)

    def close(self, known: set[str]) -> None:
        """Wait until all is written, and end the runs of trials that ended as the last driver did.

        What a killed driver had begun, not ended, and the resumed one does not know (`known` are the ids of all trials
        of the search) is no trial, and dropped.
        """
        for trial in list(self.trials.values()):
            if trial.id not in known and trial.state == "running":
                del self.trials[trial.id]
                self._thread.submit(self._drop, trial).result()
            else:
                self._later(trial, lambda trial: None if trial.logged else self._finish(trial))
        self._thread.shutdown()
        for future in self._pending:
            future.result()

    def _later(self, trial: Trial, action: Callable[[Trial], None]) -> None:
        """Write the trial's file; act in MLflow later, in the order of the reports."""
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
            self.run.folder.write_atomic(f"{PLACE}/{trial.name}.json", json.dumps(asdict(trial)))

    def _drop(self, trial: Trial) -> None:
        folder, file = self.run.folder / PLACE, f"{trial.name}.json"
        if folder.exists(file):
            folder.fs.delete_file(f"{folder.path}/{file}")
        if trial.run_id:
            self._run(trial).delete()

    def _run(self, trial: Trial) -> Run:
        """The trial's run, begun if need be."""
        folder = self.run.folder / PLACE / trial.name
        if trial.run_id is None:
            title = f"{self.title}/{trial.name}"
            trial.run_id = Run.start(self.experiment, title, folder, self.run.run_id).run_id
        return Run(self.run.uri, trial.run_id, folder)

    def _log_epoch(self, trial: Trial, last: int) -> None:
        """Log up to an epoch every `LOG_EVERY` seconds; later epochs that were logged are void."""
        trial.logged_epoch, now = min(trial.logged_epoch, last - 1), time.monotonic()
        if now - self._logged.setdefault(trial.id, now - trial.seconds) >= LOG_EVERY:
            self._logged[trial.id] = now
            self._log(trial, last)

    def _log(self, trial: Trial, last: int) -> None:
        """Log the history up to an epoch that is not logged yet; counts of rows, which do not change, once."""
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
        trial.logged = True


def _until(epoch: int, known: dict[int, Any], found: Any) -> dict[int, Any]:
    """What is known by epoch, without what a trial that has gone back reported later."""
    return {before: values for before, values in known.items() if before < epoch} | {epoch: found}


def _last_line(trial: Any) -> str:
    lines = str(trial.get_error() or "").strip().splitlines()
    return lines[-1] if lines else "unknown error"
