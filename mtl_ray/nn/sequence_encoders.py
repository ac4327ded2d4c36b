"""Encoders of a list of vectors, such as a history or a text, to one vector.

Positions hold padding on the right; an encoder's result does not depend on how much of it there is.
"""

import itertools

import torch
import torch.nn.functional as F  # noqa: N812 - its customary name
from torch import Tensor, nn

from mtl_ray.config.base import implementation_of
from mtl_ray.config.encoders import (
    AttentionEncoderConfig,
    CNNEncoderConfig,
    CustomEncoderConfig,
    RNNEncoderConfig,
    SequenceEncoderConfig,
    TransformerEncoderConfig,
)
from mtl_ray.nn.own_encoder import build_own_encoder


class SequenceCNN(nn.Module):
    """Convolutions over positions, the largest value of each channel, a linear layer (Kim 2014)."""

    def __init__(self, dim: int, length: int, settings: CNNEncoderConfig) -> None:
        super().__init__()
        widths = [dim, *settings.channels]
        self.layers = nn.ModuleList(
            nn.Conv1d(i, o, settings.kernel, padding=settings.kernel // 2) for i, o in itertools.pairwise(widths)
        )
        self.output = nn.Linear(widths[-1], dim)

    def forward(self, x: Tensor, present: Tensor, query: Tensor) -> Tensor:
        """See `build_sequence_encoder`."""
        x, mask = x.transpose(1, 2), present[:, None]
        for layer in self.layers:
            x = torch.where(mask, F.relu(layer(x)), 0)  # padding stays zero, like the border of a convolution
        return self.output(x.amax(2))


class SequenceRNN(nn.Module):
    """State after the last entry of a GRU (Cho et al. 2014; as GRU4Rec) or LSTM."""

    def __init__(self, dim: int, length: int, settings: RNNEncoderConfig) -> None:
        super().__init__()
        cell = {"gru": nn.GRU, "lstm": nn.LSTM}[settings.cell]
        self.cell = cell(dim, settings.hidden, batch_first=True)
        self.output = nn.Linear(settings.hidden, dim)

    def forward(self, x: Tensor, present: Tensor, query: Tensor) -> Tensor:
        """See `build_sequence_encoder`."""
        if not x.shape[0]:
            return of_nothing(self, x, query)
        return self.output(last_of(self.cell(x)[0], present))


class SequenceTransformer(nn.Module):
    """Self-attention (Vaswani et al. 2017); causal with the last state as SASRec (Kang and McAuley 2018), or the mean
    of all states. A position is counted back from the most recent entry."""

    def __init__(self, dim: int, length: int, settings: TransformerEncoderConfig) -> None:
        super().__init__()
        self.causal = settings.causal
        self.positions = nn.Parameter(torch.randn(length, dim) * 0.05)
        layer = nn.TransformerEncoderLayer(
            dim, settings.heads, 4 * dim, settings.dropout, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, settings.layers, nn.LayerNorm(dim), enable_nested_tensor=False)

    def forward(self, x: Tensor, present: Tensor, query: Tensor) -> Tensor:
        """See `build_sequence_encoder`."""
        if not x.shape[0]:
            return of_nothing(self, x, query)
        length = x.shape[1]
        size = present.sum(1, keepdim=True)
        back = (size - 1 - torch.arange(length, device=x.device)).clamp(min=0)
        # Attention to nothing is undefined; an empty row attends to its first position and its result is not read.
        ignored = ~present
        ignored[:, 0] = False
        future = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1) if self.causal else None
        states = self.layers(x + self.positions[back], mask=future, src_key_padding_mask=ignored, is_causal=self.causal)
        if self.causal:
            return last_of(states, present)
        return torch.where(present[..., None], states, 0).sum(1) / size.clamp(min=1)


class TargetAttention(nn.Module):
    """sum_i a(k_i, q) k_i with a = MLP([k, q, k - q, k * q]), not normalised (DIN, Zhou et al. 2018)."""

    def __init__(self, dim: int, length: int, settings: AttentionEncoderConfig) -> None:
        super().__init__()
        self.weight = nn.Sequential(nn.Linear(4 * dim, settings.hidden), nn.PReLU(), nn.Linear(settings.hidden, 1))

    def forward(self, x: Tensor, present: Tensor, query: Tensor) -> Tensor:
        """See `build_sequence_encoder`."""
        x, q = torch.broadcast_tensors(x, query[:, None])
        weights = self.weight(torch.cat([x, q, x - q, x * q], 2))[..., 0]
        return torch.bmm(torch.where(present, weights, 0)[:, None], x)[:, 0]


def of_nothing(encoder: nn.Module, x: Tensor, query: Tensor) -> Tensor:
    """Return (0, dim), the result for an empty batch, which kernels refuse; DDP needs every parameter to take part."""
    one = torch.cat([x, x.new_zeros(1, *x.shape[1:])])
    return encoder(one, torch.ones_like(one[..., 0], dtype=torch.bool), query.new_zeros(1, query.shape[1]))[:0]


def last_of(states: Tensor, present: Tensor) -> Tensor:
    """Return (B, d): the state of each row's last entry; of the first position where a row has none."""
    last = (present.sum(1) - 1).clamp(min=0)
    return states[torch.arange(states.shape[0], device=states.device), last]


def build_sequence_encoder(settings: SequenceEncoderConfig, dim: int, length: int) -> nn.Module | None:
    """Build an encoder of a history or a text; None for plain pooling, which has no layers.

    It is called with entries (B, L, dim), `present` (B, L) bool and `query` (B, dim), the row's item, and returns
    (B, dim).
    """
    if isinstance(settings, CustomEncoderConfig):
        return build_own_encoder(settings, dim, (length, dim))
    return implementation_of(settings)(dim, length, settings) if settings.implementation else None
