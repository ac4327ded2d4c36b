"""Declared weights, with a guard that keeps auxiliary tasks from harming the main one."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mtl_ray.balancing.base import Balancer, WeightedTasks
from mtl_ray.balancing.task_losses import TaskLosses
from mtl_ray.config.auxiliary_balancing import GuardedBalancingConfig

COST = 1 / 8
"""Share of the time of the steps that measurements may take, by default."""
MEMORY, FEWEST = 40, 10
"""Measurements over which the evidence is averaged, and fewest that count."""
HARM, RELIEF = -3.0, 0.0
"""The t-statistic below which a task loses weight, and the one above which it gets some back. It is looked at again and
again, so that 3 deviations are not too many; a task without any effect is above 0 as often as not, and recovers."""
CUT = 0.8
"""What one measurement leaves of a weight that falls."""


class GuardedBalancer(Balancer):
    """w_t = a_t g_t with the declared weights a and, for each auxiliary task, a factor g_t from `floor` to 1.

    Now and then each auxiliary task is left out of a step on the side. G_t is the share by which the main task's loss
    on validation rows is lower with it, over g_t; see `leave_one_out`. With the mean m_t and variance v_t of the last
    n = 40 measurements (exponentially weighted once there are more), t_t = m_t / sqrt(v_t / n). While t_t < -3, each
    measurement takes a fifth of g_t; above 0 it gives as much back. The main task keeps its weight, and what the others
    lose goes to none.
    """

    declared: Tensor
    factors: Tensor
    means: Tensor
    variances: Tensor
    counts: Tensor

    def __init__(self, settings: GuardedBalancingConfig, tasks: WeightedTasks) -> None:
        super().__init__()
        self.names, self.target, self.floor = tasks.names, tasks.names.index(tasks.main), settings.floor
        self.register_buffer("declared", tasks.relative, persistent=False)
        kept = {**settings.factors, tasks.main: 1.0}
        self.register_buffer(
            "factors", torch.tensor([kept.get(name, 1.0) for name in tasks.names], dtype=torch.float64)
        )
        for name in ("means", "variances", "counts"):
            self.register_buffer(name, torch.zeros(len(tasks.names)))
        self.left_out = tuple(number for number in range(len(tasks.names)) if number != self.target)
        if self.left_out and not settings.factors:
            self.probe_rows = settings.rows
            self.probe_every = settings.every or round(steps_of(tasks, settings.rows) / COST)

    def weights(self, step: TaskLosses) -> Tensor:  # noqa: D102
        return self.declared * self.factors

    def reward(self, affinity: Tensor) -> None:  # noqa: D102
        gains = affinity[:, self.target] / self.factors
        is_known = gains.isfinite()
        is_known[self.target] = False
        self.counts = torch.where(is_known, (self.counts + 1).clamp(max=MEMORY), self.counts)
        share, away = 1 / self.counts.clamp(min=1), gains - self.means
        self.means = torch.where(is_known, self.means + share * away, self.means)
        self.variances = torch.where(is_known, (1 - share) * (self.variances + share * away**2), self.variances)
        statistic, is_sure = self.statistic, is_known & (self.counts >= FEWEST)
        falling, rising = is_sure & (statistic < HARM), is_sure & (statistic > RELIEF)
        factors = torch.where(falling, self.factors * CUT, torch.where(rising, self.factors / CUT, self.factors))
        self.factors = factors.clamp(self.floor, 1)

    @property
    def statistic(self) -> Tensor:
        """(T,) t-statistic of each task's effect on the main one, above 0 if it helps; 0 without measurements."""
        deviation = (self.variances / self.counts.clamp(min=1)).sqrt()
        return (self.means / deviation.clamp(min=torch.finfo(deviation.dtype).tiny)).clamp(-1e6, 1e6)

    def metrics(self) -> dict[str, float]:  # noqa: D102
        numbers = {"factor": self.factors, "t": self.statistic, "measurements": self.counts}
        return {
            f"guard/{what}/{self.names[number]}": float(values[number])
            for what, values in numbers.items()
            for number in self.left_out or ()
        }


def steps_of(tasks: WeightedTasks, rows: int) -> float:
    """Return about how many steps take as long as a measurement on so many validation rows.

    A step passes forward through the model once and backward, at twice the cost. A measurement passes forward once and
    backward once for all tasks and for each but the main one, then forward through the validation rows as often.
    """
    num_tasks = len(tasks.names)
    return (1 + 2 * num_tasks + num_tasks * rows / tasks.batch_size) / 3


def guard_factors(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the share of its weight that each auxiliary task keeps, from the metrics of an epoch; empty without."""
    prefix = "guard/factor/"
    return {key.removeprefix(prefix): value for key, value in metrics.items() if key.startswith(prefix)}


def describe_guard(metrics: Mapping[str, float], main: str) -> list[str]:
    """Say of each auxiliary task in a sentence whether it was found to help or harm the main one.

    Args:
        metrics: those of an epoch.
        main: name of the main task.
    """
    lines = []
    for task, factor in guard_factors(metrics).items():
        t, number = metrics[f"guard/t/{task}"], int(metrics[f"guard/measurements/{task}"])
        if not number:
            continue
        effect = "raises" if t < HARM else "lowers" if t > -HARM else "has no clear effect on"
        lines.append(
            f"{task}: its part of a step {effect} {main}'s validation loss (t = {t:+.1f} over the last {number} "
            f"measurements); it keeps {'its weight' if factor == 1 else f'{factor:.0%} of its weight'}"
        )
    return lines
