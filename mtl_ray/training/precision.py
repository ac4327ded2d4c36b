"""Numeric precision of a training: the type of weights and losses, autocast and the scale of losses."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Precision:
    """The precision named by `training.precision`; bfloat16 and float16 are mixed, with weights in float32."""

    def __init__(self, name: str, device: torch.device) -> None:
        mixed = name in ("bfloat16", "float16")
        self.dtype = torch.float32 if mixed else DTYPES[name]
        """Type of weights and losses."""
        self.autocast: AbstractContextManager[Any] = nullcontext()
        """Context of a forward pass."""
        if mixed:
            self.autocast = torch.autocast(device.type, DTYPES[name])
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "float16")
        """Scales losses, to keep gradients in the range of float16."""

    @property
    def scale(self) -> float:
        """Factor of losses at this step."""
        return self.scaler.get_scale()
