"""Settings that a file leaves out, chosen for its data: the default recipe.

Each rule reads the schema of the prepared data set and gives its reason. A setting in the file is never changed, and
`defaults: fixed` leaves all that is left out at the fixed defaults of the settings.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mtl_ray.config import Experiment, override
from mtl_ray.config.features import NumericFeatureConfig
from mtl_ray.schema import Schema


@dataclass(frozen=True)
class Choice:
    """A setting that the recipe fills in."""

    path: str
    value: Any
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.value} ({self.reason})"


def choices(experiment: Experiment, schema: Schema) -> list[Choice]:
    """Return the settings that the recipe fills in, in the order of the file."""
    if experiment.defaults == "fixed":
        return []
    given = experiment.model_dump(mode="json", exclude_unset=True)
    return [choice for choice in _rules(experiment, schema) if not _is_given(given, choice.path)]


def completed(experiment: Experiment, schema: Schema) -> Experiment:
    """Return the experiment with the settings that the recipe fills in.

    Args:
        experiment: what the file says.
        schema: of its prepared data set.
    """
    return override(experiment, {choice.path: choice.value for choice in choices(experiment, schema)}, "recipe:")


def _is_given(tree: Any, path: str) -> bool:
    """Return whether a plain tree has a value at a dotted path, or a value in place of a section on the way."""
    for key in path.split("."):
        if not isinstance(tree, Mapping):
            return True
        if key not in tree:
            return False
        tree = tree[key]
    return True


STEPS = 20_000
"""Steps of a training whose epochs are as many as can be afforded."""


def _rules(experiment: Experiment, schema: Schema) -> Iterator[Choice]:
    """Yield every setting that the recipe knows for these data, given or not."""
    keys = {name: experiment.features[name] for name in (experiment.user, experiment.item)}
    ids = [name for name, key in keys.items() if key.is_input]
    yield from _of_numbers(experiment, schema)
    yield from _of_model(experiment, ids)
    yield from _of_training(experiment, schema, ids)


def _of_numbers(experiment: Experiment, schema: Schema) -> Iterator[Choice]:
    for name, feature in experiment.features.items():
        if isinstance(feature, NumericFeatureConfig) and feature.buckets is None and schema.features[name].quantiles:
            reason = "the effect of a number need not be a line, and skewed numbers need no logarithm"
            yield Choice(f"features.{name}.encoder", "piecewise_linear", reason)


def _of_model(experiment: Experiment, ids: list[str]) -> Iterator[Choice]:
    if not ids:
        yield Choice(
            "model.encoder.hidden", [256, 128], "no id is an input, so all is in what the attributes say together"
        )
        yield Choice("model.encoder.dropout", 0.2, "keeps layers from learning rows by heart")
        yield Choice("model.embedding_dropout", 0.1, "keeps layers from relying on one attribute")
        return
    yield Choice("model.embedding_dim", 32, "ids are inputs: each user and item has a taste of its own")
    if len(ids) == 2 and _fits_dot(experiment):
        yield Choice("model.interaction", "dot", "users and items are inputs: their product is a term of its own")
    yield Choice("model.encoder.hidden", [64, 32], "the vectors of ids carry most of what is learned")
    yield Choice("model.encoder.dropout", 0.2, "keeps layers from learning rows by heart")
    yield Choice("model.embedding_dropout", 0.3, "keeps ids with few rows from being learned by heart")


def _fits_dot(experiment: Experiment) -> bool:
    """Return whether no vector has a width of its own, and a task has one output that sees all inputs."""
    has_own_width = any(feature.is_input and feature.width(0) for feature in experiment.features.values())
    tasks = experiment.tasks.values()
    return not has_own_width and any(task.has_one_output and not task.masked_input for task in tasks)


def _of_training(experiment: Experiment, schema: Schema, ids: list[str]) -> Iterator[Choice]:
    rows, optimizer = schema.num_rows["train"], experiment.training.optimizer
    batch = min(8192, max(256, 1 << (rows // 100).bit_length()))
    yield Choice("training.batch_size", batch, f"about a hundred steps an epoch of {rows:,} rows, within 256 and 8,192")
    steps = -(-rows // batch)
    epochs = max(3, min(30, STEPS // steps))
    yield Choice("training.epochs", epochs, f"as many as {STEPS:,} steps allow, within 3 and 30")
    yield Choice("training.optimizer.lr", 1e-3, "the usual one of Adam")
    yield Choice("training.optimizer.weight_decay", 0.01, "the usual one of AdamW")
    if ids and optimizer.kind == "adamw" and not optimizer.embedding_weight_decay:
        yield Choice("training.optimizer.embedding_decay", 0.25, "an id's vector shrinks with the inverse of its rows")
    sizes = [feature.num_embeddings or 0 for feature in schema.features.values()]
    if not any(experiment.training.is_sparse(size) for size in sizes):  # an average would read all rows in each step
        yield Choice("training.average", round(1 - 1 / max(2, steps), 5), "the mean over about the last epoch")
    yield Choice("training.early_stopping.patience", 4, "an average lags behind by an epoch")
    yield Choice("training.clip_norm", 5.0, "a rare batch must not undo the others")
    for entity in ("user", "item"):
        yield Choice(f"training.masking.{entity}.id", 0.05, "teaches the row of unseen ids")
        yield Choice(f"training.masking.{entity}.new", 0.05, "teaches what is predicted without a history")
