"""Masked inputs: training simulates cold start by hiding inputs per row (DropoutNet, Volkovs et al. 2017).

A draw is a function of the seed, the epoch and the row's number. It depends neither on the batch nor on the number of
workers, and a resumed run hides the same inputs as an uninterrupted one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mtl_ray.config import Experiment
from mtl_ray.config.visibility import hidden_by
from mtl_ray.counter_rng import Stream, uniform_rows
from mtl_ray.features.base import feature_kinds
from mtl_ray.schema import ROW

Hidden = dict[str, Tensor]
"""Flags by feature, (B,) bool: true if the input is hidden in the row; by `NAME.entries`, (B, L) bool: true for hidden
entries of a history; by `NAME.unseen`, (B,) or (B, L) bool: true for values that are read as unseen ones."""

CPU = torch.device("cpu")


@dataclass(frozen=True)
class MaskedBatch:
    """A worker's rows of a global batch, and the inputs that training hides in them."""

    experiment: Experiment
    epoch: int
    columns: dict[str, Tensor]
    """Encoded columns and labels."""
    hidden: Hidden
    learnable: dict[str, Tensor]
    """Rows on which each task may learn, (B,) bool."""

    @classmethod
    def draw(cls, experiment: Experiment, columns: dict[str, Tensor], epoch: int) -> "MaskedBatch":
        """Hide inputs of a batch for an epoch of training."""
        hidden = draw_hidden(experiment, columns[ROW], experiment.seed, epoch)
        return cls(experiment, epoch, columns, hidden, _learnable(experiment, columns, hidden))

    def hiding(self, name: str) -> "MaskedBatch":
        """Return the batch with one more feature hidden in all rows."""
        hidden = self.hidden | {name: torch.ones_like(self.columns[name], dtype=torch.bool)}
        return replace(self, hidden=hidden, learnable=_learnable(self.experiment, self.columns, hidden))

    def at(self, rows: Tensor) -> "MaskedBatch":
        """Return only the rows where the (B,) bool `rows` holds."""
        columns, hidden, learnable = (rows_of(part, rows) for part in (self.columns, self.hidden, self.learnable))
        return replace(self, columns=columns, hidden=hidden, learnable=learnable)

    def learning_from(self, rows: Tensor) -> "MaskedBatch":
        """Return the whole batch, of which tasks may only learn on the (B,) bool `rows`."""
        return replace(self, learnable={name: mask & rows for name, mask in self.learnable.items()})

    def uniform(self, stream: Stream) -> Tensor:
        """Draw a number in [0, 1) for each row; returns (B,) float64."""
        return uniform_rows(self.columns[ROW], self.experiment.seed, self.epoch, stream)


def _learnable(experiment: Experiment, columns: Mapping[str, Tensor], hidden: Hidden) -> dict[str, Tensor]:
    rows = columns[ROW]
    return {name: trainable(experiment, name, hidden, len(rows), rows.device) for name in experiment.tasks}


def draw_hidden(experiment: Experiment, rows: Tensor, seed: int, epoch: int) -> Hidden:
    """Draw the inputs that are hidden in rows with the (B,) int64 numbers `rows`."""
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
    """Yield each independent draw: its rate, and the features that it hides together."""
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
    """Return (size,) bool: rows on which a task may learn; a masked-input task needs its own label hidden."""
    mask = torch.ones(size, dtype=torch.bool, device=device)
    for name in hidden_by(experiment, task):
        mask = mask & hidden[name] if name in hidden else torch.zeros_like(mask)
    return mask


def rows_of(columns: Mapping[str, Tensor], rows: slice | Tensor) -> dict[str, Tensor]:
    """Return some rows of all columns, of a batch or of its hidden inputs."""
    return {name: column[rows] for name, column in columns.items()}
