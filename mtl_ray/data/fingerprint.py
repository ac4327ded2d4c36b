"""The name of a data set: a digest of the raw rows and of the settings that shape the encoded ones."""

import hashlib
import json

from mtl_ray.config import Experiment
from mtl_ray.config.base import not_encoded
from mtl_ray.data.preparation.columns import shadowed
from mtl_ray.data.sources import Raw
from mtl_ray.storage import Folder

FORMAT = 2
"""Version of the encoded data set; after a new one all data sets are prepared anew."""


def fingerprint_of(experiment: Experiment, raw: Raw, revision: int = 0) -> str:
    """Return a digest that is the same for all experiments that can share a data set.

    A setting of `data`, `features` or `tasks` is left out if its field is marked `NOT_ENCODED`. For `revision` see
    `dataset_of`.
    """
    sections = {"data", "features", "tasks"}
    exclude = {name: not_encoded(getattr(experiment, name)) for name in sections}
    tree = experiment.model_dump(mode="json", include=sections, exclude=exclude)
    tree = {"format": FORMAT, "raw": raw.fingerprint, "seed": experiment.data_seed, **tree}
    # Before, columns were joined by name: where that made a difference, there may be data sets that are wrong.
    tables = [table.column_names if table else () for table in (raw.users, raw.items)]
    if found := shadowed(experiment, raw.columns, *tables):
        tree["shadowed"] = found
    if revision:
        tree["revision"] = revision
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def dataset_of(experiment: Experiment, raw: Raw) -> tuple[Folder, str]:
    """Return the folder of the data set, finished or not, and its fingerprint.

    Earlier versions compared repeats by user, item and time alone. A data set from which they set rows aside may lack
    interactions: it stays for the runs that were trained on it, and its successor has another fingerprint.
    """
    for revision in (0, 1):
        fingerprint = fingerprint_of(experiment, raw, revision)
        folder = Folder(experiment.data.output) / f"{experiment.name}-{fingerprint[:12]}"
        if revision or not folder.exists("schema.json") or not _lacks_rows(folder):
            break
    return folder, fingerprint


def _lacks_rows(folder: Folder) -> bool:
    quality = folder.read_json("quality.json")
    return "repeats" not in quality and "repeats an earlier row" in quality["reasons"]
