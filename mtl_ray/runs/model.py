"""A trained model in Python: it scores frames and recommends, with neither Ray nor files that stay."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from rich.table import Table

from mtl_ray.config import Experiment
from mtl_ray.config.custom import Trust
from mtl_ray.data.dataset import open_prepared
from mtl_ray.data.item_catalog import ITEMS
from mtl_ray.errors import InputError
from mtl_ray.models.ensemble import Ensemble
from mtl_ray.reporting.results import Shown, metrics_frame, metrics_table
from mtl_ray.runs.recovery import best_checkpoint_name
from mtl_ray.runs.run_folder import RunFolder
from mtl_ray.scoring.protocol import encode_rows
from mtl_ray.scoring.recommender import Recommender
from mtl_ray.scoring.scorer import Scorer, frame_of
from mtl_ray.storage import Folder
from mtl_ray.tracking.registry import is_model_uri, logged_metrics, opened_checkpoint
from mtl_ray.tracking.tracked_run import default_uri
from mtl_ray.values.frames import to_arrow


class Model(Shown):
    """A trained model, see `load_model`.

    Example:
        >>> model = load_model(trained.model_uri)
        >>> list(model.predict(pd.DataFrame({"user_id": ["u1"], "item_id": ["i7"]})))
        ['click', 'rating']
        >>> model.recommend({"age": 31}, k=2)["rank"].tolist()
        [1, 2]
    """

    def __init__(self, name: str, scorer: Scorer, items: pa.Table | None, metrics: Mapping[str, float]) -> None:
        """Take what `load_model` has loaded.

        Args:
            name: what the model was called, for people.
            scorer: the loaded checkpoint.
            items: raw rows of the items that it can recommend, if they are known.
            metrics: of the test rows, as far as they are known.
        """
        self.name, self.metrics = name, dict(metrics)
        self._scorer, self._items = scorer, items
        self._recommender = cache(lambda task: Recommender(scorer, items, task))

    @property
    def experiment(self) -> Experiment:
        """The settings that the model was trained with, those that were left out among them."""
        return self._scorer.experiment

    @property
    def input_columns(self) -> list[str]:
        """The raw columns that the model reads, the two ids first; all but these may be missing."""
        return self._scorer.input_columns()

    def predict(self, rows: Any, uncertainty: bool = False) -> pd.DataFrame:
        """Return the predictions for raw rows, those of users and items never seen included.

        Args:
            rows: (n,) a pandas, polars or Arrow frame with any of `input_columns`; a history is a list of item ids,
                oldest first. Other columns are ignored.
            uncertainty: add `TASK_std`, the standard deviation of each prediction over the members of an ensemble.

        Returns:
            (n,) rows with a column per task: a rating in its own unit, a probability, or a list of probabilities by
            class. They have the index of a pandas frame.

        Raises:
            InputError: an id column is missing, a value is of the wrong kind (the message has its row, counted from 1),
                or `uncertainty` is wanted of a single model.
        """
        inputs = encode_rows(self._scorer, to_arrow(rows, "rows"))
        index = rows.index if isinstance(rows, pd.DataFrame) else None
        if uncertainty:
            return frame_of(*self._scorer.predict_with_spread(inputs), index)
        return frame_of(self._scorer.predict(inputs), index=index)

    def recommend(
        self,
        profile: Mapping[str, Any],
        k: int = 10,
        *,
        task: str | None = None,
        items: Any = None,
        seen: Sequence[Any] = (),
    ) -> pd.DataFrame:
        """Return the best k items for one user, known or described by a profile alone.

        Args:
            profile: raw columns of the user; the items of a history are not recommended.
            k: number of items; the result is shorter if there are fewer.
            task: what to rank by, a task whose prediction is one number; by default the first that is not about a
                profile.
            items: raw rows of the candidates, as a frame; by default those that the model carries.
            seen: ids of items to leave out.

        Returns:
            (k,) rows, the best item first: `rank` from 1, its id under the name of the item's column, `score` (the
            task's prediction), and `name` where the items have one.

        Raises:
            InputError: an unknown column or task, a value of the wrong kind, or there are no items to choose from.
        """
        if items is None:
            recommender = self._recommender(task)
        else:
            recommender = Recommender(self._scorer, to_arrow(items, "items"), task)
        return pd.DataFrame(recommender.recommend(profile, k, seen))

    def to_frame(self) -> pd.DataFrame:
        """Return `metrics` as a tidy frame: split, task, metric, segment, value, rows."""
        return metrics_frame(self.metrics)

    def table(self) -> Table:
        """Return the metrics by segment as a table."""
        return metrics_table(self.metrics, "test rows, by segment")

    def lines(self) -> Iterator[str]:
        """Yield what the model is, what it predicts and what it reads."""
        experiment, model = self.experiment, self._scorer.model
        members = f", an ensemble of {len(model.members)}" if isinstance(model, Ensemble) else ""
        yield f"{self.name}: {experiment.model.kind}{members}, of the experiment {experiment.name}"
        yield f"predicts: {', '.join(experiment.tasks)}"
        yield f"reads: {', '.join(self.input_columns)}"


def load_model(uri: str | Path, *, tracking_uri: str | None = None, trust: Trust = False) -> Model:
    """Load a trained model. It needs neither Ray nor the data set; what is downloaded for it is removed again.

    Args:
        uri: a registered model (`models:/shop@champion`, `models:/shop/3`), the URI of a run's model, the folder of a
            run (`runs/NAME`) or of a checkpoint.
        tracking_uri: MLflow server of a model URI; by default that of the environment.
        trust: the `custom` classes that the model may import: all (True), none (False) or those of these names.

    Raises:
        InputError: there is no such model, it is damaged, or it needs classes that are not trusted.

    Example:
        >>> load_model(trained.folder.location).metrics == trained.metrics
        True
    """
    place, server = str(uri), tracking_uri or default_uri()
    run = None if is_model_uri(place) else _run_of(Folder(place))
    if run is not None and Folder(place).location == run.location:
        place = _kept_by(run).location
    with opened_checkpoint(place, server) as folder:
        scorer = Scorer(folder, trust)
        items = Folder(str(folder)).read_table(ITEMS) if (folder / ITEMS).is_file() else None
    if is_model_uri(place):
        return Model(place, scorer, items, logged_metrics(place, server, scorer.experiment))
    if run is None:
        return Model(place, scorer, items, {})
    return Model(str(uri), scorer, _items_of(run) if items is None else items, _metrics_of(run, Folder(place)))


def _run_of(folder: Folder) -> RunFolder | None:
    """Return the run whose folder it is, or whose folder it lies in directly; None if there is none."""
    above = Folder(f"{folder.place.rpartition('/')[0]}{folder.options}")
    return next((run for run in (RunFolder(each.location) for each in (folder, above)) if run.has_record), None)


def _kept_by(run: RunFolder) -> Folder:
    """Return the checkpoint that a finished run keeps. Raises InputError if there is none yet."""
    if run.has_joined:
        return run.joined_trials
    if run.read_members():
        return run.joined
    best = best_checkpoint_name(run) if run.has_evaluation else None
    if best is None:
        raise InputError(f"{run}: expected the folder of a finished training, or of a checkpoint; found no model")
    return run / best


def _metrics_of(run: RunFolder, checkpoint: Folder) -> dict[str, float]:
    """Return the metrics of the test rows of the checkpoint that a run keeps; none of any other."""
    if not (run.has_evaluation or run.has_joined) or _kept_by(run).location != checkpoint.location:
        return {}
    return run.read_joined()["metrics"] if run.has_joined else run.read_evaluation()[0].metrics


def _items_of(run: RunFolder) -> pa.Table | None:
    """Return the items of the data set of a run, while it is there."""
    dataset = run.read_record().dataset
    if dataset is None or not Folder(dataset).exists("schema.json"):
        return None
    folder = open_prepared(dataset).folder
    return folder.read_table(ITEMS) if folder.exists(ITEMS) else None
