"""Raw rows to predictions with a checkpoint folder; used by `predict` and by the registered model. Knows no Ray."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from mtl_ray.data.encoding import Encoder
from mtl_ray.errors import InputError
from mtl_ray.models import checkpoint
from mtl_ray.schema import ITEM_SUPPORT, USER_SUPPORT
from mtl_ray.storage import Folder
from mtl_ray.values.keys import to_keys
from mtl_ray.values.vocabulary import VOCABULARY, read_vocabularies


class Scorer:
    """Scores raw rows: strings or numbers, unseen ids, nulls and absent columns included."""

    def __init__(self, folder: Path) -> None:
        """Load a checkpoint folder. Raises InputError if `folder` is none."""
        loaded = checkpoint.load(folder)
        self.folder = folder
        self.experiment, self.schema, self.model = loaded.experiment, loaded.schema, loaded.model
        words = read_vocabularies(Folder(str(folder)), list(self.experiment.features))
        self.encoder = Encoder(self.experiment, self.schema, words)

    @cached_property
    def digest(self) -> str:
        """Digest of all that predictions depend on."""
        whole = hashlib.sha256()
        for name in ("experiment.json", "schema.json", VOCABULARY, checkpoint.WEIGHTS):
            whole.update((self.folder / name).read_bytes())
        return whole.hexdigest()

    def input_columns(self) -> list[str]:
        """Raw columns that are read, the two ids first; histories are lists of item ids."""
        names = [self.experiment.column_of(self.experiment.user), self.experiment.column_of(self.experiment.item)]
        for kind in self.encoder.kinds.values():
            names += kind.input_columns()
        return list(dict.fromkeys(names))

    def check_ids(self, columns: Sequence[str], where: str) -> None:
        """Rows need the columns of both ids, which may hold nulls. Raises InputError, beginning with `where`."""
        for name in (self.experiment.user, self.experiment.item):
            if self.experiment.column_of(name) not in columns:
                raise InputError(
                    f"{where}: expected a column `{self.experiment.column_of(name)}`, the id of the "
                    f"{self.experiment.features[name].entity}; found {', '.join(columns)}"
                )

    def inputs(self, table: pa.Table, names: Sequence[str] | None = None) -> dict[str, torch.Tensor]:
        """What the model reads of the given features of raw rows, by default of all; with an id goes how often training
        saw it."""
        names = list(self.experiment.features) if names is None else names
        encoded = self.encoder.features(table, names)
        for support, name in ((USER_SUPPORT, self.experiment.user), (ITEM_SUPPORT, self.experiment.item)):
            if name in names:
                ids = to_keys(self.encoder.kinds[name].raw(table))
                encoded[support] = self.encoder.vocabularies[name].support(ids)
        return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in encoded.items()}

    def score(self, table: pa.Table) -> dict[str, np.ndarray]:
        """Predictions by task: (n,) rating or probability, or (n, num_classes) probabilities.

        Text in a numeric column that is not a number and a vector of another length raise ValueError; everything else
        yields finite numbers.
        """
        return self.predict(self.inputs(table))

    def predict(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
        """The same of encoded rows, see `inputs`."""
        result: dict[str, list[np.ndarray]] = {name: [] for name in self.experiment.tasks}
        size = self.experiment.evaluation.batch_size
        for start in range(0, max(map(len, inputs.values())), size):
            batch = {name: column[start : start + size] for name, column in inputs.items()}
            for name, values in self.model.predict(batch).items():
                result[name].append(values.double().numpy())
        return {name: np.concatenate(parts) if parts else np.zeros(0) for name, parts in result.items()}


def as_column(cells: Sequence[Any]) -> pa.Array:
    """Cells of Python as a column; one that mixes texts and numbers is read as text, in lists too."""
    try:
        return pa.array(cells, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([_as_text(cell) for cell in cells])


def _as_text(cell: Any) -> Any:
    if isinstance(cell, list | tuple):
        return [_as_text(entry) for entry in cell]
    return None if cell is None or cell != cell else str(cell)  # noqa: PLR0124 - NaN alone differs from itself
