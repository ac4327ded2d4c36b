"""The number of parameters of each part of a model."""

from torch import nn

from mtl_ray.models.architectures.base import SHARED
from mtl_ray.models.model import MultiTaskModel


def num_parameters_by_part(model: MultiTaskModel) -> dict[str, int]:
    """Return the trainable numbers of each embedding table and of each other part."""
    parts: dict[str, int] = {}
    for name, inputs in model.inputs.items():
        of = "" if name == SHARED else f" of {name}"
        tables = inputs.tables.items()  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
        own = {f"table {feature}{of}": _size(table) for feature, table in tables}
        own |= {f"cold start {key}{of}": _size(part) for key, part in inputs.cold_starts.items()}  # pyright: ignore
        parts |= own
        parts["other inputs"] = parts.get("other inputs", 0) + _size(inputs) - sum(own.values())
    if model.network is not None:
        parts |= {name: _size(part) for name, part in model.network.named_children()}
        parts["network"] = sum(p.numel() for p in model.network.parameters(recurse=False))
    parts |= {name: _size(getattr(model, name)) for name in ("interactions", "dots", "id_biases", "two_towers")}
    return {name: size for name, size in parts.items() if size}


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
