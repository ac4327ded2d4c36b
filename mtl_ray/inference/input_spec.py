"""The inputs of a model for those who call it from elsewhere: random encoded rows, and how to make real ones."""

from typing import Any

import torch
from torch import Tensor

from mtl_ray.config import Experiment
from mtl_ray.features.base import EncodedColumn, feature_kinds
from mtl_ray.models.complexity import input_zeros
from mtl_ray.schema import FIRST, ITEM_SUPPORT, NULL, PADDING, UNKNOWN, USER_SUPPORT, Schema


def encoded_columns(experiment: Experiment, schema: Schema) -> dict[str, EncodedColumn]:
    """Describe all columns that the model reads, by name."""
    columns = {}
    for name, key in ((USER_SUPPORT, experiment.user), (ITEM_SUPPORT, experiment.item)):
        meaning = f"training rows of the id: `count` of `{key}` in vocabulary.parquet, 0 for another"
        columns[name] = EncodedColumn(meaning, num_embeddings=50)
    for name, kind in feature_kinds(experiment).items():
        columns |= kind.encoded_columns(schema.features[name])
    return columns


def random_rows(experiment: Experiment, schema: Schema, size: int, seed: int) -> dict[str, Tensor]:
    """Draw encoded rows with known, unknown and absent values."""
    generator = torch.Generator().manual_seed(seed)
    rows = input_zeros(feature_kinds(experiment), schema.features, size, torch.float32)
    for name, column in encoded_columns(experiment, schema).items():
        values = rows[name]
        if values.is_floating_point():
            values.normal_(generator=generator)
            if column.is_nullable:
                values[torch.rand(size, generator=generator) < 0.1] = torch.nan
            continue
        values.random_(column.low, max(column.num_embeddings, column.low + 1), generator=generator)
        if values.ndim == 2:
            sizes = torch.randint(column.min_length, values.shape[1] + 1, (size, 1), generator=generator)
            values[torch.arange(values.shape[1]) >= sizes] = PADDING
    return rows


def input_spec(experiment: Experiment, schema: Schema) -> dict[str, Any]:
    """Describe for JSON how each input is made of raw values, and what each output is."""
    inputs = {}
    for name, column in encoded_columns(experiment, schema).items():
        entry: dict[str, Any] = {"type": column.dtype, "shape": ["rows", *column.shape]}
        feature = experiment.features.get(name)
        if feature is not None:
            entry |= {"feature": feature.model_dump(mode="json", exclude_unset=True)}
            entry |= {"fitted": schema.features[name].model_dump(mode="json", exclude_none=True)}
        entry["is"] = column.meaning
        inputs[name] = entry
    return {
        "rows_of_tables": {"padding": PADDING, "null": NULL, "not seen in training": UNKNOWN, "first value": FIRST},
        "inputs": inputs,
        "outputs": {
            f"predicted_{name}": {"kind": task.kind, "classes": list(schema.tasks[name].classes)}
            for name, task in experiment.tasks.items()
        },
    }
