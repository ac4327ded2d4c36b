"""The encoder of an image to one vector."""

import itertools

import torch.nn.functional as F  # noqa: N812 - its customary name
from torch import Tensor, nn


class ImageCNN(nn.Module):
    """Convolution, ReLU and 2 x 2 pooling per layer; then the mean over places and a linear layer.

    Args:
        in_channels: channels of the image, or of the layers before.
        channels: of the convolutions here.
        kernel: width of each.
        dim: of the output; None for convolutions alone, whose output goes to another part.
    """

    def __init__(self, in_channels: int, channels: tuple[int, ...], kernel: int, dim: int | None) -> None:
        super().__init__()
        widths = [in_channels, *channels]
        self.layers = nn.ModuleList(nn.Conv2d(i, o, kernel, padding=kernel // 2) for i, o in itertools.pairwise(widths))
        self.output = None if dim is None else nn.Linear(widths[-1], dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, dim), or to (B, channels, H', W') without an output layer."""
        for layer in self.layers:
            x = F.max_pool2d(F.relu(layer(x)), 2)
        return x if self.output is None else self.output(x.mean((2, 3)))
