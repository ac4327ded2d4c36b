"""Masked inputs: training simulates cold start by hiding inputs per row (DropoutNet, Volkovs et al. 2017).

A draw is a function of the seed, the epoch and the row's number. It depends neither on the batch nor on the number of
workers, and a resumed run hides the same inputs as an uninterrupted one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mtl_ray.config.feature_base import FeatureSection, column_of, key_of
from mtl_ray.config.tasks import TaskConfig
from mtl_ray.config.training import MaskingConfig
from mtl_ray.config.visibility import hidden_by
from mtl_ray.counter_rng import Stream, uniform_rows
from mtl_ray.features.base import FeatureKind, make_kinds
from mtl_ray.features.surroundings import Surroundings
from mtl_ray.schema import ROW

Hidden = dict[str, Tensor]
"""Flags by feature, (B,) bool: true if the input is hidden in the row; by `NAME.entries`, (B, L) bool: true for hidden
entries of a history; by `NAME.unseen`, (B,) or (B, L) bool: true for values, or ids of a list, that are read as unseen
ones."""

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Masking:
    """The inputs that training hides in each row, and the tasks that may then learn from it.

    Example:
        >>> from mtl_ray.config.features import IdFeatureConfig
        >>> from mtl_ray.config.tasks import BinaryTaskConfig
        >>> features = {"user": IdFeatureConfig(entity="user"), "item": IdFeatureConfig(entity="item")}
        >>> masking = Masking(features, {"click": BinaryTaskConfig()}, seed=1)
        >>> batch = masking.draw({ROW: torch.arange(10_000)}, epoch=0)
        >>> batch.hidden["user"].double().mean()  # one row of ten is as that of a new user
        tensor(0.0963, dtype=torch.float64)
    """

    features: Mapping[str, FeatureSection]
    """The sections of all features, by name."""
    tasks: Mapping[str, TaskConfig]
    """The sections of all tasks, by name."""
    rates: MaskingConfig = field(default_factory=MaskingConfig)
    seed: int = 0
    """Seed of the draws."""

    def draw(self, columns: dict[str, Tensor], epoch: int) -> "MaskedBatch":
        """Hide inputs of a batch for an epoch of training.

        Args:
            columns: encoded columns and labels, (B,) or (B, length), with the numbers of the rows.
            epoch: number of the epoch, from 0.
        """
        return self._masked(columns, epoch, self.hidden(columns[ROW], epoch))

    def nothing(self, columns: dict[str, Tensor], epoch: int = 0) -> "MaskedBatch":
        """Return a batch in which nothing is hidden, and on all of whose rows every task may learn."""
        return MaskedBatch(self, epoch, columns, hidden={}, learnable={})

    def _masked(self, columns: dict[str, Tensor], epoch: int, hidden: Hidden) -> "MaskedBatch":
        size, device = len(columns[ROW]), columns[ROW].device
        learnable = {name: self.learnable(name, hidden, size, device) for name in self.tasks}
        return MaskedBatch(self, epoch, columns, hidden, learnable)

    def hidden(self, rows: Tensor, epoch: int) -> Hidden:
        """Draw the inputs that are hidden in rows with the (B,) int64 numbers `rows`."""
        hidden: Hidden = {}
        streams = torch.tensor([stream for stream, *_ in self._draws], dtype=torch.long, device=rows.device)
        draws = uniform_rows(rows, self.seed, epoch, streams[:, None])
        for (_, rate, names), draw in zip(self._draws, draws, strict=True):
            mask = draw < rate
            for name in names:
                hidden[name] = hidden[name] | mask if name in hidden else mask
        for kind in self._kinds.values():
            hidden |= kind.hide_at_random(rows, self.seed, epoch, self.rates)
        return hidden

    def learnable(self, task: str, hidden: Hidden, size: int, device: torch.device = CPU) -> Tensor:
        """Return (size,) bool: rows on which a task may learn; a masked-input task needs its own label hidden."""
        mask = torch.ones(size, dtype=torch.bool, device=device)
        for name in self._hidden_by[task]:
            mask = mask & hidden[name] if name in hidden else torch.zeros_like(mask)
        return mask

    @cached_property
    def _kinds(self) -> dict[str, FeatureKind[Any]]:
        return make_kinds(Surroundings(self.features, self.tasks))

    @cached_property
    def _hidden_by(self) -> dict[str, set[str]]:
        return {name: hidden_by(self.features, name, task) for name, task in self.tasks.items()}

    @cached_property
    def _draws(self) -> list[tuple[int, float, set[str]]]:
        """Independent draws: the stream of each, its rate, and the features that it hides together."""
        found = []
        for entity, rates in (("user", self.rates.user), ("item", self.rates.item)):
            key = key_of(self.features, entity)
            column = column_of(self.features, key)
            owned = {n: f for n, f in self.features.items() if f.entity == entity and n != key}
            known = {n for n, f in owned.items() if f.tells_interactions(column)}
            found += [(rates.id, {key}), (rates.new, {key} | known), (rates.attributes, set(owned) - known)]
        found += [(task.masked_input, self._hidden_by[name]) for name, task in self.tasks.items()]
        return [(stream, *draw) for stream, draw in enumerate(found, Stream.MASKS) if draw[0]]


@dataclass(frozen=True)
class MaskedBatch:
    """A worker's rows of a global batch, and the inputs that training hides in them.

    Example:
        >>> from mtl_ray.config.features import IdFeatureConfig
        >>> features = {"user": IdFeatureConfig(entity="user"), "item": IdFeatureConfig(entity="item")}
        >>> batch = Masking(features, {}).nothing({ROW: torch.arange(3), "user": torch.tensor([3, 4, 5])})
        >>> batch.at(torch.tensor([True, False, True])).hiding("user").hidden
        {'user': tensor([True, True])}
    """

    masking: Masking
    epoch: int
    columns: dict[str, Tensor]
    """Encoded columns and labels."""
    hidden: Hidden
    learnable: dict[str, Tensor]
    """Rows on which each task may learn, (B,) bool."""

    def hiding(self, name: str) -> "MaskedBatch":
        """Return the batch with one more feature hidden in all rows."""
        hidden = self.hidden | {name: torch.ones_like(self.columns[name], dtype=torch.bool)}
        return self.masking._masked(self.columns, self.epoch, hidden)

    def at(self, rows: Tensor) -> "MaskedBatch":
        """Return only the rows where the (B,) bool `rows` holds."""
        columns, hidden, learnable = (rows_of(part, rows) for part in (self.columns, self.hidden, self.learnable))
        return replace(self, columns=columns, hidden=hidden, learnable=learnable)

    def learning_from(self, rows: Tensor) -> "MaskedBatch":
        """Return the whole batch, of which tasks may only learn on the (B,) bool `rows`."""
        return replace(self, learnable={name: mask & rows for name, mask in self.learnable.items()})

    def uniform(self, stream: Stream) -> Tensor:
        """Draw a number in [0, 1) for each row; returns (B,) float64."""
        return uniform_rows(self.columns[ROW], self.masking.seed, self.epoch, stream)


def rows_of(columns: Mapping[str, Tensor], rows: slice | Tensor) -> dict[str, Tensor]:
    """Return some rows of all columns, of a batch or of its hidden inputs."""
    return {name: column[rows] for name, column in columns.items()}
