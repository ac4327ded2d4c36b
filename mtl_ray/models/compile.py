"""The network by torch.compile."""

import warnings

import torch
from torch import nn

from mtl_ray.errors import first_line
from mtl_ray.models.model import MultiTaskModel


def compile_network(model: MultiTaskModel, device: torch.device) -> bool:
    """Let torch.compile fuse what is between the features' vectors and the outputs, at the first pass.

    Names of parameters stay as they are. Rows of a batch may be of any number. Under
    `torch.compiler.set_stance("force_eager")` the model is as it was.

    Returns:
        Whether it does; a warning says why not.
    """
    if model.network is None:
        return False
    try:
        probe = nn.Linear(2, 2).to(device)
        torch.compile(probe)(torch.ones(2, 2, device=device)).sum().backward()
    except Exception as error:
        reason = first_line(error)
        warnings.warn(f"training.compile: no working compiler, training goes on without it: {reason}", stacklevel=2)
        return False
    model.network.compile(dynamic=True)
    return True
