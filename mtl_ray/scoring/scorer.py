"""Score raw rows with a checkpoint, as `predict` and the registered model do. It does not import Ray."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from mtl_ray.config.custom import Trust
from mtl_ray.data.encoding import Encoder, texts
from mtl_ray.errors import InputError, first_line
from mtl_ray.models import checkpoint
from mtl_ray.models.ensemble import Ensemble
from mtl_ray.schema import ITEM_SUPPORT, USER_SUPPORT
from mtl_ray.storage import Folder
from mtl_ray.values.canonical import from_cells
from mtl_ray.values.keys import to_keys
from mtl_ray.values.vocabulary import read_vocabularies


class Scorer:
    """A model that scores raw rows: strings or numbers, with unseen ids, nulls and missing columns."""

    def __init__(self, folder: Path, trust: Trust = False) -> None:
        """Load a checkpoint folder.

        Args:
            folder: checkpoint folder.
            trust: the `custom` classes that the model may import, see `checkpoint.load`.

        Raises:
            InputError: `folder` is no checkpoint, or needs a class that is not trusted or not there.
        """
        loaded = checkpoint.load(folder, trust)
        self.folder = folder
        self.experiment, self.schema, self.model = loaded.experiment, loaded.schema, loaded.model
        vocabularies = read_vocabularies(Folder(str(folder)), list(self.experiment.features), texts(self.experiment))
        self.encoder = Encoder(self.experiment, self.schema, vocabularies)

    @cached_property
    def digest(self) -> str:
        """Digest of everything that predictions depend on."""
        parts, weights = checkpoint.files_of(self.folder)
        return checkpoint.digest_of(self.folder, [*parts, *weights])

    def input_columns(self) -> list[str]:
        """Return the raw columns that are read, the two ids first; histories are lists of item ids."""
        names = [self.experiment.column_of(self.experiment.user), self.experiment.column_of(self.experiment.item)]
        for kind in self.encoder.kinds.values():
            names += kind.input_columns()
        return list(dict.fromkeys(names))

    def check_ids(self, columns: Sequence[str], where: str) -> None:
        """Raise InputError, whose message begins with `where`, if the column of an id is missing."""
        for name in (self.experiment.user, self.experiment.item):
            if self.experiment.column_of(name) not in columns:
                raise InputError(
                    f"{where}: expected a column `{self.experiment.column_of(name)}`, the id of the "
                    f"{self.experiment.features[name].entity}; found {', '.join(columns) or 'none of its own'}"
                )

    def inputs(self, table: pa.Table, names: Sequence[str] | None = None) -> dict[str, torch.Tensor]:
        """Encode features of raw rows, by default all; with an id also the number of its training interactions."""
        names = list(self.experiment.features) if names is None else names
        encoded = self.encoder.features(table, names)
        for support, name in ((USER_SUPPORT, self.experiment.user), (ITEM_SUPPORT, self.experiment.item)):
            if name in names:
                ids = to_keys(self.encoder.kinds[name].raw(table))
                encoded[support] = self.encoder.vocabularies[name].support(ids)
        return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in encoded.items()}

    def score(self, table: pa.Table) -> dict[str, np.ndarray]:
        """Return predictions by task: (n,) ratings or probabilities, or (n, num_classes) probabilities.

        All predictions are finite.

        Raises:
            ValueError: a numeric column has text that is not a number, or a vector has another length.
        """
        return self.predict(self.inputs(table))

    def score_with_spread(self, table: pa.Table) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return predictions, see `score`, and their standard deviations over the members, in the same shapes.

        Raises:
            InputError: the model is no ensemble.
            ValueError: see `score`.
        """
        return self.predict_with_spread(self.inputs(table))

    def predict_with_spread(
        self, inputs: Mapping[str, torch.Tensor]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Return what `score_with_spread` does, for already encoded rows, see `inputs`."""
        ensemble = self.ensemble
        parts = [ensemble.predict_with_spread(batch) for batch in self._batches(inputs)]
        return self._joined([scores for scores, _ in parts]), self._joined([spread for _, spread in parts])

    @property
    def ensemble(self) -> Ensemble:
        """The model, if it is an ensemble. Raises InputError if it is not."""
        if not isinstance(self.model, Ensemble):
            raise InputError(
                "uncertainty: expected an ensemble, whose members differ; found a single model: train with "
                "training.ensemble, for example 5"
            )
        return self.model

    def check(self, where: str) -> None:
        """Score a row of known ids and one of unknown ids, so that a broken model is found before anybody relies on it.

        Raises:
            InputError: a prediction is not finite, or there is none; the message begins with `where`.
        """
        rows = {}
        for name in (self.experiment.user, self.experiment.item):
            known = self.encoder.vocabularies[name].values[:1].to_pylist() or [None]
            rows[self.experiment.column_of(name)] = pa.array([*known, None], pa.string())
        try:
            scores = self.score(pa.table(rows))
        except Exception as error:
            raise InputError(f"{where}: the model cannot score a row: {first_line(error)}") from error
        if broken := [task for task, bad in not_finite(scores).items() if bad.any()]:
            raise InputError(
                f"{where}: expected finite predictions; those of {', '.join(broken)} are not; train the model again"
            )

    def predict(self, inputs: Mapping[str, torch.Tensor], batch_size: int | None = None) -> dict[str, np.ndarray]:
        """Return predictions by task for already encoded rows, see `inputs`; the batches are those of an evaluation."""
        return self._joined([self.model.predict(batch) for batch in self._batches(inputs, batch_size)])

    def _batches(
        self, inputs: Mapping[str, torch.Tensor], batch_size: int | None = None
    ) -> Iterator[dict[str, torch.Tensor]]:
        size = batch_size or self.experiment.evaluation.batch_size
        for start in range(0, max(map(len, inputs.values())), size):
            yield {name: column[start : start + size] for name, column in inputs.items()}

    def _joined(self, parts: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, np.ndarray]:
        """Return the values of all batches by task."""
        if not parts:
            return {name: np.zeros(0) for name in self.experiment.tasks}
        return {name: torch.cat([part[name] for part in parts]).double().numpy() for name in self.experiment.tasks}


as_column = from_cells
"""Python values as a column; the name under which models that were registered earlier find it."""


def spread_column(task: str) -> str:
    """Return the column of a result with the standard deviations of a task's predictions."""
    return f"{task}_std"


def frame_of(
    scores: Mapping[str, np.ndarray], spread: Mapping[str, np.ndarray] | None = None, index: pd.Index | None = None
) -> pd.DataFrame:
    """Return predictions as a frame with a column per task, and a column `TASK_std` per task of `spread`.

    Args:
        scores: by task, (n,) or (n, num_classes), whose rows become lists.
        spread: standard deviations in the same shapes, see `Scorer.score_with_spread`.
        index: of the n rows.
    """
    columns = {**scores, **{spread_column(name): values for name, values in (spread or {}).items()}}
    return pd.DataFrame({n: v if v.ndim == 1 else v.tolist() for n, v in columns.items()}, index=index)


def not_finite(scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return by task (n,) bool: the rows whose prediction, (n,) or (n, num_classes), is NaN or infinite."""
    return {task: np.asarray(~np.isfinite(v).all(tuple(range(1, v.ndim)))) for task, v in scores.items()}
