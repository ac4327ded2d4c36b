"""Predictions without a model, against a computation from the raw rows by another way."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mtl_ray.data.dataset import Prepared
from mtl_ray.evaluation.baselines import SHRINKAGE, evaluate_baselines
from tests.support import small_experiment


def encoded(prepared: Prepared, split: str) -> pd.DataFrame:
    return pd.read_parquet(f"{prepared.folder.path}/{split}").sort_values("row").reset_index(drop=True)


def entity_means(train: pd.DataFrame, test: pd.DataFrame, key: str, label: str, shrinkage: float) -> np.ndarray:
    known = train[train[label].notna()]
    mean, groups = known[label].mean(), known.groupby(key)[label]
    fitted = (groups.sum() + shrinkage * mean) / (groups.count() + shrinkage)
    return test[key].map(fitted).fillna(mean).to_numpy()


@pytest.fixture
def found(prepared: Prepared):
    return evaluate_baselines(small_experiment().tasks, prepared, "test", user="user_id", item="item_id")


def test_entity_means_are_the_shrunken_means_of_the_training_labels(prepared, found):
    train, test = encoded(prepared, "train"), encoded(prepared, "test")
    for baseline, key in (("item_mean", "item_id"), ("user_mean", "user_id")):
        predicted = entity_means(train, test, key, "rating.label", SHRINKAGE[baseline])
        error = (predicted - test["rating.label"])[test["rating.label"].notna()]
        assert found[baseline]["test/rating/rmse"] == pytest.approx(float(np.sqrt((error**2).mean())))
        clicks = entity_means(train, test, key, "click.label", SHRINKAGE[baseline])
        assert found[baseline]["test/click/auc"] == pytest.approx(roc_auc_score(test["click.label"], clicks))


def test_a_new_item_gets_the_constant_and_a_new_user_too(found):
    for baseline, segment in (("item_mean", "new_item"), ("user_mean", "new_user")):
        key = f"test/rating/rmse/{segment}"
        assert found[baseline][key] == pytest.approx(found["constant"][key])


def test_popularity_is_a_score_for_metrics_of_the_order_alone(prepared, found):
    test = encoded(prepared, "test")
    assert found["popularity"]["test/click/auc"] == pytest.approx(roc_auc_score(test["click.label"], test.item_support))
    assert not any("rmse" in key or "log_loss" in key for key in found["popularity"])


def test_a_task_whose_label_is_an_input_has_the_constant_alone(found):
    assert found["constant"]["test/gender/auc"] == 0.5
    assert not any("gender" in key for name in ("item_mean", "user_mean", "popularity") for key in found[name])
