"""The cost of a model, found by a pass over tensors without memory (the meta device)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental import _config as fx_config
from torch.utils.flop_counter import FlopCounterMode

from mtl_ray.config import Experiment
from mtl_ray.config.cost import Complexity
from mtl_ray.features.base import FeatureKind, feature_kinds
from mtl_ray.models.build import build_model
from mtl_ray.models.sizes import num_parameters_by_part
from mtl_ray.models.sparse import sparse_parameters
from mtl_ray.schema import ITEM_SUPPORT, USER_SUPPORT, FittedFeature, Schema, label_column

INDEX_BYTES = 8
"""Size of the number of a row in a sparse gradient."""


def complexity_of(experiment: Experiment, schema: Schema) -> Complexity:
    """Return the cost of an experiment's model, without allocating memory."""
    training = experiment.training
    dtype = torch.float64 if training.precision == "float64" else torch.float32
    size = -(-training.batch_size // training.fewest_workers)
    with torch.device("meta"):
        model = build_model(experiment, schema).to(dtype)
        batch = input_zeros(feature_kinds(experiment), schema.features, size, dtype)
        batch |= {label_column(name): task.label_zeros(size, dtype) for name, task in model.tasks.items()}
        counter, kept, rows = FlopCounterMode(display=False), _Kept(model), _RowsRead(model)
        with torch.autograd.graph.saved_tensors_hooks(kept.keep, lambda tensor: tensor):
            with counter:
                forward = model.train()(batch)
            # Of a ranking task every row counts as a positive, and other workers' items are left out.
            with fx_config.patch(meta_nonzero_assume_all_nonzero=True):
                for name, task in model.tasks.items():
                    label = batch[label_column(name)]
                    task.loss(forward.logits[name], label, task.labelled(label), forward.pairs.get(name))
    parameters = num_parameters_by_part(model)
    total, tables = sum(parameters.values()), list(sparse_parameters(model).values())
    dense = total - sum(table.numel() for table in tables)
    state = dense * training.optimizer.state_per_parameter
    if training.sparse_tables is not None:
        state += sum(len(table) * training.sparse_tables.state_per_row(table.shape[1]) for table in tables)
    return Complexity(
        parameters=parameters,
        multiply_adds=counter.get_total_flops() / 2 / size,
        parameter_bytes=total * dtype.itemsize * (1 + bool(training.average)),
        summed_bytes=dense * dtype.itemsize,
        row_bytes=rows.num_bytes,
        optimizer_bytes=state * dtype.itemsize,
        activation_bytes=kept.num_bytes,
    )


class _RowsRead:
    """Counts the rows that are read of each table that is trained row by row."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.rows: dict[torch.nn.Module, int] = {}
        for module in model.modules():
            if isinstance(module, torch.nn.Embedding) and module.sparse:
                self.rows[module] = 0
                module.register_forward_hook(self._count)

    def _count(self, table: torch.nn.Module, inputs: tuple[Tensor], _: Tensor) -> None:
        self.rows[table] += inputs[0].numel()

    @property
    def num_bytes(self) -> int:
        """Bytes of the gradients of these rows, each row counted at most once."""
        weights = [(rows, table.weight) for table, rows in self.rows.items()]
        return sum(min(n, len(w)) * (w.shape[1] * w.element_size() + INDEX_BYTES) for n, w in weights)  # pyright: ignore


class _Kept:
    """Counts each storage that is saved for the backward pass once; the parameters' own are no activations."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._known = {_storage(parameter) for parameter in model.parameters()}
        self._alive: list[Tensor] = []  # an address can be taken again when its storage is gone
        self.num_bytes = 0

    def keep(self, tensor: Tensor) -> Tensor:
        if _storage(tensor) not in self._known:
            self._known.add(_storage(tensor))
            self._alive.append(tensor.detach())
            self.num_bytes += tensor.untyped_storage().nbytes()
        return tensor


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata  # without memory, data_ptr() is 0 for all


def input_zeros(
    kinds: Mapping[str, FeatureKind[Any]], fitted: Mapping[str, FittedFeature], size: int, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Return the encoded columns that a model reads, zero in `size` rows.

    Args:
        kinds: all features, by name.
        fitted: what `prepare` found in them, by name.
        size: number of rows.
        dtype: type of real numbers.
    """
    batch = {name: torch.zeros(size, dtype=torch.int32) for name in (USER_SUPPORT, ITEM_SUPPORT)}
    for feature, kind in kinds.items():
        for name, column in kind.encoded_columns(fitted[feature]).items():
            batch[name] = torch.zeros(size, *column.shape, dtype=torch.int32 if column.dtype == "int32" else dtype)
    return batch
