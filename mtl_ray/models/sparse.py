"""Embedding tables that are trained row by row."""

from torch import nn


def sparse_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights of the tables that are trained row by row, by name."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding) and m.sparse}
    return {name: p for name, p in model.named_parameters() if id(p) in tables}
