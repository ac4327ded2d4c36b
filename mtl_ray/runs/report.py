"""The report of a training: its result in a sentence, then what that rests on."""

from collections.abc import Iterator, Mapping, Sequence

from mtl_ray.balancing.guarded import describe_guard
from mtl_ray.config import Experiment
from mtl_ray.config.tasks import first_metric, is_higher_better, metric_names
from mtl_ray.data.dataset import Prepared, open_prepared
from mtl_ray.data.preparation.findings import findings
from mtl_ray.errors import InputError
from mtl_ray.evaluation.baselines import BASELINES
from mtl_ray.evaluation.metrics import metric_of
from mtl_ray.inference.evaluate import Evaluation
from mtl_ray.reporting.html import HtmlReport
from mtl_ray.runs.balancing_figures import balance_plot, conflict_map, expert_map
from mtl_ray.runs.ensemble_report import add_ensemble
from mtl_ray.runs.figures import calibration_plot, learning_curves, segment_bars
from mtl_ray.runs.records import TrainedMember
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.schema import SEGMENTS, segment_key
from mtl_ray.tracking.tracked_run import Run
from mtl_ray.training.kept_epoch import describe_kept, kept_epoch, stopping_metric

WHO = {
    "warm": "known users and items",
    "new_user": "new users",
    "new_item": "new items",
    "new_both": "new users with new items",
}


def train_report(
    experiment: Experiment,
    evaluation: Evaluation,
    prepared: Prepared,
    history: Mapping[int, Mapping[str, float]],
    facts: Mapping[str, str],
    members: Sequence[TrainedMember] = (),
) -> HtmlReport:
    """Return the report of a finished training.

    Args:
        experiment: the experiment of the run.
        evaluation: the metrics of its test rows.
        prepared: its data set.
        history: metrics by epoch, of an ensemble those of its first member.
        facts: names and locations of the run, its model and its data set.
        members: members of the ensemble; none for a single model.
    """
    report = HtmlReport(experiment.name)
    report.text(summary(experiment, evaluation))
    report.table(["task", "metric", *WHO.values()], _first_metrics(experiment, evaluation))
    report.heading("By segment")
    report.figure(
        segment_bars(experiment, evaluation),
        "Each task's first metric on the test rows. Lines are 95% intervals over users (delete-a-group jackknife, one "
        "training): where a second training would land is not in them. Marks beside the bars are predictions without "
        "a model.",
        "segments",
    )
    _trained(report, experiment, prepared, facts)
    report.heading("Learning curves")
    kept = kept_epoch(history, stopping_metric(experiment, prepared.schema))
    report.figure(
        learning_curves(history, list(experiment.tasks), kept),
        f"Loss of each task by epoch{' of the first member' if members else ''}. Epoch {kept} is in the model: "
        f"{describe_kept(experiment, prepared.schema)}.",
        "learning_curves",
    )
    if members:
        add_ensemble(report, members, evaluation.spread)
    if figure := calibration_plot(evaluation):
        report.heading("Calibration")
        report.figure(
            figure,
            "Test rows in groups of equal size by their prediction: mean label (with two standard errors) against mean "
            "prediction. On the dashed line predictions can be taken at their word.",
            "calibration",
        )
    _balance(report, experiment, history, kept)
    report.heading("All metrics of the test rows")
    report.text(
        "Predictions without a model: the mean training label (constant), the shrunken mean of the item's or the "
        "user's training labels, the number of the item's training interactions (popularity). The noise floor is the "
        "best value that any model can reach, known for generated data alone."
    )
    report.text(_glossary(experiment))
    header = ["task", "metric", "prediction", *SEGMENTS]
    report.table(header, _test_rows(experiment, evaluation, prepared.schema.noise_floor))
    return report


def _glossary(experiment: Experiment) -> str:
    """Return what the reported metrics are, in a sentence."""
    names = dict.fromkeys(name for task in experiment.tasks.values() for name in metric_names(task))
    known = ((name, metric_of(name)) for name in names)
    return f"{'; '.join(f'{name}: {metric.text}' for name, metric in known if metric)}."


def summary(experiment: Experiment, evaluation: Evaluation) -> str:
    """Return a sentence: on how many tasks the model beats the baselines, for known and new users and items."""
    parts = []
    for segment, who in WHO.items():
        words = [
            word
            for key in _first_keys(experiment, evaluation, segment)
            if (word := against_baselines(evaluation, key)[0])
        ]
        if words:
            worse = words.count("worse")
            parts.append(
                f"for {who} on {words.count('better')} of {len(words)} tasks{f' (worse on {worse})' if worse else ''}"
            )
    if not parts:
        return "There is no test row on which the model could be compared with predictions without a model."
    return f"Better than every prediction without a model: {', '.join(parts)}."


def against_baselines(evaluation: Evaluation, key: str) -> tuple[str, str]:
    """Compare a metric of the model with the best prediction without a model.

    A difference is clear if the value of that prediction lies outside of the model's interval.

    Returns:
        `better`, `worse` or `no clear difference`, and that prediction with its value; both empty without any.
    """
    references = {name: values[key] for name, values in evaluation.baselines.items() if key in values}
    if not references:
        return "", ""
    sign = 1 if is_higher_better(key) else -1
    best = max(references, key=lambda name: sign * references[name])
    beside = f"{references[best]:z.3f} by {best.replace('_', ' ')}"
    low, high = evaluation.intervals.get(key, (float("-inf"), float("inf")))
    if low <= references[best] <= high:
        return "no clear difference", beside
    return "better" if sign * (evaluation.metrics[key] - references[best]) > 0 else "worse", beside


