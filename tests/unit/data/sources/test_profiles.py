"""Generated people are what their planted traits say, chunk by chunk."""

import pickle

import numpy as np
import pyarrow as pa
import pytest

from mtl_ray.config.data import ProfilesSourceConfig
from mtl_ray.data.sources import profiles
from mtl_ray.data.sources.profiles import draw_photos, draw_traits, open_source, planted_truth


def rows_of(source: ProfilesSourceConfig) -> pa.Table:
    return pa.concat_tables([table for chunk in open_source(source).chunks for _, table in chunk.read()])


@pytest.mark.parametrize("content", ["vector", "image"])
def test_the_same_settings_give_the_same_rows(content):
    source = ProfilesSourceConfig(content=content, num_profiles=300)
    other = source.model_copy(update={"seed": 1})
    rows = rows_of(source)
    assert rows.equals(rows_of(ProfilesSourceConfig(content=content, num_profiles=300)))
    assert not rows.equals(rows_of(other))
    assert open_source(source).fingerprint == open_source(source).fingerprint != open_source(other).fingerprint


@pytest.mark.parametrize("content", ["vector", "image"])
def test_any_chunk_is_generated_alone(monkeypatch, content):
    monkeypatch.setattr(profiles, "ROWS_PER_CHUNK", 100)
    source = ProfilesSourceConfig(content=content, num_profiles=250)
    chunks = open_source(source).chunks
    assert [chunk.file for chunk in chunks] == ["part-00000", "part-00001", "part-00002"]
    ((first, last),) = pickle.loads(pickle.dumps(chunks[2])).read()  # noqa: S301
    whole = rows_of(source)
    assert first == 1
    assert last.equals(whole.slice(200))
    assert len(whole) == 250


def test_each_row_is_a_person_with_the_documented_columns():
    source = ProfilesSourceConfig(content="image", num_profiles=120)
    rows = rows_of(source)
    assert tuple(rows.column_names) == tuple(open_source(source).columns)
    assert rows.column_names[:4] == ["user_id", "profile_id", "timestamp", "photo"]
    assert len(rows["user_id"].unique()) == len(rows["profile_id"].unique()) == len(rows)
    assert {len(photo) for photo in rows["photo"].to_pylist()} == {32 * 32 * 3}
    vectors = rows_of(ProfilesSourceConfig(vector_size=7, num_profiles=20))["vector"]
    assert {len(vector) for vector in vectors.to_pylist()} == {7}


def test_the_true_mean_and_probabilities_score_the_noise_floor():
    source = ProfilesSourceConfig(num_profiles=40_000, vector_size=9, noise=3.0)
    rows, floor, truth = rows_of(source), open_source(source).noise_floor, planted_truth(source)
    vectors = np.stack(rows["vector"].to_numpy())
    traits = 3 * np.arctanh(vectors.astype(float).clip(-1 + 1e-7, 1 - 1e-7)) @ np.linalg.inv(truth.mix)
    inside = (np.abs(vectors) < 0.999).all(1)  # others are too flat there to invert
    errors = rows["age"].to_numpy() - truth.mean_age(traits)
    assert np.sqrt(np.mean(errors[inside] ** 2)) == pytest.approx(floor["age/rmse"], rel=0.02)
    likely = truth.occupation_probabilities(traits)[inside]
    named = np.array(profiles.OCCUPATIONS)[likely.argmax(1)]
    accuracy = (named == np.array(rows["occupation"].to_pylist())[inside]).mean()
    assert accuracy == pytest.approx(likely.max(1).mean(), abs=0.01)
    assert floor["occupation/accuracy"] == pytest.approx(likely.max(1).mean(), abs=0.03)
    probability = truth.probability_of_f(traits)[inside]
    positive = (np.array(rows["gender"].to_pylist()) == "F")[inside]
    assert positive.mean() == pytest.approx(probability.mean(), abs=0.01)
    ordered = positive[np.argsort(probability)].astype(float)
    auc = (ordered * np.cumsum(1 - ordered)).sum() / (ordered.sum() * (1 - ordered).sum())
    assert auc == pytest.approx(floor["gender/auc"], abs=0.02)


def test_photos_show_the_traits_wherever_their_stripes_begin():
    random = np.random.default_rng(0)
    traits = draw_traits(random, 200)
    photos = draw_photos(random, traits)
    waves = np.abs(np.fft.fft2(photos.astype(float), axes=(1, 2)))
    step = 32 // profiles.PERIOD
    seen = np.stack([waves[:, step * row, step * column] for row, column in profiles.ACROSS], 2).reshape(200, -1)
    for trait in range(profiles.NUM_TRAITS):
        assert np.corrcoef(seen[:, trait], traits[:, trait])[0, 1] > 0.999
    assert photos.max() > 200
