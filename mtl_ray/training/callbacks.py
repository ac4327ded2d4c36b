"""Callbacks that the user adds to a training: early logging, a stopping rule, layers that are frozen for a while.

A callback changes no number of a training by itself. What it decides must follow from what it is given, which is the
same on every worker and after a resumption, since checkpoints hold no state of it.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mtl_ray.config.base import implementation_of, settings_of
from mtl_ray.config.callbacks import CallbackConfig
from mtl_ray.distributed import rank, sum_over_ranks
from mtl_ray.models import MultiTaskModel


class Callback:
    """The base of the user's callbacks. It is made of its settings, in each worker."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings

    @property
    def rank(self) -> int:
        """Number of this worker from 0. Only one worker, mostly 0, should log."""
        return rank()

    def frozen(self, epoch: int) -> Collection[str]:
        """Return parts of the model that do not learn in an epoch (from 0), such as `inputs.shared.tables.item_id`.

        A part is the name of a parameter in the model's `named_parameters`, or its beginning up to a dot.
        """
        return ()

    def on_step(self, step: int, losses: Mapping[str, float]) -> None:
        """See a step.

        Args:
            step: steps done in the epoch.
            losses: by task, the mean loss over the rows of all workers since the epoch began; NaN without any label.
        """

    def on_epoch(self, epoch: int, metrics: Mapping[str, float], model: MultiTaskModel) -> bool | None:
        """See the end of an epoch, before its checkpoint is written. True stops the training.

        Args:
            epoch: epochs done.
            metrics: those of the epoch, validation included.
            model: the model that is evaluated and kept.
        """

    def on_end(self, epochs: int, model: MultiTaskModel) -> None:
        """See the end of the training.

        Args:
            epochs: epochs done.
            model: the model of the last epoch, which need not be the one that is kept.
        """


class Callbacks:
    """The callbacks of a training in one worker."""

    def __init__(self, settings: Sequence[CallbackConfig]) -> None:
        self.every: list[Callback] = [implementation_of(each)(settings_of(each)) for each in settings]
        self.see_steps = [each for each in self.every if type(each).on_step is not Callback.on_step]

    def frozen(self, epoch: int) -> set[str]:
        """Return the parts of the model that some callback freezes."""
        return {name for each in self.every for name in each.frozen(epoch)}

    def on_step(self, step: int, totals: Tensor, tasks: Sequence[str]) -> None:
        """Tell the (2T,) loss sums and label counts of an epoch so far."""
        if self.see_steps:
            means = (totals[: len(tasks)] / totals[len(tasks) :]).tolist()
            for each in self.see_steps:
                each.on_step(step, dict(zip(tasks, means, strict=True)))

    def on_epoch(self, epoch: int, metrics: Mapping[str, float], model: MultiTaskModel) -> bool:
        """Return whether a callback on any worker asks to stop."""
        if not self.every:
            return False
        asked = [bool(each.on_epoch(epoch, dict(metrics), model)) for each in self.every]
        return bool(sum_over_ranks(torch.tensor(float(any(asked)), device=next(model.parameters()).device)))

    def on_end(self, epochs: int, model: MultiTaskModel) -> None:
        """Tell the end of the training."""
        for each in self.every:
            each.on_end(epochs, model)
