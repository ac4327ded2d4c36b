"""The entries of a history or an audience that a model sees: those that training does not hide."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mtl_ray.nn.embedding_parts import EmbeddingParts
from mtl_ray.nn.pooling import Unlisted
from mtl_ray.schema import FIRST, PADDING

if TYPE_CHECKING:
    from mtl_ray.features.sequence import SequenceKind


def visible_entries(
    kind: "SequenceKind", parts: EmbeddingParts, batch: Mapping[str, Tensor], hidden: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor | None, Unlisted | None]:
    """Return the (B, L) ids that are not hidden, the values beside them, and those that are read by attributes."""
    name, ids, flags = kind.name, batch[kind.name], hidden.get(f"{kind.name}.unseen")
    flags = None if flags is None else flags[:, : ids.shape[1]]  # the batch may be trimmed
    values = batch[kind.values_column].to(next(parts.parameters()).dtype) if kind.config.values else None
    if name in hidden:
        ids = torch.where(hidden[name][:, None], PADDING, ids)
    if (entries := f"{name}.entries") in hidden:
        ids = torch.where(hidden[entries][:, : ids.shape[1]], PADDING, ids)
        if name in parts.encoders:  # they want padding on the right
            order = (ids == PADDING).to(torch.int8).argsort(dim=1, stable=True)
            ids, values = ids.gather(1, order), None if values is None else values.gather(1, order)
            flags = None if flags is None else flags.gather(1, order)
    values = None if values is None else torch.where(ids != PADDING, values, 0)
    return ids, values, _unseen(kind, parts, ids, flags)


def _unseen(kind: "SequenceKind", parts: EmbeddingParts, ids: Tensor, flags: Tensor | None) -> Unlisted | None:
    """Return the entries of (B, L) ids that are not in the table, or flagged as if they were not."""
    if kind.config.unseen == "unknown" or ids.is_meta:  # where nothing can be counted; few entries are meant
        return None
    where = ids >= parts.first_unseen(kind.config.of)
    if flags is not None:
        where = where | (flags & (ids >= FIRST))
    rows, places = ids[where].unique(return_inverse=True)
    return Unlisted(where, parts.unseen_vectors(kind.config.of, rows)[places])
