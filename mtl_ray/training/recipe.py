"""Settings that a file leaves out, chosen for its data: the default recipe.

Each rule reads the schema of the prepared data set and gives its reason. A setting in the file is never changed, and
`defaults: fixed` leaves all that is left out at the fixed defaults of the settings.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mtl_ray.config import Experiment, override
from mtl_ray.config.numbers import NumberSection
from mtl_ray.config.training import is_sparse
from mtl_ray.schema import FIRST, Schema


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
    return [choice for choice in _rules(experiment, schema) if not is_given(given, choice.path)]


def completed(experiment: Experiment, schema: Schema) -> Experiment:
    """Return the experiment with the settings that the recipe fills in.

    Args:
        experiment: what the file says.
        schema: of its prepared data set.
    """
    return with_choices(experiment, choices(experiment, schema))


def with_choices(experiment: Experiment, chosen: Iterable[Choice]) -> Experiment:
    """Return the experiment with settings of the recipe."""
    return override(experiment, {choice.path: choice.value for choice in chosen}, "recipe:")


def is_given(tree: Any, path: str) -> bool:
    """Return whether a plain tree has a value at a dotted path, or a value in place of a section on the way."""
    for key in path.split("."):
        if not isinstance(tree, Mapping):
            return True
        if key not in tree:
            return False
        tree = tree[key]
    return True


EPOCHS, STEPS = 30, 20_000
"""Most epochs, and about the most steps, of a training that stops by its validation rows."""
MANY = 50
"""Training rows of a mean user from which on its id can be learned fast."""


def _rules(experiment: Experiment, schema: Schema) -> Iterator[Choice]:
    """Yield every setting that the recipe knows for these data, given or not."""
    keys = (experiment.user, experiment.item)
    has_ids = all(experiment.features[key].is_input for key in keys)
    yield from _of_numbers(experiment, schema)
    yield from _of_model(experiment) if has_ids else _of_attributes()
    yield from _of_tasks(experiment)
    yield from _of_training(experiment, schema, has_ids)


def _of_numbers(experiment: Experiment, schema: Schema) -> Iterator[Choice]:
    for name, feature in experiment.features.items():
        if isinstance(feature, NumberSection) and feature.is_number and schema.features[name].quantiles:
            reason = "the effect of a number need not be a line, and skewed numbers need no logarithm"
            yield Choice(f"features.{name}.encoder", "piecewise_linear", reason)


def _of_attributes() -> Iterator[Choice]:
    reason = "users or items are known by their attributes alone"
    yield Choice("model.embedding_dim", 64, reason)
    yield Choice("model.encoder.hidden", [256, 128], f"{reason}: what these say together is in the layers")
    yield Choice("model.encoder.dropout", 0.2, "layers do not learn rows by heart")
    yield Choice("model.embedding_dropout", 0.1, "layers do not rely on one attribute")


def _of_model(experiment: Experiment) -> Iterator[Choice]:
    yield Choice("model.embedding_dim", 32, "ids of users and items are inputs, each with a taste of its own")
    if experiment.model.kind != "esmm":  # whose products of probabilities nothing may be added to
        yield Choice("model.id_bias", True, "users and items differ in their level, which a network would have to find")
    if _fits_dot(experiment):
        reason = "the product of user and item is a term of its own, in which numbers start at nothing"
        yield Choice("model.interaction", {"kind": "dot", "numbers": "gated"}, reason)
    yield Choice("model.encoder.hidden", [256, 128], "vectors of ids and attributes say more together")
    yield Choice("model.encoder.dropout", 0.2, "layers do not learn rows by heart")
    yield Choice("model.embedding_dropout", 0.3, "ids with few rows are not learned by heart")


def _of_tasks(experiment: Experiment) -> Iterator[Choice]:
    if len(experiment.tasks) > 1:
        reason = "rare labels count more than by their number, but do not drown plentiful ones"
        yield Choice("balancing.comparable_losses", 0.5, reason)


def _fits_dot(experiment: Experiment) -> bool:
    """Return whether no vector has a width of its own, and a product may be added to the output of a task."""
    if experiment.model.kind == "esmm":
        return False
    has_own_width = any(feature.is_input and feature.width(0) for feature in experiment.features.values())
    tasks = experiment.tasks.values()
    return not has_own_width and any(task.has_one_output and not task.masked_input for task in tasks)


def _of_training(experiment: Experiment, schema: Schema, has_ids: bool) -> Iterator[Choice]:
    rows, optimizer = schema.num_rows["train"], experiment.training.optimizer
    batch = 1 << min(13, max(8, round(math.log2(3 * math.sqrt(max(1, rows))))))
    steps = -(-rows // batch)
    epochs = max(3, min(EPOCHS, STEPS // max(1, steps)))
    per_user = rows / max(1, (schema.features[experiment.user].num_embeddings or 0) - FIRST)
    yield Choice("training.batch_size", batch, f"about three times the root of {rows:,} rows, within 256 and 8,192")
    yield Choice("training.epochs", epochs, f"at most {EPOCHS}, and about {STEPS:,} steps; validation rows stop it")
    if has_ids and per_user >= MANY:
        yield Choice("training.optimizer.lr", 3e-3, f"{per_user:,.0f} rows a user are enough to learn ids fast")
    else:
        yield Choice("training.optimizer.lr", 1e-3, "the usual one of Adam")
    yield Choice("training.optimizer.weight_decay", 0.01, "the usual one of AdamW")
    if optimizer.kind == "adamw" and not optimizer.embedding_weight_decay:
        yield Choice("training.optimizer.embedding_decay", 0.25, "a vector is the smaller the fewer rows its value has")
    sizes = [feature.num_embeddings or 0 for feature in schema.features.values()]
    sparse_rows = experiment.training.sparse_rows
    if not any(is_sparse(size, sparse_rows) for size in sizes):  # an average would read all rows in each step
        average = round(1 - 1 / max(2, min(100, steps)), 5)
        yield Choice("training.average", average, "the mean over about an epoch needs no schedule of the learning rate")
    yield Choice("training.early_stopping.patience", 4, "an average lags behind by an epoch")
    yield Choice("training.clip_norm", 5.0, "no single batch undoes the others")
    yield Choice("training.masking.values", 0.02, "teaches what a value means that was not seen in training")
    for entity in ("user", "item"):
        yield Choice(f"training.masking.{entity}.id", 0.05, f"teaches what is predicted for an unseen {entity}")
        yield Choice(f"training.masking.{entity}.new", 0.05, f"teaches what is predicted for a new {entity}")
