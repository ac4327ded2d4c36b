"""What a model reads, told to those who call it from elsewhere: encoded rows at random, and how to make them."""

from typing import Any

import torch
from torch import Tensor

from mtl_ray.config import Experiment
from mtl_ray.config.features import (
    CategoricalFeatureConfig,
    FeatureConfig,
    IdFeatureConfig,
    ImageFeatureConfig,
    MultiCategoricalFeatureConfig,
    NumericFeatureConfig,
    SequenceFeatureConfig,
    StatisticFeatureConfig,
    TextFeatureConfig,
    VectorFeatureConfig,
)
from mtl_ray.models.complexity import input_zeros
from mtl_ray.schema import FIRST, ITEM_SUPPORT, NULL, PADDING, UNKNOWN, USER_SUPPORT, Schema


def random_rows(experiment: Experiment, schema: Schema, size: int, seed: int) -> dict[str, Tensor]:
    """Encoded rows with known, unknown and absent values, drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    rows = input_zeros(experiment, schema, size, torch.float32)
    for name, column in rows.items():
        feature = experiment.features.get(name)
        if column.is_floating_point():
            column.normal_(generator=generator)
            if feature is not None and not isinstance(feature, StatisticFeatureConfig):
                column[torch.rand(size, generator=generator) < 0.1] = torch.nan
            continue
        table = feature.of if isinstance(feature, SequenceFeatureConfig) else name
        known = schema.features[table].num_embeddings if table in schema.features else None
        low, high = (
            (0, 50) if known is None else (UNKNOWN if isinstance(feature, SequenceFeatureConfig) else NULL, known)
        )
        column.random_(low, max(high, low + 1), generator=generator)
        if column.ndim == 2:
            least = 0 if isinstance(feature, SequenceFeatureConfig) else 1
            sizes = torch.randint(least, column.shape[1] + 1, (size, 1), generator=generator)
            column[torch.arange(column.shape[1]) >= sizes] = PADDING
    return rows


def input_spec(experiment: Experiment, schema: Schema) -> dict[str, Any]:
    """How each input is made of raw values, and what each output is, for JSON."""
    inputs = {}
    for name, column in input_zeros(experiment, schema, 1, torch.float32).items():
        entry: dict[str, Any] = {"type": str(column.dtype).removeprefix("torch."), "shape": ["rows", *column.shape[1:]]}
        feature = experiment.features.get(name)
        if name in (USER_SUPPORT, ITEM_SUPPORT):
            key = experiment.user if name == USER_SUPPORT else experiment.item
            entry["is"] = f"training rows of the id: `count` of `{key}` in vocabulary.parquet, 0 for another"
        elif feature is None:
            entry["is"] = f"the value beside each entry of `{name.removesuffix('.values')}`, standardised, 0 for none"
        else:
            entry |= {"feature": feature.model_dump(mode="json", exclude_unset=True)}
            entry |= {"fitted": schema.features[name].model_dump(mode="json", exclude_none=True)}
            entry["is"] = _meaning(name, feature)
        inputs[name] = entry
    return {
        "rows_of_tables": {"padding": PADDING, "null": NULL, "not seen in training": UNKNOWN, "first value": FIRST},
        "inputs": inputs,
        "outputs": {
            f"predicted_{name}": {"kind": task.kind, "classes": list(schema.tasks[name].classes)}
            for name, task in experiment.tasks.items()
        },
    }


def _meaning(name: str, feature: FeatureConfig) -> str:
    match feature:
        case IdFeatureConfig() | CategoricalFeatureConfig():
            return (
                f"{FIRST} + the place of the value, as text, among the rows of vocabulary.parquet whose `feature` is "
                f"`{name}`; {NULL} for null, {UNKNOWN} for another value"
            )
        case NumericFeatureConfig() if feature.buckets is not None:
            return f"{FIRST} + how many of `boundaries` are at most the value; {NULL} for null"
        case NumericFeatureConfig():
            return "(value - mean) / std; NaN for null"
        case StatisticFeatureConfig():
            return (
                "(total - count * mean) / (count + prior) / std and log(1 + count) / 4, of `count` and `total` of the "
                f"value in vocabulary.parquet, where `feature` is `{name}`; zeros for another value"
            )
        case VectorFeatureConfig():
            return "the numbers; NaN for null"
        case ImageFeatureConfig():
            return "the numbers, row by row, divided by `scale`; NaN for null"
        case SequenceFeatureConfig():
            return (
                f"the last {feature.max_length} items of the user, oldest first, each as `{feature.of}` is; padded on "
                f"the right with {PADDING}"
            )
        case MultiCategoricalFeatureConfig() | TextFeatureConfig():
            return (
                f"the first {feature.max_length} values, each {FIRST} + its place among the rows of vocabulary.parquet "
                f"whose `feature` is `{name}`, {UNKNOWN} for another value; padded on the right with {PADDING}; where "
                f"there is none the first is {NULL}"
            )
