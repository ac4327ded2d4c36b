"""Tables for the terminal: metrics by segment, and the recommended items of a user."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.table import Table

from mtl_ray.config import Experiment
from mtl_ray.inference.evaluate import Evaluation
from mtl_ray.schema import SEGMENTS, Schema


def rows(experiment: Experiment, evaluation: Evaluation, schema: Schema, split: str = "test") -> Iterator[list[str]]:
    """Yield a row per task and metric: values by segment, the constant prediction's, and the noise floor."""
    for task in experiment.tasks:
        prefix = f"{split}/{task}/"
        names = [k.removeprefix(prefix) for k in evaluation.metrics if k.startswith(prefix)]
        for metric in ["count", *(n for n in names if "/" not in n and n not in ("count", "loss"))]:
            values = [evaluation.metrics.get(prefix + (metric if c == "all" else f"{metric}/{c}")) for c in SEGMENTS]
            if metric == "count":
                yield [task, "rows", *("-" if v is None else f"{int(v):,}" for v in values), "", ""]
                continue
            constant = evaluation.constant.get(prefix + metric)
            floor = schema.noise_floor.get(f"{task}/{metric}")
            yield [task, metric, *("-" if v is None else f"{v:.4f}" for v in (*values, constant, floor))]


def header() -> list[str]:
    """Return the column titles of `rows`."""
    return ["task", "metric", *SEGMENTS, "constant", "noise floor"]


def table(experiment: Experiment, evaluation: Evaluation, schema: Schema, split: str = "test") -> Table:
    """Return the metrics as a table for the terminal."""
    result = Table(title=f"{experiment.name}: {split} rows, by segment")
    for place, title in enumerate(header()):
        result.add_column(title, justify="left" if place < 2 else "right")
    for row in rows(experiment, evaluation, schema, split):
        result.add_row(*row)
    return result


def item_table(items: Sequence[Mapping[str, Any]], task: str) -> Table:
    """Return recommended items as a table for the terminal, with the columns of the first one."""
    result = Table(title=f"by {task}")
    for title in items[0] if items else ():
        result.add_column(title, justify="left" if title == "name" else "right")
    for item in items:
        result.add_row(*(f"{v:.4f}" if isinstance(v, float) else "-" if v is None else str(v) for v in item.values()))
    return result