def _first_keys(experiment: Experiment, evaluation: Evaluation, segment: str) -> Iterator[str]:
    """Yield the key of each task's first metric, if it is defined in the segment."""
    for task, spec in experiment.tasks.items():
        key = segment_key("test", task, first_metric(spec), segment)
        if key in evaluation.metrics:
            yield key


def _first_metrics(experiment: Experiment, evaluation: Evaluation) -> Iterator[list[str]]:
    """Yield a row per task: its first metric beside the best prediction without a model, by segment."""
    for task, spec in experiment.tasks.items():
        metric, cells = first_metric(spec), []
        for segment in WHO:
            key = segment_key("test", task, metric, segment)
            if key not in evaluation.metrics:
                cells.append("-")
                continue
            word, beside = against_baselines(evaluation, key)
            value = f"{evaluation.metrics[key]:z.3f}"
            cells.append(f"{word}: {value} against {beside}" if word else f"{value}, nothing to compare with")
        yield [
            task,
            f"{metric}, {'higher' if is_higher_better(f'test/{task}/{metric}') else 'lower'} is better",
            *cells,
        ]


def _trained(report: HtmlReport, experiment: Experiment, prepared: Prepared, facts: Mapping[str, str]) -> None:
    schema, quality = prepared.schema, prepared.quality
    report.heading("What was trained on what")
    rows, reasons = schema.num_rows, quality["reasons"]
    bad = f", {quality['bad']:,} left out ({', '.join(f'{n:,} {r}' for r, n in reasons.items())})" if reasons else ""
    made = f", made of {quality['events']['rows']:,} events" if "events" in quality else ""
    report.text(
        f"{quality['rows']:,} interactions{made}{bad}: {rows['train']:,} to train on, {rows['valid']:,} to watch the "
        f"training, {rows['test']:,} to test; split: {experiment.data.split.kind}. The model is "
        f"{experiment.model.kind}, its tasks weighted by {experiment.balancing.kind}, seed {experiment.seed}."
    )
    if found := findings(quality):
        report.text(f"Found in the data: {'; '.join(found)}.")
    report.text(f"Inputs: {', '.join(f'{name} ({feature.kind})' for name, feature in experiment.features.items())}.")
    weights = experiment.weights()
    report.table(
        ["task", "kind", "training labels", "test labels", "mean training label", "declared weight"],
        [
            [
                name,
                task.kind,
                *(f"{schema.tasks[name].num_labels.get(split, 0):,}" for split in ("train", "test")),
                f"{schema.tasks[name].mean:.4g}" if task.predicts_number else "-",
                f"{weights[name]:.4g}",
            ]
            for name, task in experiment.tasks.items()
        ],
    )
    report.table(["", "where"], [[what, where] for what, where in facts.items()])


def _balance(report: HtmlReport, experiment: Experiment, history: Mapping[int, Mapping[str, float]], kept: int) -> None:
    lines, conflicts, experts = balance_plot(history), conflict_map(history), expert_map(history)
    guarded = describe_guard(history[kept], experiment.main_task)
    if lines or guarded:
        report.heading("How the tasks shared the training")
    for line in guarded:
        report.text(f"{line}.")
    if lines:
        report.figure(lines, "Means over the looked-at steps of each epoch.", "balance")
    if conflicts:
        report.figure(
            conflicts,
            "Last epoch: below 0 (red), a step that helps one task hurts the other.",
            "conflicts",
        )
    if experts:
        report.figure(experts, "Last epoch: how each gate of the model mixes its experts.", "experts")


def _test_rows(experiment: Experiment, evaluation: Evaluation, floors: Mapping[str, float]) -> Iterator[list[str]]:
    """Yield a row per task and metric with the model's values by segment, and one per prediction without a model."""

    def cells(values: Mapping[str, float], task: str, metric: str, form: str = ".4f") -> list[str]:
        found = (values.get(segment_key("test", task, metric, s)) for s in SEGMENTS)
        return ["-" if v is None else format(v, form) for v in found]

    for task, spec in experiment.tasks.items():
        yield [task, "rows", "", *cells(evaluation.metrics, task, "count", ",.0f")]
        for metric in metric_names(spec):
            yield [task, metric, "model", *cells(evaluation.metrics, task, metric)]
            for name in BASELINES:
                values = cells(evaluation.baselines[name], task, metric)
                if any(value != "-" for value in values):
                    yield ["", "", name.replace("_", " "), *values]
            floor = floors.get(f"{task}/{metric}")
            if floor is not None:
                yield ["", "", "noise floor", f"{floor:z.4f}", *["-"] * (len(SEGMENTS) - 1)]


def write_report(folder: RunFolder, run: Run) -> None:
    """Write `report.html` and its pictures into the folder of a finished training, and log them.

    Raises:
        InputError: the training has not finished.
    """
    if not folder.has_evaluation:
        raise InputError(f"{folder}: the run did not end, so there is nothing to report; resume it with --resume")
    record = folder.read_record()
    evaluation, model_uri = folder.read_evaluation()
    prepared = open_prepared(str(record.dataset))
    facts = {
        "run": folder.location,
        "MLflow run": record.run_id or "none",
        "model": model_uri or "none",
        "data set": prepared.folder.location,
        "content of the data set": prepared.schema.content_hash,
    }
    history, members = folder.read_history(), folder.read_members()
    report = train_report(record.parse_experiment(), evaluation, prepared, history, facts, members)
    folder.keep_report(report, run)
