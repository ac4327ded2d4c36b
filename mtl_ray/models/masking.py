"""Masked inputs: training simulates cold start by hiding inputs per row (DropoutNet, Volkovs et al. 2017).

A draw is a function of the seed, the epoch and the row's number, so it depends neither on the batch nor on the number
of workers, and a resumed run hides what an uninterrupted one would have hidden.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from mtl_ray.config import Experiment
from mtl_ray.config.visibility import hidden_by
from mtl_ray.counter_rng import Stream, uniform_rows
from mtl_ray.features.base import feature_kinds

Hidden = dict[str, Tensor]
"""By feature, (B,) bool: whether the input is hidden in the row; by `NAME.entries`, (B, L) bool: which entries of a
history are."""

CPU = torch.device("cpu")


def draw_hidden(experiment: Experiment, rows: Tensor, seed: int, epoch: int) -> Hidden:
    """Which inputs are hidden in training, for rows with the (B,) int64 numbers `rows`."""
    hidden: Hidden = {}
    active = [(stream, *rate) for stream, rate in enumerate(_rates(experiment), Stream.MASKS) if rate[0]]
    streams = torch.tensor([stream for stream, *_ in active], dtype=torch.long, device=rows.device)
    draws = uniform_rows(rows, seed, epoch, streams[:, None])
    for (_, rate, names), draw in zip(active, draws, strict=True):
        mask = draw < rate
        for name in names:
            hidden[name] = hidden[name] | mask if name in hidden else mask
    for kind in feature_kinds(experiment).values():
        hidden |= kind.hide_at_random(rows, seed, epoch)
    return hidden


def _rates(experiment: Experiment) -> Iterator[tuple[float, set[str]]]:
    """Each independent draw: its rate and what it hides together."""
    masking = experiment.training.masking
    for key, rates in ((experiment.user, masking.user), (experiment.item, masking.item)):
        entity = experiment.features[key].entity
        owned = {n: f for n, f in experiment.features.items() if f.entity == entity and n != key}
        known = {n for n, f in owned.items() if f.tells_interactions(experiment.column_of(key))}
        yield rates.id, {key}
        yield rates.new, {key} | known
        yield rates.attributes, set(owned) - known
    for name, task in experiment.tasks.items():
        yield task.masked_input, hidden_by(experiment, name)


def trainable(experiment: Experiment, task: str, hidden: Hidden, size: int, device: torch.device = CPU) -> Tensor:
    """(size,) bool: rows on which the task may learn; for a masked-input task those that hide what it must not see."""
    mask = torch.ones(size, dtype=torch.bool, device=device)
    for name in hidden_by(experiment, task):
        mask = mask & hidden[name] if name in hidden else torch.zeros_like(mask)
    return mask


def rows_of(columns: Mapping[str, Tensor], rows: slice | Tensor) -> dict[str, Tensor]:
    """The columns of a batch, or of what is hidden in it, at some of its rows."""
    return {name: column[rows] for name, column in columns.items()}
