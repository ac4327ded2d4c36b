"""Compilation of the network by torch.compile."""

import warnings

import torch
from torch import nn

from mtl_ray.errors import first_line
from mtl_ray.models.model import MultiTaskModel


def compile_network(model: MultiTaskModel, device: torch.device) -> bool:
    """Compile the network between the features' vectors and the outputs; it happens at the first pass.

    Names of parameters stay as they are, and a batch may have any number of rows. Under
    `torch.compiler.set_stance("force_eager")` the model runs uncompiled.

    Returns:
        Whether the network is compiled; if there is no working compiler, a warning says why.
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
