"""Train as the driver does: prepare the data, run Ray Train, evaluate the best checkpoint, register the model."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from mtl_ray.balancing.guarded import describe_guard, guard_factors
from mtl_ray.cluster.session import connect
from mtl_ray.cluster.storage_check import check_storage
from mtl_ray.config import Experiment, override
from mtl_ray.config.custom import classes_of
from mtl_ray.data.dataset import Prepared, open_prepared
from mtl_ray.data.preparation.findings import findings
from mtl_ray.data.prepare import prepare
from mtl_ray.inference.drift import write_reference
from mtl_ray.inference.evaluate import Evaluation, evaluate_checkpoint
from mtl_ray.models.complexity import complexity_of
from mtl_ray.reporting.results import Shown
from mtl_ray.runs.callbacks import EpochLogger
from mtl_ray.runs.choose_epochs import on_holdout
from mtl_ray.runs.earlier_models import stage_models
from mtl_ray.runs.fit import best_checkpoint, child_run, fit, local_folder
from mtl_ray.runs.lifecycle import finish_on_exit, new_name, resume_command
from mtl_ray.runs.members import train_members
from mtl_ray.runs.recovery import delete_orphan_checkpoints, restore_manifest, wait_until_idle
from mtl_ray.runs.report import write_report
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.scoring.scorer import Scorer
from mtl_ray.tracking.registry import example_of, register, signature_of
from mtl_ray.tracking.tracked_run import Run
from mtl_ray.training.kept_epoch import chooses_epochs, describe_kept, for_epochs, kept_epoch, stopping_metric
from mtl_ray.training.recipe import completed

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Trained(Shown):
    """A finished training run.

    Example:
        >>> trained.to_frame().query("segment == 'all' and metric == 'auc'").task.tolist()
        ['click']
    """

    name: str
    folder: RunFolder
    run_id: str | None
    """MLflow run; None if MLflow did not answer."""
    model_uri: str | None
    """URI of the model in MLflow, for `load_model`; None if MLflow did not answer."""
    checkpoint: Path
    prepared: Prepared
    evaluation: Evaluation
    """Metrics of the test rows."""

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the test rows: `test/task/metric[/segment]`."""
        return self.evaluation.metrics

    def to_frame(self) -> "pd.DataFrame":
        """Return `metrics` as a tidy frame: split, task, metric, segment, value, rows."""
        return self.evaluation.to_frame()

    def table(self) -> Table:
        """Return the metrics of the test rows by segment as a table."""
        return self.evaluation.table(self.name, self.prepared.schema.noise_floor)

    def lines(self) -> Iterator[str]:
        """Yield where the run, the model and the report are."""
        yield f"MLflow run: {self.run_id}"
        yield f"model: {self.model_uri or self.checkpoint}"
        yield f"report: {self.folder}/report.html"


def train(
    experiment: Experiment,
    *,
    interactions: Any = None,
    users: Any = None,
    items: Any = None,
    resume: str | None = None,
    profile: bool = False,
    parent: str | None = None,
    echo: Callable[[str], None] = print,
) -> Trained:
    """Train, evaluate the best checkpoint on the test rows, register the model and log it all.

    Args:
        experiment: what to train.
        interactions: for `data.source: memory`, the log as a frame, see `prepare`.
        users: for `memory`, the table of users, if there is one.
        items: for `memory`, the table of items, if there is one.
        resume: name of an unfinished run of the same experiment, which continues from its last checkpoint.
        profile: write a trace of some steps of rank 0, by PyTorch's profiler, into the run's folder.
        parent: MLflow run that becomes the parent of this one.
        echo: receives lines of text for the user.

    Raises:
        InputError: bad data, or `resume` names no run of this experiment.

    Example:
        >>> trained = train(shop, interactions=log, users=users, items=items)  # doctest: +SKIP
        >>> trained.metrics["test/click/auc"]
        0...
    """
    name = resume or new_name(experiment)
    folder = RunFolder.of(experiment, name)
    make = partial(prepare, interactions=interactions, users=users, items=items, echo=echo)
    training = _Training(experiment, folder, make, echo, resume_command("train", experiment, name), profile)
    if resume:
        return training.resume()
    stage_models(experiment, folder)  # report a mistake before the work of `prepare`
    connect()
    check_storage(experiment)
    prepared = make(experiment)
    for line in findings(prepared.quality):
        echo(f"data: {line}")
    training = replace(training, experiment=completed(experiment, prepared.schema))
    return training.begin(prepared, Run.start(training.experiment, name, folder.create(), parent))


def train_once(
    name: str, experiment: Experiment, prepared: Prepared, echo: Callable[[str], None], resume_command: str
) -> Trained:
    """Train on a prepared data set, or continue the run of that name if it has begun.

    However often it is killed and repeated, there is one MLflow run and one model version.

    Args:
        name: name of the run, which identifies experiment and data set.
        experiment: what to train.
        prepared: its data set.
        echo: receives lines of text for the user.
        resume_command: the command that continues.

    Raises:
        InputError: the run of that name belongs to another experiment.
        ConnectionError: MLflow does not answer.
    """
    folder = RunFolder.of(experiment, name)
    make = partial(prepare, echo=echo)
    training = _Training(completed(experiment, prepared.schema), folder, make, echo, resume_command)
    if folder.has_record:
        return training.resume()
    stage_models(experiment, folder)
    run = Run.start(experiment, name, folder.create(), known=True)
    if run.run_id is None:
        raise ConnectionError(f"run {name} could not be created in MLflow; continue with: {resume_command}")
    return training.begin(prepared, run)


