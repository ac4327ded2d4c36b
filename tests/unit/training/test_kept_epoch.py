"""Which epoch is kept."""

import pytest

from mtl_ray.errors import InputError
from mtl_ray.schema import FittedTask, Schema
from mtl_ray.training.kept_epoch import describe_kept, for_epochs, kept_epoch, stopping_metric
from tests.support import small_experiment

HISTORY = {
    1: {"valid/rating/loss": 0.9, "valid/click/auc": 0.6},
    2: {"valid/rating/loss": 0.7, "valid/click/auc": 0.7},
    3: {"valid/rating/loss": 0.7, "valid/click/auc": 0.5},
    4: {"valid/rating/loss": 0.8},
}


@pytest.mark.parametrize(
    ("metric", "epoch"), [(None, 4), ("valid/rating/loss", 3), ("valid/click/auc", 2)], ids=["last", "lower", "higher"]
)
def test_it_is_the_best_one_and_of_equals_the_last(metric: str | None, epoch: int):
    assert kept_epoch(HISTORY, metric) == epoch


def schema(num_valid: int, **labels: int) -> Schema:
    """A data set with so many validation rows, and so many validation labels of each task."""
    tasks = {name: FittedTask(num_labels={"valid": count}) for name, count in labels.items()}
    fixed = {"train_offsets": (0, 10), "num_lanes": 1, "fingerprint": "", "content_hash": ""}
    return Schema.model_validate({"features": {}, "tasks": tasks, "num_rows": {"valid": num_valid}, **fixed})


def test_by_default_it_is_that_of_the_main_task_or_without_its_labels_the_last():
    experiment = small_experiment(main="rating", training__early_stopping={})
    assert stopping_metric(experiment, schema(9, rating=5)) == "valid/rating/loss"
    assert "best valid/rating/loss is kept" in describe_kept(experiment, schema(9, rating=5))
    for absent in (schema(0, rating=0), schema(9, rating=0)):
        assert stopping_metric(experiment, absent) is None
        assert describe_kept(experiment, absent) == "the last epoch is kept"


@pytest.mark.parametrize("metric", ["valid/loss", "valid/rating/rmse"])
def test_a_named_metric_without_validation_rows_is_refused(metric: str):
    experiment = small_experiment(training__early_stopping={"metric": metric})
    with pytest.raises(InputError, match=f"`{metric}` has no value: there are no validation rows; see data.split"):
        stopping_metric(experiment, schema(0, rating=0))
    assert stopping_metric(experiment, schema(5, rating=5)) == metric


def test_so_is_one_of_a_task_without_labels_in_them():
    experiment = small_experiment(training__early_stopping={"metric": "valid/rating/rmse"})
    with pytest.raises(InputError, match="no validation row has a label of rating"):
        stopping_metric(experiment, schema(5, rating=0))


def test_a_training_on_all_rows_takes_over_what_held_out_rows_have_chosen():
    plain = for_epochs(small_experiment(), 2, {})
    assert (plain.training.last_epoch, plain.balancing) == (2, small_experiment().balancing)
    guarded = for_epochs(small_experiment(balancing={"kind": "guarded", "floor": 0.2}), 3, {"tags": 0.5})
    assert guarded.training.last_epoch == 3
    assert guarded.balancing.model_dump(exclude_unset=True) == {
        "kind": "guarded",
        "floor": 0.2,
        "factors": {"tags": 0.5},
    }
