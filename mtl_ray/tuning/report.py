"""The report of a search: its result, the trade-off, the important parameters, learning curves and all trials."""

from collections.abc import Iterator

from mtl_ray.config import Experiment
from mtl_ray.reporting.html import HtmlReport
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.tracking.tracked_run import Run
from mtl_ray.tuning.ensemble import Joined
from mtl_ray.tuning.figures import importance_bars, parallel_coordinates, schedule_curves, trade_off, trial_curves
from mtl_ray.tuning.importance import importance_of
from mtl_ray.tuning.results import INCUMBENT, Tuning, read_references
from mtl_ray.tuning.space import tune_of
from mtl_ray.tuning.trial_store import read_trials


def tuning_report(tuning: Tuning, joined: Joined | None = None) -> HtmlReport:
    """Return the report of a finished search.

    Args:
        tuning: its trials.
        joined: the ensemble of them, if there is one.
    """
    settings = tune_of(tuning.experiment)
    report = HtmlReport(f"{tuning.experiment.name}: search")
    for line in summary(tuning):
        report.text(line)
    for line in joined.lines() if joined else ():
        report.text(line)
    if len(tuning.objectives) > 1:
        report.heading("Trade-off")
        report.figure(
            trade_off(tuning), "Objectives of each trial on the validation rows, and the Pareto front.", "pareto"
        )
    if any(trial.best_metrics and not trial.failure for trial in tuning.trials):
        report.heading("What the trials were")
        caption = "A line a trial, darker where the first objective is better; the suggested one is red. Weights of a "
        report.figure(
            parallel_coordinates(tuning),
            f"{caption}simplex are drawn before they are made to sum to one. A gap: the trial lacks the parameter.",
            "parallel_coordinates",
        )
    if importance := importance_of(tuning):
        report.heading("What mattered")
        caption = "Importance for the first objective by functional analysis of variance (Hutter et al. 2014), of the "
        report.figure(importance_bars(importance), f"{caption}parameters that all these trials have.", "importance")
    if settings.algorithm.is_population:
        report.heading("Schedules")
        report.figure(
            schedule_curves(tuning),
            "What the population changed during training; best.yaml has the red one.",
            "schedules",
        )
    report.heading("Learning curves")
    report.figure(trial_curves(tuning), "Objectives by epoch; grey trials were stopped early.", "trials")
    report.heading("All trials")
    report.table(tuning.header(), tuning.rows())
    return report


def summary(tuning: Tuning) -> Iterator[str]:
    """Yield what was searched, what is suggested, and how that compares with the file as it stands."""
    settings, best = tune_of(tuning.experiment), tuning.best
    yield f"Searched by {settings.algorithm.kind}, scheduler {settings.scheduler.kind}: {tuning.progress()}."
    for key, limit, least in tuning.limits:
        yield f"Constraint: {key} {'at least' if least else 'at most'} {limit:z.4f}."
    if best is None:
        yield "No trial trained to its end within the constraints, so none is suggested."
        return
    incumbent = tuning.references.get(INCUMBENT, {})
    told = []
    for key in tuning.objectives:
        before = f" (the file as it stands: {incumbent[key]:z.4f})" if key in incumbent else ""
        told.append(f"{key} {best.best_metrics[key]:z.4f}{before}")
    knee = ", the knee of the Pareto front" if len(tuning.objectives) > 1 else ""
    name = "the file as it stands, since no trial is better" if tuning.keeps_file else best.name
    yield f"Suggested: {name}{knee}, with {'; '.join(told)}. These are the rows that it was chosen on."
    gain = tuning.delta_m(best.best_metrics)
    if gain is not None:
        alone = "training each objective's task alone (Maninis et al. 2019)"
        yield f"Delta-m, the mean gain over {alone}: {100 * gain:+z.2f} %."


def write_report(experiment: Experiment, folder: RunFolder, run: Run) -> None:
    """Write `report.html` and its pictures into the folder of a finished search, and log them."""
    tuning = Tuning(experiment, read_trials(folder), read_references(experiment, folder))
    joined = Joined(**folder.read_joined()) if folder.has_joined else None
    folder.keep_report(tuning_report(tuning, joined), run)
