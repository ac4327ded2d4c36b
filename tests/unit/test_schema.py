"""What a schema tells of the rows before any work."""

import pytest

from mtl_ray.errors import InputError
from mtl_ray.schema import FittedTask, Schema, check_stopping


def schema(num_valid: int, num_labels: int) -> Schema:
    tasks = {name: FittedTask(num_labels={"train": 10, "valid": num_labels}) for name in ("click", "rating")}
    rows = {"train": 10, "valid": num_valid, "test": 0}
    fixed = {"train_offsets": (0, 10), "num_lanes": 1, "fingerprint": "", "content_hash": ""}
    return Schema.model_validate({"features": {}, "tasks": tasks, "num_rows": rows, **fixed})


@pytest.mark.parametrize("metric", ["valid/loss", "valid/click/auc"])
def test_an_early_stopping_metric_without_rows_is_refused_before_the_first_epoch(metric: str):
    with pytest.raises(InputError, match=f"`{metric}` has no value: there are no validation rows; see data.split"):
        check_stopping(metric, schema(0, 0))
    check_stopping(metric, schema(5, 5))


def test_so_is_one_of_a_task_without_labels():
    with pytest.raises(InputError, match="no validation row has a label of click"):
        check_stopping("valid/click/auc", schema(5, 0))
