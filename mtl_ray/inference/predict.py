"""Score raw rows in batches."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from mtl_ray.config.custom import Trust
from mtl_ray.data.preparation.row_checks import bad_inputs
from mtl_ray.data.sources.csv_dialect import dialect_of
from mtl_ray.data.sources.files import open_log
from mtl_ray.errors import InputError, some
from mtl_ray.inference.batch import map_rows
from mtl_ray.inference.batch_result import BatchResult
from mtl_ray.scoring.scorer import Scorer, spread_column


class _Score:
    """Scores rows: returns their kept columns and the predictions."""

    def __init__(self, model: Path, keys: Sequence[str], uncertainty: bool, trust: Trust) -> None:
        self.scorer = Scorer(model, trust)
        self.keys, self.uncertainty = keys, uncertainty

    def bad_rows(self, table: pa.Table) -> pa.Array:
        return bad_inputs(self.scorer.experiment, table)

    def __call__(self, table: pa.Table) -> pa.Table:
        scores, spread = self.scorer.score_with_spread(table) if self.uncertainty else (self.scorer.score(table), {})
        columns = {f"predicted_{name}": _column(values) for name, values in scores.items()}
        columns |= {spread_column(name): _column(values) for name, values in spread.items()}
        return pa.table({**{name: table.column(name) for name in self.keys}, **columns})


def predict(
    model: str | Path,
    rows: str,
    output: str,
    keys: Sequence[str] | None = None,
    echo: Callable[[str], None] = lambda _: None,
    *,
    uncertainty: bool = False,
    tracking_uri: str | None = None,
    trust: Trust = False,
) -> BatchResult:
    """Score a Parquet or CSV file, folder or glob of raw rows; the results are in the order of the rows.

    A row that cannot be scored is set aside, see `inference.batch`. Repeated after an interruption, the call continues.
    Many rows are scored in parallel through Ray. For rows in a frame there is `load_model(...).predict`.

    Args:
        model: checkpoint folder, or model URI such as `models:/shop@champion`.
        rows: location of the raw rows.
        output: folder to make.
        keys: input columns to keep beside `predicted_TASK`; all by default.
        echo: receives lines of text for the user.
        uncertainty: add `TASK_std`, the standard deviation of each prediction over the members of an ensemble.
        tracking_uri: MLflow server of a model URI; by default that of the environment.
        trust: the `custom` classes that the model may import: all (True), none (False) or those of these names.

    Raises:
        InputError: no such model or input, an id column or a key is missing, `output` exists, or `uncertainty` is
            wanted of a single model.

    Example:
        >>> list(predict(trained.model_uri, "log.parquet", "predictions", ["user_id", "item_id"]).to_frame())
        ['user_id', 'item_id', 'predicted_click', 'predicted_rating']
    """
    # The actors that score load this module, too, and need no MLflow.
    from mtl_ray.tracking.registry import opened_checkpoint  # noqa: PLC0415
    from mtl_ray.tracking.tracked_run import default_uri  # noqa: PLC0415

    with opened_checkpoint(str(model), tracking_uri or default_uri()) as folder:
        scorer = Scorer(folder, trust)
        scorer.check(str(model))
        return _predict(scorer, trust, rows, output, keys, echo, uncertainty)


def _predict(
    scorer: Scorer,
    trust: Trust,
    rows: str,
    output: str,
    keys: Sequence[str] | None,
    echo: Callable[[str], None],
    uncertainty: bool,
) -> BatchResult:
    added = [f"predicted_{task}" for task in scorer.experiment.tasks]
    if uncertainty:
        added += map(spread_column, scorer.ensemble.tasks)
    dialect = dialect_of(scorer.experiment.data.source)
    log = open_log(rows, dialect=dialect)
    scorer.check_ids(log.columns, rows)
    kept_columns = list(log.columns if keys is None else keys)
    if absent := [name for name in kept_columns if name not in log.columns]:
        raise InputError(f"--keys: expected columns of {rows} ({some(log.columns)}); found {some(absent)}")
    if taken := [name for name in kept_columns if name in added]:
        raise InputError(
            f"{rows}: has a column `{taken[0]}`, which is that of a prediction; rename it, or leave it out by --keys"
        )
    needed = (
        None if keys is None else [name for name in log.columns if name in {*kept_columns, *scorer.input_columns()}]
    )
    job = {"command": "predict", "model": scorer.digest, "keys": kept_columns}
    job |= {"uncertainty": True} if uncertainty else {}  # jobs of before have no such entry
    log = log if needed is None else open_log(rows, columns=needed, dialect=dialect)
    settings = (kept_columns, uncertainty, trust)
    return map_rows(rows, log, output, _Score, scorer.folder, settings, job, log.num_rows, echo)


def _column(values: np.ndarray) -> pa.Array:
    return pa.array(values) if values.ndim == 1 else pa.array(list(values), pa.list_(pa.float64()))
