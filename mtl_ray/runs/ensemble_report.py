"""The part of a training's report about an ensemble: its members, and whether its uncertainty can be believed."""

from collections.abc import Iterator, Mapping, Sequence

from mtl_ray.evaluation.spread import SpreadCheck
from mtl_ray.reporting.html import HtmlReport
from mtl_ray.runs.records import TrainedMember
from mtl_ray.schema import SEGMENTS

EXPLAINED = (
    "Spread is the standard deviation of a prediction over the members, a probability's for a task of yes or no; here "
    "its mean over the test rows. It says how much the training alone leaves open, so it should be larger where the "
    "error is. The error is the root mean squared one; for a task of yes or no it is the root of the Brier score."
)


def add_ensemble(report: HtmlReport, members: Sequence[TrainedMember], checks: Mapping[str, SpreadCheck]) -> None:
    """Add the members, and the spread of their predictions beside the error by task and segment.

    Args:
        report: the report.
        members: the members, in order.
        checks: see `Evaluation.spread`.
    """
    report.heading("Members of the ensemble")
    report.text(f"Each prediction is the mean over {len(members)} members, trained from different seeds.")
    report.table(
        ["member", "seed", "kept epoch", "trained epochs"],
        [[str(n), str(each.seed), str(each.kept), str(each.epochs)] for n, each in enumerate(members, 1)],
    )
    if not checks:
        return
    with_interval = any(check.inside is not None for check in checks.values())
    report.text(f"{EXPLAINED} {_about_intervals(with_interval)}")
    header = ["task", "segment", "test rows", "mean spread", "error"]
    report.table([*header, "labels inside 90%"] if with_interval else header, _rows(checks, with_interval))


def _about_intervals(with_interval: bool) -> str:
    if with_interval:
        return (
            "The last column is the share of the labels within prediction +- 1.645 sqrt(spread^2 + noise^2), where the "
            "noise is the error on validation rows: 90% of them, if the uncertainty is right."
        )
    return "There is no interval to check, since no task is a number or there are no validation rows for its noise."


def _rows(checks: Mapping[str, SpreadCheck], with_interval: bool) -> Iterator[list[str]]:
    for task in dict.fromkeys(key.partition("/")[0] for key in checks):
        for segment in SEGMENTS:
            check = checks.get(task if segment == "all" else f"{task}/{segment}")
            if check is None:
                continue
            row = [task, segment.replace("_", " "), f"{check.rows:,}", f"{check.spread:z.4f}", f"{check.error:z.4f}"]
            inside = "-" if check.inside is None else f"{100 * check.inside:.1f}%"
            yield [*row, inside] if with_interval else row
