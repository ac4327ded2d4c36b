"""An input that nearly tells a label is found and named; inputs that say much of it are not."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mtl_ray.config import parse
from mtl_ray.data.preparation import giveaways
from mtl_ray.data.preparation.findings import findings
from mtl_ray.data.prepare import prepare
from tests.support import small_experiment
from tests.support import test_data as real_data

NUM_ROWS, NUM_ITEMS = 3000, 150
CATEGORIES = ["music", "sport", "travel", "home office"]


def log() -> pd.DataFrame:
    """Rows with a category of each item, which its path holds, and an outcome that is copied with one error in 500."""
    random = np.random.default_rng(0)
    item = random.integers(NUM_ITEMS, size=NUM_ROWS)
    category = np.array(CATEGORIES)[np.random.default_rng(1).integers(len(CATEGORIES), size=NUM_ITEMS)]
    price = np.random.default_rng(2).permutation(NUM_ITEMS) / 7
    bought, spent = random.random(NUM_ROWS) < 0.2, random.gamma(2, 10, NUM_ROWS).round(3)
    return pd.DataFrame(
        {
            "user": [f"u{number}" for number in random.integers(200, size=NUM_ROWS)],
            "item": [f"i{number}" for number in item],
            "time": np.arange(NUM_ROWS),
            "category": category[item],
            "path": [f"new > {category[i]} > offer {i % 9}" for i in item],
            "price": price[item],
            "bought": bought.astype(int),
            "receipt": np.where((random.random(NUM_ROWS) < 0.002) ^ bought, "sent", "none"),
            "hint": np.where((random.random(NUM_ROWS) < 0.1) ^ bought, "likely", "no"),
            "spent": spent,
            "with_tax": spent * 1.2,
            "about": spent + random.normal(0, 6, NUM_ROWS),
        }
    )


def found(folder: Path, features: dict[str, Any], tasks: dict[str, Any], **data: Any) -> dict[tuple[str, str], dict]:
    """Findings in the log, by feature and task; the item's id is an input, the user's is not."""
    log().to_csv(folder / "log.csv", index=False)
    tree = {
        "name": "shop",
        "data": {"source": {"kind": "table", "interactions": str(folder / "log.csv")}, "split": "random", **data},
        "features": {
            "user": {"kind": "id", "entity": "user", "embed": False},
            "item": {"kind": "id", "entity": "item"},
            **features,
        },
        "tasks": tasks,
    }
    tree["data"]["output"] = str(folder / f"out{data.get('bucket_rows', '')}")
    prepared = prepare(parse(tree, "test"))
    return {(pair["feature"], pair["task"]): pair for pair in prepared.quality["giveaways"]}


CATEGORY = {"kind": "multiclass", "masked_input": 0.2}
OF_ITEM = {"category": {"kind": "categorical", "entity": "item"}, "price": {"kind": "numeric", "entity": "item"}}


@pytest.mark.parametrize(
    "path", [{"kind": "text"}, {"kind": "multi_categorical", "separator": " > "}], ids=["text", "list"]
)
@pytest.mark.parametrize("entity", ["item", "context"])
def test_a_text_or_list_that_holds_the_label_is_found(tmp_path: Path, path: dict, entity: str):
    pairs = found(tmp_path, OF_ITEM | {"path": {**path, "entity": entity}}, {"category": CATEGORY})
    assert set(pairs) == {("path", "category")}  # neither the item nor its category, which are hidden; nor its price
    assert pairs["path", "category"]["accuracy"] == 1
    assert pairs["path", "category"]["constant"] < 0.4


def test_an_id_tells_a_label_that_is_the_items_own_unless_it_is_hidden(tmp_path: Path):
    assert set(found(tmp_path, {}, {"category": {"kind": "multiclass"}})) == {("item", "category")}


def test_a_copy_with_a_few_errors_is_found_and_a_strong_hint_is_not(tmp_path: Path):
    pairs = found(tmp_path, {"receipt": "categorical", "hint": "categorical"}, {"bought": "binary"})
    assert set(pairs) == {("receipt", "bought")}
    assert pairs["receipt", "bought"]["accuracy"] == pytest.approx(0.998, abs=0.002)
    assert pairs["receipt", "bought"]["constant"] == pytest.approx(0.8, abs=0.03)


def test_a_number_that_follows_from_another_is_found_and_one_that_is_about_it_is_not(tmp_path: Path):
    features = {"with_tax": "numeric", "about": "numeric", "hint": "categorical"}
    pairs = found(tmp_path, features, {"spent": {"kind": "regression"}})
    assert set(pairs) == {("with_tax", "spent")}
    assert 0.99 < pairs["with_tax", "spent"]["explained"] < 1


def test_too_many_pairs_for_a_sample_are_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(giveaways, "CELLS", 2 * giveaways.FEWEST - 1)  # a cell for each of two inputs
    assert found(tmp_path, {"receipt": "categorical"}, {"bought": "binary"}) == {}


def test_the_sample_does_not_depend_on_the_partitions(tmp_path: Path):
    features, tasks = {"receipt": "categorical", "with_tax": "numeric"}, {"bought": "binary", "spent": "regression"}
    one, many = (found(tmp_path, features, tasks, bucket_rows=rows) for rows in (10_000, 700))
    assert one == many
    assert len(one) == 2


def test_findings_name_the_pair_what_it_reaches_and_what_to_do():
    quality: dict[str, Any] = {
        **{"rows": 9, "reasons": {}, "splits": {"train": 3, "valid": 3, "test": 3}, "in_no_split": 0, "mended": {}},
        **{"shown_in_histories": 0, "unknown_entities": {}, "constant": [], "label_share": {}},
    }
    classes = {"feature": "path", "task": "category", "accuracy": 0.9997, "constant": 0.3124}
    number = {"feature": "with_tax", "task": "spent", "explained": 0.9991}
    assert findings({**quality, "giveaways": [classes, number]}) == [
        "features.path alone tells the label of tasks.category in 99.97% of training rows (always the most frequent "
        "one: 31.24%): leave it out, unless it is known wherever the label is asked for",
        "features.with_tax alone explains 99.91% of the variance of the label of tasks.spent: leave it out, unless it "
        "is known wherever the label is asked for",
    ]
    assert findings(quality) == []


def test_generated_data_raise_no_alarm(tmp_path: Path):
    assert prepare(small_experiment(data__output=str(tmp_path))).quality["giveaways"] == []


def test_real_ratings_raise_no_alarm(tmp_path: Path):
    source = {"kind": "movielens", "variant": "100k"}
    tasks = {
        "rating": "regression",
        "gender": {"kind": "binary", "positive": "F", "masked_input": 0.2},
        "occupation": {"kind": "multiclass", "masked_input": 0.2},
    }
    of_user = {"age": "numeric", "gender": "categorical", "occupation": "categorical", "zip": "categorical"}
    features: dict[str, Any] = {name: {"kind": kind, "entity": "user"} for name, kind in of_user.items()}
    features |= {"genres": {"kind": "multi_categorical", "entity": "item"}, "year": {"kind": "numeric"}}
    tree = {
        **{"name": "ml", "tasks": tasks},
        "data": {"source": source, "raw": str(real_data("ml-100k")), "output": str(tmp_path), "split": "random"},
        "features": {
            "user_id": {"kind": "id", "entity": "user"},
            "item_id": {"kind": "id", "entity": "item"},
            **features,
        },
    }
    assert prepare(parse(tree, "test")).quality["giveaways"] == []


def test_real_reviews_raise_no_alarm(tmp_path: Path):
    reviews = pd.read_parquet(real_data("womens-clothing") / "data.parquet")
    reviews.columns = [name.lower().replace(" ", "_") for name in reviews]
    reviews["review"] = np.arange(len(reviews))
    reviews.to_parquet(tmp_path / "log.parquet")
    names = ("division_name", "department_name", "class_name")
    tree = {
        "name": "reviews",
        "data": {
            "source": {"kind": "table", "interactions": str(tmp_path / "log.parquet")},
            **{"split": "random", "output": str(tmp_path)},
        },
        "features": {
            "review": {"kind": "id", "entity": "user", "embed": False},
            "clothing_id": {"kind": "id", "entity": "item"},
            "title": {"kind": "text"},
            "review_text": {"kind": "text", "max_length": 100},
            **{name: {"kind": "categorical", "entity": "item"} for name in names},
        },
        "tasks": {
            "rating": "regression",
            "recommended": {"kind": "binary", "column": "recommended_ind"},
            "age": "regression",
            "feedback": {"kind": "count", "column": "positive_feedback_count"},
        },
    }
    assert prepare(parse(tree, "test")).quality["giveaways"] == []


def test_real_people_raise_no_alarm(tmp_path: Path):
    people = pd.read_parquet(real_data("adult") / "data.parquet")
    people.columns = [name.replace("-", "_") for name in people]
    people = people.assign(person=np.arange(len(people)), offer=0)
    people.to_parquet(tmp_path / "log.parquet")
    numbers = ("age", "fnlwgt", "educational_num", "capital_gain", "capital_loss", "hours_per_week")
    names = ("workclass", "education", "occupation", "race", "gender", "native_country", "relationship")
    tree = {
        "name": "people",
        "data": {
            "source": {"kind": "table", "interactions": str(tmp_path / "log.parquet")},
            **{"split": "random", "output": str(tmp_path)},
        },
        "features": {
            "person": {"kind": "id", "entity": "user", "embed": False},
            "offer": {"kind": "id", "entity": "item", "embed": False},
            "marital_status": {"kind": "categorical", "entity": "user"},
            **{name: {"kind": "numeric", "entity": "user"} for name in numbers},
            **{name: {"kind": "categorical", "entity": "user"} for name in names},
        },
        "tasks": {
            "income": {"kind": "binary", "positive": ">50K"},
            "never": {"kind": "binary", "column": "marital_status", "positive": "Never-married", "masked_input": 0.3},
        },
    }
    assert prepare(parse(tree, "test")).quality["giveaways"] == []
