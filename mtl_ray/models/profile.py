"""Profile features: attributes of user and item, and how often training has seen each; PEPNet and POSO read them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mtl_ray.models.cold_start.base import known_support
from mtl_ray.models.embedding import EmbeddedFeatures, FeatureEmbeddings


class ProfileFeatures:
    """Computes the profile features of encoded rows."""

    def __init__(self, inputs: FeatureEmbeddings, keys: Mapping[str, str]) -> None:
        """Choose the attributes among `inputs`; `keys` has the entity of each id feature."""
        self.attributes = [name for name, feature in inputs.features.items() if feature.is_profile]
        self.keys = dict(keys)
        self.width = sum(inputs.dims[n] for n in self.attributes if n not in inputs.tails) + 2 * len(self.keys)

    def __call__(
        self, batch: Mapping[str, Tensor], hidden: Mapping[str, Tensor], read: EmbeddedFeatures, dtype: torch.dtype
    ) -> Tensor:
        """Return (B, width): attributes without gradient, then log(1 + support) / 8 and [support = 0] of user and item.

        The support is the number of training interactions; that of a hidden or unknown id is 0.
        """
        parts = [read.vectors[name].detach() for name in self.attributes if name in read.vectors]
        for key, entity in self.keys.items():
            support = known_support(batch, hidden, key, entity)
            seen = torch.stack([x.to(dtype) for x in (torch.log1p(support) / 8, support == 0)], 1)
            parts.append(seen.expand(read.scalars.shape[0], -1))
        return torch.cat(parts, 1)
