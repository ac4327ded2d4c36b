import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl_ray.config.tasks import MultilabelTaskConfig
from mtl_ray.counter_rng import uniform_keys
from mtl_ray.data.encoding import Encoder
from mtl_ray.data.preparation.row_checks import bad_inputs
from mtl_ray.features.text import TextKind
from mtl_ray.schema import FIRST, NULL, PADDING, UNKNOWN, FittedFeature, FittedTask, Schema
from mtl_ray.values.keys import hash_keys, to_keys
from mtl_ray.values.lists import to_lists
from mtl_ray.values.vocabulary import Vocabulary
from tests.support import small_experiment


@pytest.fixture
def encoder() -> Encoder:
    experiment = small_experiment(features__history__values="rating")
    names = ("user_id", "item_id", "gender", "occupation", "category", "tags")
    words = {n: Vocabulary(pa.array([f"{n}{i}" for i in range(4)]), pa.array([9, 5, 2, 1])) for n in names}
    features = {n: FittedFeature(num_embeddings=7) for n in (*names, "history")}
    features["history"] = FittedFeature(num_embeddings=7, mean=3.0, std=2.0)
    features["age"] = FittedFeature(mean=40.0, std=10.0)
    features["price"] = FittedFeature(num_embeddings=6, boundaries=(1.0, 2.0))
    tasks = {n: FittedTask(classes=("a", "b", "c")) for n in experiment.tasks}
    schema = Schema(
        features=features,
        tasks=tasks,
        num_rows={},
        train_offsets=(0,),
        num_lanes=1,
        fingerprint="",
        content_hash="",
    )
    return Encoder(experiment, schema, words)


def test_reserved_rows_of_a_vocabulary(encoder: Encoder):
    keys = pa.array(["user_id0", None, "stranger", "user_id3"])
    assert encoder.vocabularies["user_id"].rows(keys).tolist() == [FIRST, NULL, UNKNOWN, FIRST + 3]
    assert encoder.vocabularies["user_id"].support(keys).tolist() == [9, 0, 0, 1]


def test_missing_columns_count_as_null(encoder: Encoder):
    encoded = encoder.features(pa.table({"user_id": ["user_id1"], "item_id": ["item_id0"]}))
    assert encoded["gender"].tolist() == [NULL]
    assert np.isnan(encoded["age"]).all()
    assert encoded["price"].tolist() == [NULL]
    assert encoded["tags"].tolist() == [[NULL, PADDING, PADDING]]
    assert encoded["history"].tolist() == [[PADDING] * 10]
    assert encoded["history.values"].tolist() == [[0.0] * 10]


def test_histories_keep_the_last_items_oldest_first(encoder: Encoder):
    items = [f"item_id{i % 4}" for i in range(12)]
    table = pa.table({"history": [items, ["never seen"]], "history.values": [list(range(12)), [5.0]]})
    encoded = encoder.features(table)
    assert encoded["history"][0].tolist() == [FIRST + i % 4 for i in range(2, 12)]
    assert encoded["history.values"][0].tolist() == [(i - 3) / 2 for i in range(2, 12)]
    assert encoded["history"][1].tolist() == [UNKNOWN] + [PADDING] * 9
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(["item_id0", "item_id1"]), 2)
    assert encoder.features(pa.table({"history": fixed}))["history"][0].tolist() == [FIRST, FIRST + 1] + [PADDING] * 8


def test_a_history_that_is_no_list_makes_a_bad_row(encoder: Encoder):
    values = pa.array([["1"], ["x"], None])
    rows = pa.table({"history": ["item_id0|item_id1", "", None], "history.values": values})
    found = bad_inputs(encoder.experiment, rows).to_pylist()
    assert found == ["history is not a list", "history.values holds what is not a number", None]
    assert bad_inputs(encoder.experiment, pa.table({"history": pa.nulls(2)})).to_pylist() == [None, None]


def test_numbers_are_standardised_or_cut_into_buckets(encoder: Encoder):
    table = pa.table({"age": ["50", None, "20"], "price": [0.5, 1.0, 7.0]})
    encoded = encoder.features(table)
    assert encoded["age"][[0, 2]].tolist() == [1.0, -2.0]
    assert np.isnan(encoded["age"][1])
    assert encoded["price"].tolist() == [FIRST, FIRST + 1, FIRST + 2]


def test_labels_by_kind(encoder: Encoder):
    table = pa.table(
        {
            "click": ["1", "0", None],
            "rating": [1.5, None, 2.0],
            "purchase": [1, 1, 1],
            "gender": ["F", "M", None],
            "occupation": ["b", "unheard of", None],
            "tags": ["a|c", "", None],
        }
    )
    assert np.array_equal(encoder.label("click", table), [1, 0, np.nan], equal_nan=True)
    assert np.array_equal(encoder.label("rating", table), [1.5, np.nan, 2], equal_nan=True)
    assert np.array_equal(encoder.label("purchase", table), [1, np.nan, np.nan], equal_nan=True)  # where click is 1
    assert np.array_equal(encoder.label("gender", table), [1, 0, np.nan], equal_nan=True)
    assert encoder.label("occupation", table).tolist() == [1, -1, -1]
    assert encoder.label("tags", table).tolist() == [[1, 0, 1], [0, 0, 0], [-1, -1, -1]]


def test_titles_split_into_words():
    lists = to_lists(pa.array(["Toy Story (1995)", "Amélie!", None]), TextKind.separator)
    assert lists.to_pylist() == [["toy", "story", "1995"], ["amélie"], None]


def test_dictionaries_encode_like_plain_columns(encoder: Encoder):
    plain = pa.array(["tags0|tags2", None, "tags1", "tags0|tags2"])
    tables = (pa.table({"tags": column}) for column in (plain, plain.dictionary_encode()))
    assert np.array_equal(*(encoder.features(table, ["tags"])["tags"] for table in tables))


def test_a_number_is_one_key_in_every_type():
    columns = [pa.array([7, None]), pa.array([7.0, float("nan")]), pa.array(["7", " "]), pa.array(["7.0", None])]
    assert [to_keys(column).to_pylist() for column in columns] == [["7", None]] * 4
    assert to_keys(pa.array([1.5])).to_pylist() == ["1.5"]


@given(st.lists(st.one_of(st.none(), st.text(max_size=5)), min_size=1, max_size=20))
def test_sets_drop_blanks_and_keep_order(values: list[str | None]):
    lists = to_lists(pa.array(values, pa.string()), MultilabelTaskConfig().separator)
    for value, found in zip(values, lists.to_pylist(), strict=True):
        expected = None if value is None else [p.strip() for p in value.split("|") if p.strip()]
        if expected is None or all("." not in p for p in expected):
            assert found is None if expected is None else len(found) == len(expected)


def test_draws_are_uniform_and_depend_on_the_seed():
    values = hash_keys(pa.array([f"u{i}" for i in range(20_000)]))
    one, two = uniform_keys(values, 1), uniform_keys(values, 2)
    assert abs(np.quantile(one, [0.1, 0.5, 0.9]) - [0.1, 0.5, 0.9]).max() < 0.02
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.03
