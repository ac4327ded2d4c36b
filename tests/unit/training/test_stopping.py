"""An early-stopping metric without a value on the validation rows is told before the first epoch."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from mtl_ray.errors import InputError
from mtl_ray.schema import ITEM_SUPPORT, USER_KEY, USER_SUPPORT, FittedTask, Schema, label_column
from mtl_ray.storage import Folder
from mtl_ray.training.fit import _score
from mtl_ray.training.progress import Progress
from mtl_ray.training.stopping import check_stopping_metric
from tests.support import small_experiment


def check(place: Path, metric: str, labels: dict[str, list[Any]], support: list[int] | None = None, **changes: Any):
    """Check the metric on validation rows with these labels, in two files."""
    num_rows = len(next(iter(labels.values())))
    rows = pa.table(
        {label_column(task): pa.array(values) for task, values in labels.items()}
        | {USER_KEY: [1] * num_rows, USER_SUPPORT: support or [5] * num_rows, ITEM_SUPPORT: [5] * num_rows}
    )
    valid = Folder(str(place / "valid"))
    valid.write_table("00000-000.parquet", rows.slice(0, 1))
    valid.write_table("00001-000.parquet", rows.slice(1))
    experiment = small_experiment(training__early_stopping={"metric": metric}, **changes)
    fixed = {"train_offsets": (0, 10), "num_lanes": 1, "fingerprint": "", "content_hash": ""}
    tasks = {name: FittedTask(classes=("a", "b"), num_labels={"valid": num_rows}) for name in experiment.tasks}
    schema = Schema.model_validate({"features": {}, "tasks": tasks, "num_rows": {"valid": num_rows}, **fixed})
    check_stopping_metric(experiment, schema, valid)


@pytest.mark.parametrize(
    ("metric", "labels", "reason"),
    [
        ("valid/click/auc", [0.0, 0.0, math.nan], "the 2 labels of click of the validation rows are all 0"),
        ("valid/click/gauc", [1.0, 1.0, 1.0], "the 3 labels of click of the validation rows are all 1"),
        ("valid/click/ratio", [0.0, 0.0, 0.0], "the 3 labels of click of the validation rows are all 0"),
        ("valid/click/auc/new_user", [0.0, 1.0, 1.0], "no validation row in the segment new_user has a label of click"),
    ],
)
def test_a_metric_that_no_model_can_have_is_refused(tmp_path: Path, metric: str, labels: list[float], reason: str):
    with pytest.raises(InputError, match=f"early_stopping.metric: `{metric}` has no value: {reason}; see data.split"):
        check(tmp_path, metric, {"click": labels})


def test_a_segment_is_looked_at_alone(tmp_path: Path):
    labels = {"click": [0.0, 1.0, 1.0, 1.0]}
    check(tmp_path, "valid/click/auc/warm", labels, [5, 5, 0, 0])
    with pytest.raises(InputError, match="2 labels of click of the validation rows in the segment new_user are all 1"):
        check(tmp_path, "valid/click/auc/new_user", labels, [5, 5, 0, 0])


@pytest.mark.parametrize(
    ("metric", "labels"),
    [
        ("valid/loss", {"click": [0.0, 0.0]}),
        ("valid/click/loss", {"click": [0.0, 0.0]}),
        ("valid/click/auc", {"click": [0.0, 1.0]}),
        ("valid/click/log_loss", {"click": [0.0, 0.0]}),
        ("valid/rating/rmse", {"rating": [3.0, 3.0]}),
        ("valid/occupation/macro_f1", {"occupation": [0, 0]}),
        ("valid/tags/macro_auc", {"tags": [[0, 1], [1, 1]]}),
    ],
)
def test_one_that_some_model_has_is_not(tmp_path: Path, metric: str, labels: dict[str, list[Any]]):
    if "tags" in labels:
        labels = {"tags": pa.FixedSizeListArray.from_arrays(pa.array(sum(labels["tags"], []), pa.int8()), 2)}  # noqa: RUF017
    check(tmp_path, metric, labels)


def test_without_a_name_a_metric_that_has_no_value_keeps_the_last_epoch():
    """Validation rows whose classes training has not seen have labels, but none that it knows."""
    experiment = small_experiment(main="occupation", training__early_stopping={})
    fixed = {"train_offsets": (0, 10), "num_lanes": 1, "fingerprint": "", "content_hash": ""}
    tasks = {name: FittedTask(num_labels={"valid": 3}) for name in experiment.tasks}
    schema = Schema.model_validate({"features": {}, "tasks": tasks, "num_rows": {"valid": 3}, **fixed})
    trainer: Any = SimpleNamespace(experiment=experiment, progress=Progress(epoch=2), schema=schema)
    assert _score(trainer, {"valid/click/loss": 0.5}) == 2.0
    assert trainer.progress.best is None
    assert _score(trainer, {"valid/occupation/loss": 0.5}) == -0.5
    trainer.experiment = small_experiment(training__early_stopping={"metric": "valid/occupation/loss"})
    with pytest.raises(InputError, match="no metric `valid/occupation/loss`"):
        _score(trainer, {"valid/click/loss": 0.5})
