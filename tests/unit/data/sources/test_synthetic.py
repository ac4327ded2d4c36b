"""The synthetic log is what its planted model says, chunk by chunk."""

import pickle

import numpy as np
import pyarrow as pa
import pytest

from mtl_ray.config.data import SyntheticSourceConfig
from mtl_ray.data.sources import synthetic
from mtl_ray.data.sources.synthetic import COLUMNS, MEAN_RATING, SPAN, START, expected_auc, open_source
from mtl_ray.data.sources.synthetic_factors import TASKS, planted_world
from mtl_ray.errors import InputError


def log_of(source: SyntheticSourceConfig) -> pa.Table:
    return pa.concat_tables([table for chunk in open_source(source).chunks for _, table in chunk.read()])


def codes(column: pa.ChunkedArray) -> np.ndarray:
    return np.array([int(name[1:]) for name in column.to_pylist()])


def label(log: pa.Table, task: str) -> np.ndarray:
    return log[task].to_numpy().astype(float)


def test_the_same_settings_give_the_same_rows():
    source = SyntheticSourceConfig(num_interactions=5000)
    planted = open_source(source)
    other = open_source(source.model_copy(update={"seed": 1}))
    assert log_of(source).equals(log_of(SyntheticSourceConfig(num_interactions=5000)))
    assert planted.fingerprint == open_source(source).fingerprint
    assert planted.fingerprint != other.fingerprint
    assert not log_of(source).equals(log_of(source.model_copy(update={"seed": 1})))


def test_any_chunk_is_generated_alone(monkeypatch):
    monkeypatch.setattr(synthetic, "ROWS_PER_CHUNK", 1000)
    source = SyntheticSourceConfig(num_interactions=3500)
    chunks = open_source(source).chunks
    assert [chunk.file for chunk in chunks] == ["part-00000", "part-00001", "part-00002", "part-00003"]
    whole = log_of(source)
    (first, last), *more = pickle.loads(pickle.dumps(chunks[3])).read()  # noqa: S301
    assert not more
    assert first == 1
    assert last.equals(whole.slice(3000))
    assert len(whole) == 3500
    assert len(pickle.dumps(chunks[3])) < 2000


def test_columns_and_tables_have_the_documented_names_and_types():
    raw = open_source(SyntheticSourceConfig(num_users=50, num_items=40, num_interactions=300))
    ((_, table),) = raw.chunks[0].read()
    assert tuple(table.column_names) == tuple(raw.columns) == COLUMNS
    types = {name: str(kind) for name, kind in zip(table.schema.names, table.schema.types, strict=True)}
    assert types == {
        **{"user_id": "string", "item_id": "string", "timestamp": "int64"},
        **{"click": "int8", "rating": "float", "purchase": "int8"},
    }
    assert raw.num_rows == 300
    assert raw.users is not None
    assert raw.items is not None
    assert raw.users.column_names == ["user_id", "age", "gender", "occupation", "country"]
    assert raw.items.column_names == ["item_id", "category", "tags", "price"]
    assert (len(raw.users), len(raw.items)) == (50, 40)
    tags = [text.split("|") for text in raw.items["tags"].to_pylist()]
    assert {len(names) for names in tags} == {1, 2, 3}
    assert all(len(set(names)) == len(names) for names in tags)
    assert set(table["user_id"].to_pylist()) <= set(raw.users["user_id"].to_pylist())


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.8, 1.0])
def test_affinities_have_unit_variance_and_the_task_correlation_over_all_pairs(correlation):
    source = SyntheticSourceConfig(num_users=60, num_items=50, task_correlation=correlation)
    users, items = (grid.ravel() for grid in np.meshgrid(np.arange(60), np.arange(50)))
    covariance = np.cov(planted_world(source).affinity(users, items), bias=True)
    expected = np.full((len(TASKS), len(TASKS)), correlation) + (1 - correlation) * np.eye(len(TASKS))
    np.testing.assert_allclose(covariance, expected, atol=1e-4)


@pytest.mark.parametrize(("signal", "low", "high"), [(0.0, 0.0, 0.05), (0.5, 0.45, 0.55), (1.0, 0.99, 1.0)])
def test_profiles_explain_the_content_signal_of_the_factors(signal, low, high):
    population = planted_world(SyntheticSourceConfig(num_users=4000, content_signal=signal)).users
    frame = population.table.to_pandas()
    seen = [np.ones(len(frame)), frame["age"].to_numpy()]
    seen += [(frame[name] == value).to_numpy() for name in frame.columns[2:] for value in frame[name].unique()]
    features = np.stack(seen, axis=1).astype(float)
    factors = population.factors.reshape(len(frame), -1)
    fitted = features @ np.linalg.lstsq(features, factors, rcond=None)[0]
    assert low <= fitted.var() / factors.var() <= high + 1e-6


