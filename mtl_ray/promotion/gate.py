"""The gate of promotion: compare a candidate with the champion on the same rows, by a paired bootstrap over users.

The candidate must be better at the target: the lower bound of its improvement is above 0. At every guard it must not
be worse by more than a margin: the lower bound is above minus the margin (a test of non-inferiority). All must hold at
once, so the tests need no correction for their number (intersection-union test, Berger 1982).
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from mtl_ray.config import Experiment
from mtl_ray.config.promotion import PromotionConfig
from mtl_ray.config.tasks import first_metric, is_higher_better
from mtl_ray.counter_rng import uniform_keys
from mtl_ray.errors import InputError
from mtl_ray.evaluation.metrics import metric_of
from mtl_ray.evaluation.segments import compute, segment_masks
from mtl_ray.evaluation.significance import bootstrap_bounds
from mtl_ray.promotion.findings import Finding, GateResult, Requirement
from mtl_ray.schema import ITEM_SUPPORT, USER_SUPPORT, segments
from mtl_ray.scoring.scorer import Scorer, not_finite
from mtl_ray.values.columns import raw_values
from mtl_ray.values.keys import hash_keys, to_keys

Metric = Callable[[Tensor, Tensor], float]
"""Takes positions of rows (m,) and their users (m,); returns the metric of these rows, NaN if it is undefined."""


def requirements(experiment: Experiment) -> list[Requirement]:
    """Return the target, then the guards on all rows and in each guarded segment."""
    gate = experiment.promotion
    first = {name: first_metric(task) for name, task in experiment.tasks.items()}
    defaults = {f"{name}/{metric}": gate.margin for name, metric in first.items()}
    target = gate.metric or next(iter(defaults))
    task, metric, segment = (*target.split("/"), "")[:3]
    result = [Requirement(task, metric, segment, None)]
    for key, margin in {**({} if gate.guards else defaults), **gate.guards}.items():
        task, _, metric = key.partition("/")
        result += [Requirement(task, metric, name, margin) for name in ("", *gate.segments)]
    return [r for r in result if r.margin is None or str(r) != target]


@dataclass(frozen=True)
class _Side:
    """The predictions and labels of one model; both models have the rows in the same order."""

    experiment: Experiment
    predictions: Mapping[str, Tensor]
    labels: Mapping[str, Tensor]
    labelled: Mapping[str, Tensor]
    """(n,) bool by task."""
    broken: Mapping[str, Tensor]
    """(n,) bool by each task of the model: rows whose prediction is not finite."""

    def metric(self, requirement: Requirement, inside: Tensor) -> Metric:
        """Return the metric on the rows of a mask (n,)."""
        name, task = requirement.task, self.experiment.tasks[requirement.task]
        prediction, label = self.predictions[name][inside], self.labels[name][inside]

        def metric(rows: Tensor, users: Tensor) -> float:
            value = compute(requirement.metric, task, prediction[rows], label[rows], users)
            return math.nan if value is None else value

        return metric


def run_gate(candidate: Scorer, champion: Scorer, tables: Iterable[pa.Table], num_rows: int) -> GateResult:
    """Compare two models on raw rows with labels.

    Segments are those of the candidate's training rows.

    Args:
        candidate: the candidate, whose experiment has the requirements.
        champion: the present champion.
        tables: the rows, with their label columns.
        num_rows: about how many rows there are; of more than `promotion.max_rows`, only rows of randomly drawn users
            are compared.

    Raises:
        InputError: a column that the gate needs is missing or unreadable, or the target has no labelled row.
    """
    experiment, gate = candidate.experiment, candidate.experiment.promotion
    wanted = requirements(experiment)
    shared = [name for name in dict.fromkeys(r.task for r in wanted) if name in champion.experiment.tasks]
    sides, users, supports = _scored((candidate, champion), shared, tables, gate.max_rows / num_rows)
    masks = segment_masks(
        supports[USER_SUPPORT], supports[ITEM_SUPPORT], segments(experiment.evaluation.support_buckets)
    )
    broken, broken_before = ({t: int(rows.sum()) for t, rows in s.broken.items() if rows.any()} for s in sides)
    findings, missing = [], []
    for requirement in wanted:
        if requirement.task in broken:  # which alone refuses the candidate
            continue
        if requirement.task in broken_before:
            rows = broken_before[requirement.task]
            missing.append(f"{requirement}: the champion's prediction is not finite on {rows:,} rows")
            continue
        if requirement.task not in shared:
            missing.append(f"{requirement}: the champion has no task `{requirement.task}`")
            continue
        inside = sides[0].labelled[requirement.task] & sides[1].labelled[requirement.task]
        if requirement.segment:
            inside = inside & masks[requirement.segment]
        ours, theirs = (side.metric(requirement, inside) for side in sides)
        found = check_requirement(gate, requirement, ours, theirs, users[inside]) if inside.any() else None
        if found is None:
            missing.append(f"{requirement}: not defined on {int(inside.sum()):,} labelled rows")
        else:
            findings.append(found)
    if not broken and (not findings or findings[0].requirement.margin is not None):
        raise InputError(f"promotion.metric: the target cannot be compared; {missing[0]}; give other rows with --input")
    lost = [name for name in champion.experiment.tasks if name not in experiment.tasks]
    return GateResult(findings, len(users), len(torch.unique(users)), missing, lost, broken)


def _users(experiment: Experiment, table: pa.Table) -> np.ndarray:
    return hash_keys(to_keys(raw_values(table, experiment.column_of(experiment.user)))).view(np.int64)


def _scored(
    models: tuple[Scorer, Scorer], tasks: list[str], tables: Iterable[pa.Table], share: float
) -> tuple[list[_Side], Tensor, dict[str, Tensor]]:
    """Return each model's rows, (n,) user keys, and (n,) numbers of training interactions by the first model."""
    first, parts, users, supports = models[0], ([], []), [], []
    for whole in tables:
        drawn = uniform_keys(_users(first.experiment, whole), 0) < share
        if not drawn.any():
            continue
        table = whole.filter(pa.array(drawn))
        for scorer, own in zip(models, parts, strict=True):
            own.append(_score(scorer, tasks, table))
        users.append(_users(first.experiment, table))
        inputs = first.inputs(table, [first.experiment.user, first.experiment.item])
        supports.append({name: inputs[name] for name in (USER_SUPPORT, ITEM_SUPPORT)})
    if not users:
        raise InputError("promotion.max_rows: no user was drawn of so few rows; set it higher")
    sides = [_Side(m.experiment, *map(_joined, zip(*own, strict=True))) for m, own in zip(models, parts, strict=True)]
    return sides, torch.from_numpy(np.concatenate(users)), _joined(supports)