@dataclass(frozen=True)
class _Training:
    """One training, from its beginning or from where it stopped."""

    experiment: Experiment
    folder: RunFolder
    prepare: Callable[[Experiment], Prepared]
    echo: Callable[[str], None]
    resume_command: str
    profile: bool = False

    def begin(self, prepared: Prepared, run: Run) -> Trained:
        self._started(prepared, run)
        self.echo(f"run {self.folder.name}; if it is interrupted, continue with: {self.resume_command}")
        return self._finish(prepared, run)

    def _started(self, prepared: Prepared, run: Run) -> Run:
        """Log the settings of the run, and record what is needed to resume it."""
        run.log_experiment(self.experiment, prepared)
        run.log_metrics(complexity_of(self.experiment, prepared.schema).to_dict(), 0)
        self.folder.write_record("train", self.experiment, run, prepared.folder.location)
        return run

    def resume(self) -> Trained:
        """Continue with the experiment, MLflow run and data set of the record.

        The given experiment is equal to the recorded one, but may have its features and tasks in another order, which
        is the order of the model's parameters and so of the optimizer's state.
        """
        folder, given = self.folder, self.experiment
        if folder.has_record and (dataset := folder.read_record().dataset):
            given = completed(given, open_prepared(dataset).schema)
        record = folder.record_to_resume("train", given)
        own = replace(self, experiment=record.parse_experiment(classes_of(given)))
        self.echo(f"resuming run {folder.name}")
        connect()
        check_storage(own.experiment)
        wait_until_idle(folder)
        restore_manifest(folder)
        delete_orphan_checkpoints(folder)
        prepared, run = open_prepared(str(record.dataset)), record.tracked_run(folder)
        if run.run_id is None:  # MLflow did not answer when the run began
            run = own._started(prepared, Run.start(own.experiment, folder.name, folder, known=True))
        EpochLogger(own.experiment, run, folder, bars=True).log_lost()
        return own._finish(prepared, run)

    def _finish(self, prepared: Prepared, run: Run) -> Trained:
        folder = self.folder
        with finish_on_exit(run, self.echo, self.resume_command):
            experiment = self.experiment
            if chooses_epochs(experiment):
                epochs = self._choose_epochs(prepared, run)
                experiment = for_epochs(experiment, epochs, folder.read_factors())
                self.echo(f"training on all rows for {experiment.training.last_epoch} epochs")
            with run.system_metrics():
                checkpoint = self._checkpoint(experiment, prepared, run)
            if self.profile:
                self.echo(f"trace of some steps: {folder.trace}, for https://ui.perfetto.dev or chrome://tracing")
            evaluation = evaluate_checkpoint(checkpoint, prepared, "test", trust=True)
            run.log_metrics(evaluation.metrics, experiment.training.epochs)
            write_reference(checkpoint, prepared, trust=True)
            scorer = Scorer(checkpoint, trust=True)
            signature, example = signature_of(scorer), example_of(scorer, prepared)
            model_uri = register(experiment, run, checkpoint, prepared, signature, example, evaluation.metrics)
            folder.write_evaluation(evaluation, model_uri)
            write_report(folder, run)
        return Trained(folder.name, folder, run.run_id, model_uri, checkpoint, prepared, evaluation)

    def _checkpoint(self, experiment: Experiment, prepared: Prepared, run: Run) -> Path:
        """Train, and return the folder of the checkpoint that is kept."""
        folder, trace = self.folder, self.folder.location if self.profile else None
        if experiment.training.ensemble > 1:
            return train_members(experiment, prepared, folder, run, self.echo, self.resume_command, trace)
        best = best_checkpoint(fit(experiment, prepared, folder, run, trace=trace))
        history = folder.read_history()
        kept = kept_epoch(history, stopping_metric(experiment, prepared.schema))
        self.echo(f"kept: epoch {kept} of {max(history)}; {describe_kept(experiment, prepared.schema)}")
        self._tell_guard(history[kept])
        return local_folder(best)

    def _tell_guard(self, metrics: Mapping[str, float]) -> None:
        """Print which auxiliary tasks were found to help or harm the main one, from the metrics of an epoch."""
        for line in describe_guard(metrics, self.experiment.main_task):
            self.echo(f"guard: {line}")

    def _choose_epochs(self, prepared: Prepared, run: Run) -> int:
        """Train on a part of the training rows, and return the epoch that is best on the others.

        Until it is over, this training has a folder within that of the run. It stays as a child run in MLflow.
        """
        if (chosen := self.folder.read_epochs()) is not None:
            return chosen
        experiment = override(on_holdout(self.experiment, prepared), {"training.output": self.folder.location})
        held_out = self.prepare(experiment)
        rows = held_out.schema.num_rows
        self.echo(f"choosing the number of epochs on {rows['valid']:,} of {prepared.schema.num_rows['train']:,} rows")
        folder = RunFolder.of(experiment, "holdout")
        with child_run(experiment, f"{self.folder.name}-holdout", folder, run, self.resume_command) as child:
            fit(experiment, held_out, folder, child)
        history = folder.read_history()
        chosen = kept_epoch(history, stopping_metric(experiment, held_out.schema))
        self._tell_guard(history[chosen])
        run.adopt_lost(folder, "holdout")
        self.folder.write_epochs(chosen, guard_factors(history[chosen]))
        folder.delete()
        return chosen
