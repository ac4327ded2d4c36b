"""`tune`: a resumable search through Ray Tune, with an MLflow run and a child run per trial."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.table import Table

from mtl_ray.cluster.session import connect
from mtl_ray.cluster.storage_check import check_storage
from mtl_ray.config import Experiment
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.prepare import prepare
from mtl_ray.data.shared import SharedDataset, share_dataset
from mtl_ray.errors import InputError
from mtl_ray.evaluation.segments import segment_masks
from mtl_ray.reporting.results import Shown
from mtl_ray.runs.lifecycle import finish_on_exit, new_name, resume_command
from mtl_ray.runs.parallel import train_in_parallel
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.runs.train import train
from mtl_ray.schema import ITEM_SUPPORT, USER_SUPPORT, label_column, segments
from mtl_ray.tasks.base import build_task
from mtl_ray.tracking.tracked_run import Run
from mtl_ray.training.single_process import Training
from mtl_ray.tuning.automatic import searched, seconds_left, with_validation_rows
from mtl_ray.tuning.ensemble import Joined, join_trials
from mtl_ray.tuning.refit import refit
from mtl_ray.tuning.report import write_report
from mtl_ray.tuning.resources import check_resources
from mtl_ray.tuning.results import Tuning, best_epoch_of_file, read_references, reference_experiments
from mtl_ray.tuning.search import search
from mtl_ray.tuning.space import check_tune, tune_of, untuned
from mtl_ray.tuning.trial import searched_metrics
from mtl_ray.tuning.trial_store import read_trials

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Tuned(Shown):
    """A finished search, and where its files are.

    Example:
        >>> tune(shop).to_frame().nlargest(3, "valid/click/auc")  # doctest: +SKIP
    """

    name: str
    folder: RunFolder
    run_id: str | None
    tuning: Tuning
    refitted: dict[str, Any] | None
    """The result of `refit`, if it was asked for."""
    joined: Joined | None
    """The ensemble of trials, if it was asked for."""

    @property
    def metrics(self) -> dict[str, float]:
        """The searched metrics of the best trial, on validation rows: `valid/task/metric[/segment]`; empty without any
        trial within the constraints."""
        return dict(self.tuning.best.best_metrics) if self.tuning.best else {}

    def to_frame(self) -> "pd.DataFrame":
        """Return a frame with a row per trial: its name, state, best epoch and seconds, a column per searched metric,
        and one per setting that the search changes."""
        import pandas as pd  # noqa: PLC0415 - slow to load

        return pd.DataFrame(
            {"trial": t.name, "state": t.state, "epoch": t.best_epoch, "seconds": t.seconds} | t.best_metrics | t.params
            for t in self.tuning.trials
        )

    def table(self) -> Table:
        """Return the trials as a table."""
        return self.tuning.table()

    def lines(self) -> Iterator[str]:
        """Yield lines that say where the results are."""
        yield f"MLflow run: {self.run_id}"
        yield f"report: {self.folder}/report.html; trials: {self.folder}/tuning.json"
        if self.tuning.keeps_file:
            yield f"best: the file as it stands, since no trial is better; {self.folder}/best.yaml says the same"
        elif best := self.tuning.best:
            yield f"best: {best.name}, as an experiment file: {self.folder}/best.yaml"
            yield f"to compare it on test rows with the file as it stands: mtl-ray compare {self.folder}/compare.yaml"
        else:
            yield "no trial trained to its end within the constraints, so none is suggested"
        if self.joined:
            yield f"candidate: {self.joined.model_uri}; {self.folder}/checkpoint"
            yield from self.joined.lines()
        if self.refitted:
            yield f"candidate: {self.refitted['candidate']}"
            for key, found in self.refitted["summary"].items():
                if key.count("/") == 2 and not key.endswith(("/count", "/loss")):
                    deviation = "" if found.sd is None else f", deviation {found.sd:z.4f} over {found.n} seeds"
                    yield f"  {key}: {found.mean:z.4f}{deviation}"

    def to_dict(self) -> dict[str, Any]:
        """Return the results in a form for JSON."""
        found = {"run": self.name, "run_id": self.run_id, "folder": self.folder.location, **self.tuning.to_dict()}
        if self.joined:
            found |= {"candidate": self.joined.model_uri, "ensemble": asdict(self.joined)}
        if self.refitted:
            found["candidate"] = self.refitted["candidate"]
            found["refit"] = {key: asdict(summary) for key, summary in self.refitted["summary"].items()}
        return found


def tune(
    experiment: Experiment,
    *,
    interactions: Any = None,
    users: Any = None,
    items: Any = None,
    num_refits: int = 0,
    resume: str | None = None,
    show: Callable[[Tuning], None] = lambda _: None,
    echo: Callable[[str], None] = print,
) -> Tuned:
    """Search what `experiment.tune` declares.

    The run's folder receives `best.yaml` and `compare.yaml` (experiment files), `tuning.json`, `report.html`, and a
    file per trial under `trials/` and per reference under `references/`; MLflow one run with a child for each.

    Args:
        experiment: has a section `tune`.
        interactions: for `data.source: memory`, the log as a frame, see `prepare`.
        users: for `memory`, the table of users, if there is one.
        items: for `memory`, the table of items, if there is one.
        num_refits: number of seeds over which the winner is trained on training and validation rows.
        resume: name of an unfinished search of the same experiment.
        show: receives the results so far whenever a trial changes.
        echo: receives lines of text for the user.

    Raises:
        InputError: the search cannot be done (see `check_tune`), the cluster has no room for a trial, an objective has
            no validation rows, or `resume` names no search of this experiment.

    Example:
        >>> from mtl_ray.config import load
        >>> tune(load("shop.yaml", ["tune.minutes=20"])).metrics  # doctest: +SKIP
        {'valid/click/auc': 0.81}
    """
    began = time.monotonic()
    check_tune(experiment)
    if num_refits and tune_of(experiment).minutes is not None:
        raise InputError("--refit: trains after the search, for which `tune.minutes` leaves no time; use one of them")
    name = resume or new_name(experiment, "-tune")
    folder = RunFolder.of(experiment, name)
    record = folder.record_to_resume("tune", experiment) if resume else None
    connect()
    check_resources(experiment)
    check_storage(experiment)
    given = experiment
    frames = {"interactions": interactions, "users": users, "items": items}
    experiment, prepared = with_validation_rows(given, lambda each: prepare(untuned(each), **frames, echo=echo))
    shared = share_dataset(prepared, ("train", "valid"), int(experiment.training.cache_memory))
    experiment = searched(experiment, prepared.schema)
    check_tune(experiment)
    check_rows(experiment, shared)
    continued = resume_command("tune", experiment, name)
    if record:
        run = record.tracked_run(folder)
        echo(f"resuming run {name}: {Tuning(experiment, read_trials(folder), {}).progress()}")
    else:
        run = Run.start(experiment, name, folder.create())
        folder.write_record("tune", given, run, prepared.folder.location, experiment)
        run.log_experiment(experiment, prepared)
        echo(f"run {name}: {tune_of(experiment).size}; if it is interrupted, continue with: {continued}")
    with finish_on_exit(run, echo, continued):
        seconds = seconds_left(experiment, read_trials(folder), began)
        references = {} if seconds is not None else _references(experiment, prepared, folder, run, name, echo)
        trials = search(experiment, shared, run, name, references, show, seconds)
        tuning = Tuning(experiment, trials, references)
        folder.keep_search(tuning.to_dict(), tuning.best_experiment(), tuning.comparison(), run)
        best_epoch = best_epoch_of_file(folder) if tuning.keeps_file else tuning.best.best_epoch if tuning.best else 0
        if tuning.best:
            run.log_metrics(tuning.best.best_metrics, best_epoch)
        joined = refitted = None
        if tune_of(experiment).ensemble and tuning.candidates:
            joined = join_trials(tuning, prepared, folder, run)
        write_report(experiment, folder, run)
        if num_refits and tuning.best and (best := tuning.best_experiment()):
            epochs = best_epoch if best.training.early_stopping else best.training.epochs
            refitted = refit(best, epochs, num_refits, folder, run, partial(train, **frames, echo=echo))
            write_report(experiment, folder, run)  # again, with what MLflow lacks of these trainings
    return Tuned(name, folder, run.run_id, tuning, refitted, joined)


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
