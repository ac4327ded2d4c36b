"""Data-parallel training of a model by DistributedDataParallel."""

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mtl_ray.distributed import world_size
from mtl_ray.models.sparse import sparse_parameters


def data_parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """Wrap a model so that gradients are averaged over workers; a single worker gets the model itself."""
    if world_size() == 1:
        return model
    # Rows of large tables are exchanged by the optimizers, and buffers are made from what all workers gather.
    ignored = list(sparse_parameters(model))
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, ignored)
    devices = [device] if device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False)