def test_rating_of_the_true_affinity_has_the_rmse_of_the_noise():
    source = SyntheticSourceConfig(num_interactions=100_000, noise=0.7, label_share={"rating": 1.0})
    log = log_of(source)
    affinity = planted_world(source).affinity(codes(log["user_id"]), codes(log["item_id"]))[TASKS.index("rating")]
    errors = label(log, "rating") - MEAN_RATING - affinity
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(0.7, rel=0.01)
    assert open_source(source).noise_floor["rating/rmse"] == 0.7


@pytest.mark.parametrize("task", ["click", "purchase"])
def test_true_affinity_has_the_auc_of_the_noise_floor(task):
    source = SyntheticSourceConfig(label_share={})
    log = log_of(source)
    affinity = planted_world(source).affinity(codes(log["user_id"]), codes(log["item_id"]))[TASKS.index(task)]
    positive = label(log, task)[np.argsort(affinity)]
    auc = (positive * np.cumsum(1 - positive)).sum() / (positive.sum() * (1 - positive).sum())
    assert open_source(source).noise_floor[f"{task}/auc"] == pytest.approx(auc, abs=0.005)


def testexpected_auc_is_the_mean_of_drawn_aucs():
    probability = np.array([0.1, 0.4, 0.4, 0.9, 0.7])
    random = np.random.default_rng(0)
    above, pairs = 0.0, 0
    for _ in range(4000):
        positive = random.random(5) < probability
        difference = np.subtract.outer(probability[positive], probability[~positive])
        above += (difference > 0).sum() + 0.5 * (difference == 0).sum()
        pairs += difference.size
    assert expected_auc(probability) == pytest.approx(above / pairs, abs=0.01)


def test_new_users_and_items_do_not_appear_before_they_arrive():
    source = SyntheticSourceConfig(num_interactions=50_000, new_user_share=0.3, new_item_share=0.2, arrival_window=0.25)
    log, world = log_of(source), planted_world(source)
    moment = np.arange(len(log)) / len(log)
    for column, population, share in (("user_id", world.users, 0.3), ("item_id", world.items, 0.2)):
        drawn = codes(log[column])
        assert (population.arrival[drawn] <= moment).all()
        new = population.arrival > 0
        assert new.mean() == pytest.approx(share, abs=0.001)
        assert population.arrival[new].min() >= 0.75
        assert len(np.unique(drawn[new[drawn]])) > 0.5 * new.sum()


def test_time_never_goes_back_and_fills_the_span():
    times = log_of(SyntheticSourceConfig(num_interactions=10_000))["timestamp"].to_numpy()
    assert (np.diff(times) >= 0).all()
    assert times[0] == START
    assert times[-1] == pytest.approx(START + SPAN, abs=SPAN / 1000)


@pytest.mark.parametrize("exponent", [0.0, 0.7, 1.0])
def test_item_popularity_falls_with_the_exponent(exponent):
    source = SyntheticSourceConfig(
        num_items=200, num_interactions=200_000, popularity_exponent=exponent, new_item_share=0.0
    )
    drawn = codes(log_of(source)["item_id"])
    weights = planted_world(source).items.weights
    counts = np.bincount(drawn, minlength=200)
    rank = np.argsort(np.argsort(-weights, kind="stable"), kind="stable") + 1
    slope = np.polyfit(np.log(rank), np.log(counts), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.03)


def test_labels_are_present_in_the_shares_and_all_for_a_task_that_is_not_named():
    log = log_of(SyntheticSourceConfig(num_interactions=50_000, label_share={"rating": 0.3, "purchase": 0.0}))
    shares = [1 - log[task].null_count / len(log) for task in TASKS]
    assert shares == pytest.approx([1.0, 0.3, 0.0], abs=0.01)


def test_one_user_and_one_item_are_enough():
    source = SyntheticSourceConfig(num_users=1, num_items=1, num_interactions=10)
    log = log_of(source)
    assert log["user_id"].unique().to_pylist() == ["u0"]
    assert np.isfinite(label(log_of(source.model_copy(update={"label_share": {}})), "rating")).all()


def test_an_empty_log_is_refused():
    with pytest.raises(InputError, match=r"empty log: expected .*num_interactions of at least 1, found 0"):
        open_source(SyntheticSourceConfig(num_interactions=0))


def test_an_unknown_task_is_refused():
    with pytest.raises(InputError, match=r"label_share: expected the tasks click, rating, purchase, found like"):
        open_source(SyntheticSourceConfig(label_share={"like": 0.5}))


def test_any_part_of_a_hundred_million_rows_is_read_without_the_others():
    raw = open_source(SyntheticSourceConfig(num_interactions=100_000_000))
    ((_, table),) = raw.chunks[-1].read()
    assert (len(raw.chunks), len(table)) == (1000, 100_000)
