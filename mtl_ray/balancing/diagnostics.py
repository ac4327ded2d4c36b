"""Diagnostics of how tasks affect each other in training: means over the watched steps of an epoch."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from mtl_ray.balancing.task_losses import TaskLosses, cosines
from mtl_ray.distributed import sum_over_ranks


class Monitor:
    """Collects observations of steps and averages them over an epoch; it keeps the first losses of the run.

    - `balance/weight/TASK`: the weight;
    - `balance/loss_ratio/TASK`: the loss of the batch over that of the first watched batch;
    - `balance/grad_norm/TASK`: norm of the gradient on the shared representation;
    - `balance/cosine/TASK_A/TASK_B`: cosine of two such gradients;
    - `balance/conflicting`: share of steps in which two tasks have a negative cosine;
    - `balance/conflicting_pairs`: share of pairs with a negative cosine;
    - `gate/NAME/EXPERT`: mean weight that a gate of a mixture gives an expert;
    - `gate/idle`: share of all (gate, expert) whose mean weight is below a tenth of an equal one.
    """

    def __init__(self, tasks: Sequence[str]) -> None:
        self.tasks = list(tasks)
        self.first: dict[str, float] = {}
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def observe_step(self, step: TaskLosses, weights: Tensor) -> None:
        """Observe a step, which is the same on all workers; only tasks with a label in the batch count."""
        present = [number for number, has in enumerate(step.present.tolist()) if has]
        values, weights_of = step.values.tolist(), weights.tolist()
        observed: dict[str, float] = {}
        for number in present:
            task = self.tasks[number]
            first = self.first.setdefault(task, values[number])
            observed[f"balance/weight/{task}"] = weights_of[number]
            if first > 0:
                observed[f"balance/loss_ratio/{task}"] = values[number] / first
        if step.shared is not None:
            norms, cosine = step.gramian.diagonal().sqrt().tolist(), cosines(step.gramian).tolist()
            pairs = [(a, b) for a, b in combinations(present, 2) if norms[a] > 0 and norms[b] > 0]
            observed |= {f"balance/grad_norm/{self.tasks[n]}": norms[n] for n in present}
            observed |= {f"balance/cosine/{self.tasks[a]}/{self.tasks[b]}": cosine[a][b] for a, b in pairs}
            if pairs:
                negative = [cosine[a][b] < 0 for a, b in pairs]
                observed["balance/conflicting"] = float(any(negative))
                observed["balance/conflicting_pairs"] = sum(negative) / len(negative)
        self._add(observed)

    def observe_gates(self, used: Mapping[str, Tensor]) -> None:
        """Observe the (E,) summed weights of each gate on this worker's rows."""
        if not used:
            return
        totals = sum_over_ranks(torch.cat([weights.double() for weights in used.values()]))
        shares = [part / part.sum() for part in totals.split([len(weights) for weights in used.values()])]
        named = zip(used, shares, strict=True)
        self._add({f"gate/{name}/{e}": value for name, part in named for e, value in enumerate(part.tolist())})
        self._add({"gate/idle": float(torch.cat([part * len(part) < 0.1 for part in shares]).double().mean())})

    def observe_affinity(self, affinity: Tensor) -> None:
        """Observe (T, T) affinities as `affinity/TASK/TASK`."""
        table = affinity.tolist()
        rows = zip(self.tasks, table, strict=True)
        self._add({f"affinity/{a}/{b}": value for a, row in rows for b, value in zip(self.tasks, row, strict=True)})

    def _add(self, observed: Mapping[str, float]) -> None:
        for key, value in observed.items():
            if math.isfinite(value):
                self.sums[key] = self.sums.get(key, 0.0) + value
                self.counts[key] = self.counts.get(key, 0) + 1

    def end_epoch(self) -> dict[str, float]:
        """Return the means, and begin the next epoch without observations."""
        means = {key: value / self.counts[key] for key, value in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means

    def state(self) -> dict[str, Any]:
        """Return the state that a resumed run needs."""
        return {"first": self.first, "sums": self.sums, "counts": self.counts}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved `state`."""
        self.first, self.sums, self.counts = (dict(state[key]) for key in ("first", "sums", "counts"))