def _joined(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _score(scorer: Scorer, tasks: list[str], table: pa.Table) -> tuple[dict[str, Tensor], ...]:
    """Return predictions, labels, whether rows have a label, and whether predictions are not finite, by task."""
    experiment = scorer.experiment
    for task in tasks:
        for name in (experiment.tasks[task].column or task, *(experiment.tasks[task].where or {})):
            if name not in table.column_names:
                raise InputError(f"rows to compare on: expected a column `{name}` for tasks.{task}, found none")
    try:
        scores = scorer.score(table)
        labels = {task: torch.from_numpy(scorer.encoder.label(task, table)) for task in tasks}
    except (ValueError, pa.ArrowException) as error:
        raise InputError(f"rows to compare on: {' '.join(str(error).split())}") from None
    predictions = {task: torch.from_numpy(scores[task]) for task in tasks}
    labelled = {task: scorer.model.tasks[task].labelled(label) for task, label in labels.items()}
    return predictions, labels, labelled, {task: torch.from_numpy(bad) for task, bad in not_finite(scores).items()}


def check_requirement(
    gate: PromotionConfig, requirement: Requirement, ours: Metric, theirs: Metric, users: Tensor
) -> Finding | None:
    """Return the finding on (m,) rows, or None if the champion's metric is not defined on them.

    A candidate whose metric is not finite where the champion's is defined is refused.

    Args:
        gate: has level and number of draws.
        requirement: the requirement.
        ours: the candidate's metric.
        theirs: the champion's metric.
        users: (m,) keys of the rows' users.
    """
    keys, user = torch.unique(users, return_inverse=True)
    candidate, champion = (metric(torch.arange(len(user)), user) for metric in (ours, theirs))
    if math.isnan(champion):
        return None
    sign = 1 if is_higher_better(f"test/{requirement}") else -1
    margin = requirement.margin
    needed = 0.0 if margin is None else -margin * abs(champion)
    if not math.isfinite(candidate):
        nan = math.nan
        return Finding(requirement, len(user), len(keys), champion, candidate, nan, nan, nan, needed, decides=True)
    low, high = bootstrap_bounds(_improvement(requirement, ours, theirs, user, sign), len(keys), gate.draws, gate.level)
    decides = margin is None or not requirement.segment or len(keys) >= gate.min_users
    improvement = sign * (candidate - champion)
    return Finding(requirement, len(user), len(keys), champion, candidate, improvement, low, high, needed, decides)


def is_mean_over_users(name: str) -> bool:
    """Return whether a metric is a mean of one value per user, which a resample need not compute again."""
    metric = metric_of(name)
    return metric is not None and metric.is_mean_over_users


def _improvement(
    requirement: Requirement, ours: Metric, theirs: Metric, user: Tensor, sign: int
) -> Callable[[np.ndarray], float]:
    """Return a function of drawn users: the improvement on their rows. A user drawn twice counts as two users."""
    sizes = torch.bincount(user)
    starts = sizes.cumsum(0) - sizes
    order = torch.argsort(user, stable=True)

    def rows_of(drawn: Tensor) -> tuple[Tensor, Tensor]:
        copies = torch.repeat_interleave(torch.arange(len(drawn)), sizes[drawn])
        ends = sizes[drawn].cumsum(0)
        return order[torch.arange(len(copies)) - (ends - sizes[drawn] - starts[drawn])[copies]], copies

    if is_mean_over_users(requirement.metric):
        alone = [rows_of(torch.tensor([number])) for number in range(len(sizes))]
        by_user = torch.tensor([[metric(*each) for each in alone] for metric in (ours, theirs)])

        def of_means(drawn: np.ndarray) -> float:
            mine, others = by_user[:, torch.from_numpy(drawn)].nanmean(1).tolist()
            return sign * (mine - others)

        return of_means

    def improvement(drawn: np.ndarray) -> float:
        rows, copies = rows_of(torch.from_numpy(drawn))
        return sign * (ours(rows, copies) - theirs(rows, copies))

    return improvement
