"""Mean training and evaluation losses of tasks."""

from collections.abc import Mapping

from torch import Tensor


def mean_losses(
    weights: Mapping[str, float], scales: Mapping[str, float], totals: Tensor, split: str
) -> dict[str, float]:
    """Return the mean loss of each task that had a label, and the weighted sum of the scaled losses.

    Args:
        weights: weight of each task in the sum.
        scales: factor of each task's loss in the sum, see `MultiTaskModel.loss_scales`.
        totals: (2T,) loss sums, then label counts, by task.
        split: first part of the metric keys.

    Example:
        >>> import torch
        >>> totals = torch.tensor([3.0, 8.0, 6.0, 4.0])  # sums of two tasks, then counts
        >>> mean_losses({"click": 0.5, "rating": 0.5}, {"click": 2.0, "rating": 1.0}, totals, "test")
        {'test/loss': 1.5, 'test/click/loss': 0.5, 'test/rating/loss': 2.0}
    """
    names = list(weights)
    sums, counts = totals[: len(names)].tolist(), totals[len(names) :].tolist()
    means = {name: s / c for name, s, c in zip(names, sums, counts, strict=True) if c}
    metrics = {f"{split}/{name}/loss": mean for name, mean in means.items()}
    return {f"{split}/loss": sum(weights[name] * scales[name] * mean for name, mean in means.items()), **metrics}
