"""Declared weights, with a guard that keeps auxiliary tasks from harming the main one."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mtl_ray.balancing.base import Balancer, WeightedTasks
from mtl_ray.balancing.task_losses import TaskLosses
from mtl_ray.config.auxiliary_balancing import GuardedBalancingConfig

COST = 1 / 8
"""Share of the time of the steps that measurements may take, by default."""
MEMORY, FEWEST = 40, 5
"""Measurements over which the evidence is averaged, and fewest that count."""
CLEAR = 2.0
"""The t-statistic from which on an effect is called one."""


class GuardedBalancer(Balancer):
    """w_t = a_t g_t with the declared weights a and, for each auxiliary task, a factor g_t from `floor` to 1.

    Now and then it is measured how far each auxiliary task turns a step on the weighted sum towards lower losses of the
    main task on validation rows, or away from them: C_t of `affinity.turns`, over g_t. With the mean m_t and variance
    v_t of the last n = 40 measurements (exponentially weighted once there are more) and t_t = m_t / sqrt(v_t / n),

        g_t = 2 Phi(t_t), from `floor` to 1

    is the two-sided p-value of a harm, and 1 while there is none. The main task keeps its weight, and what the others
    lose goes to none.
    """

    declared: Tensor
    factors: Tensor
    means: Tensor
    variances: Tensor
    counts: Tensor

    def __init__(self, settings: GuardedBalancingConfig, tasks: WeightedTasks) -> None:
        super().__init__()
        self.names, self.main, self.floor = tasks.names, tasks.names.index(tasks.main), settings.floor
        self.register_buffer("declared", tasks.relative, persistent=False)
        kept = {**settings.factors, tasks.main: 1.0}
        self.register_buffer(
            "factors", torch.tensor([kept.get(name, 1.0) for name in tasks.names], dtype=torch.float64)
        )
        for name in ("means", "variances", "counts"):
            self.register_buffer(name, torch.zeros(len(tasks.names)))
        if len(tasks.names) > 1 and not settings.factors:
            self.guarded, self.probe_rows = self.main, settings.rows
            self.probe_every = settings.every or round(steps_of(tasks, settings.rows) / COST)

    def weights(self, step: TaskLosses) -> Tensor:  # noqa: D102
        return self.declared * self.factors

    def reward(self, affinity: Tensor) -> None:  # noqa: D102
        turned = affinity[:, self.main] / self.factors
        is_known = turned.isfinite()
        is_known[self.main] = False
        self.counts = torch.where(is_known, (self.counts + 1).clamp(max=MEMORY), self.counts)
        share, away = 1 / self.counts.clamp(min=1), turned - self.means
        self.means = torch.where(is_known, self.means + share * away, self.means)
        self.variances = torch.where(is_known, (1 - share) * (self.variances + share * away**2), self.variances)
        factors = (2 * torch.special.ndtr(self.statistic)).clamp(self.floor, 1)
        self.factors = torch.where(is_known & (self.counts >= FEWEST), factors, self.factors)

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
            for number in range(len(self.names))
            if number != self.main
        }


def steps_of(tasks: WeightedTasks, rows: int) -> float:
    """Return about how many steps take as long as a measurement on so many validation rows.

    A step passes forward through the model once and backward, at twice the cost. So does a measurement through the
    validation rows; through the batch it passes forward once, and backward for each task.
    """
    return (1 + 2 * len(tasks.names)) / 3 + rows / tasks.batch_size


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
        effect = "turn steps away from" if t < -CLEAR else "turn steps towards" if t > CLEAR else "hardly matter to"
        lines.append(
            f"{task}: its gradients {effect} lower validation losses of {main} (t = {t:+.1f} over the last {number} "
            f"measurements); it keeps {'its weight' if factor == 1 else f'{factor:.0%} of its weight'}"
        )
    return lines
