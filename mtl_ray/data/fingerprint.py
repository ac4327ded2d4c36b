"""The name of a data set: a digest of the raw rows and of the settings that shape the encoded ones."""

import hashlib
import json

from mtl_ray.config import Experiment
from mtl_ray.config.base import not_encoded
from mtl_ray.data.preparation.columns import shadowed
from mtl_ray.data.sources import Raw

FORMAT = 2
"""Version of the encoded data set; after a new one all data sets are prepared anew."""


def fingerprint_of(experiment: Experiment, raw: Raw) -> str:
    """Return a digest that is the same for all experiments that can share a data set.

    A setting of `data`, `features` or `tasks` is left out if its field is marked `NOT_ENCODED`.
    """
    sections = {"data", "features", "tasks"}
    exclude = {name: not_encoded(getattr(experiment, name)) for name in sections}
    tree = experiment.model_dump(mode="json", include=sections, exclude=exclude)
    tree = {"format": FORMAT, "raw": raw.fingerprint, "seed": experiment.data_seed, **tree}
    # Before, columns were joined by name: where that made a difference, there may be data sets that are wrong.
    tables = [table.column_names if table else () for table in (raw.users, raw.items)]
    if found := shadowed(experiment, raw.columns, *tables):
        tree["shadowed"] = found
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def dataset_name(experiment: Experiment, raw: Raw) -> str:
    """Return the name of the folder of the data set."""
    return f"{experiment.name}-{fingerprint_of(experiment, raw)[:12]}"
