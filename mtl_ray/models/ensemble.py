"""An ensemble: several models of one data set whose outputs are averaged."""

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn

from mtl_ray.models.model import MultiTaskModel


class Ensemble(nn.Module):
    """Models whose outputs are averaged by task: logits of classes, numbers of regression, scores of ranking.

    It stands for a `MultiTaskModel` wherever one predicts; it is not trained. Members may have different settings. A
    task that only some of them have is the mean of these.

    Example:
        >>> from mtl_ray.config.features import IdFeatureConfig
        >>> from mtl_ray.config.model import SharedBottomConfig
        >>> from mtl_ray.config.tasks import BinaryTaskConfig
        >>> from mtl_ray.schema import Fitted, FittedFeature, FittedTask
        >>> features = {"user": IdFeatureConfig(entity="user"), "item": IdFeatureConfig(entity="item")}
        >>> ids, tasks = FittedFeature(num_embeddings=9), {"click": BinaryTaskConfig()}
        >>> fitted = Fitted(features=dict.fromkeys(features, ids), tasks={"click": FittedTask()})
        >>> members = [MultiTaskModel(features, tasks, SharedBottomConfig(), fitted).eval() for _ in range(3)]
        >>> rows = {"user": torch.tensor([3]), "item": torch.tensor([4])}
        >>> mean, deviation = Ensemble(members, [1, 1, 1], ["click"]).predict_with_spread(rows)
        >>> bool(deviation["click"] > 0)
        True
    """

    def __init__(self, members: Sequence[MultiTaskModel], weights: Sequence[int], tasks: Sequence[str]) -> None:
        """Take the members.

        Args:
            members: at least one.
            weights: of each member, how often it counts.
            tasks: names of the tasks in their order; each is a task of at least one member.
        """
        super().__init__()
        self.members = nn.ModuleList(members)
        self.weights = tuple(weights)
        first = {name: next(member for member in members if name in member.tasks) for name in tasks}
        self.tasks = {name: member.tasks[name] for name, member in first.items()}
        self._first = first

    @cached_property
    def loss_scales(self) -> dict[str, float]:
        """Factor of each task's loss before it is weighted."""
        return {name: member.loss_scales[name] for name, member in self._first.items()}

    def forward(self, batch: Mapping[str, Tensor], hidden: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the mean of the members' outputs by task, with inputs hidden as in `MultiTaskModel.forward`."""
        own = [
            (member(batch, hidden).logits, weight) for member, weight in zip(self.members, self.weights, strict=True)
        ]
        return {n: self._mean([(logits[n], w) for logits, w in own if n in logits]) for n in self.tasks}

    def evaluation_logits(self, batch: Mapping[str, Tensor], tasks: Collection[str] | None = None) -> dict[str, Tensor]:
        """Return the mean of the members' outputs by task, see `MultiTaskModel.evaluation_logits`."""
        return {name: self._mean(logits) for name, logits in self._logits(batch, tasks).items()}

    @torch.no_grad()
    def predict(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return predictions on the natural scale by task: (B,), or (B, C) probabilities."""
        return self._predicted(self.evaluation_logits(batch))

    def predict_with_spread(self, batch: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return predictions, and by task the standard deviation of the members' own predictions, in the same shape."""
        logits, spread = self.logits_with_spread(batch)
        return self._predicted(logits), spread

    @torch.no_grad()
    def logits_with_spread(self, batch: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the mean of the members' outputs, and the standard deviation of their predictions, see above."""
        means, spread = {}, {}
        for name, own in self._logits(batch).items():
            means[name] = self._mean(own)
            predictions = [(self.tasks[name].predict(logits), weight) for logits, weight in own]
            center = self._mean(predictions)
            spread[name] = self._mean([((values - center) ** 2, weight) for values, weight in predictions]).sqrt()
        return means, spread

    def _predicted(self, logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: task.predict(logits[name]) for name, task in self.tasks.items()}

    def _logits(
        self, batch: Mapping[str, Tensor], tasks: Collection[str] | None = None
    ) -> dict[str, list[tuple[Tensor, int]]]:
        """Return by task the outputs of each member that has it, with the member's weight."""
        found: dict[str, list[tuple[Tensor, int]]] = {name: [] for name in (self.tasks if tasks is None else tasks)}
        for member, weight in zip(self.members, self.weights, strict=True):
            own = [name for name in found if name in member.tasks]  # pyright: ignore[reportOperatorIssue]
            for name, logits in member.evaluation_logits(batch, own).items():  # pyright: ignore[reportCallIssue]
                found[name].append((logits, weight))
        return found

    @staticmethod
    def _mean(values: Sequence[tuple[Tensor, int]]) -> Tensor:
        """Return the weighted mean, summed in the order of the members."""
        whole = sum(weight for _, weight in values)
        first, weight = values[0]
        total = first * weight
        for value, weight in values[1:]:
            total = total + value * weight
        return total / whole
