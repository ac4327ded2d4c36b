"""The base of an encoder that the user brings."""

from typing import NamedTuple

from torch import nn

from mtl_ray.config.base import implementation_of, settings_of
from mtl_ray.config.encoders import CustomEncoderConfig


class EncoderSpec(NamedTuple):
    """The sizes from which an encoder is built."""

    width: int
    """Width of the vector that it returns."""
    shape: tuple[int, ...]
    """Shape of a row's input: (2,) of a number, (length, width) of a list, (size,) of a vector, (channels, height,
    width) of an image. A list in a batch may be shorter."""


class FeatureEncoder(nn.Module):
    """An encoder of a feature to one vector. It is made of an `EncoderSpec` and its settings.

    `forward` takes, and returns (B, width):

    - numeric: (B, 2), the standardised number, 0 if it is missing, and 1 if it is, else 0;
    - sequence, text: entries (B, L, width), `present` (B, L) bool, with padding on the right, and `query` (B, width),
      the vector of the row's item (of a text, that of its first word); its result must not depend on the padding;
    - vector, image: (B, *shape) real numbers.
    """

    reads_row = False
    """True if `query` is read, of which a ranking task's vector of the user must not know."""


def build_own_encoder(settings: CustomEncoderConfig, width: int, shape: tuple[int, ...]) -> nn.Module:
    """Make the encoder that settings describe, see `EncoderSpec`."""
    return implementation_of(settings)(EncoderSpec(width, shape), settings_of(settings))
