"""Generated people with planted traits that a dense vector or an image shows; seeded, chunk by chunk, of any length.

Row g is person g with profile g and nine traits x, uniform with mean 0 and variance 1. They decide the labels by fixed
random directions of length 1:

    age        = 40 + 12 * w_age . x + noise * N(0, 1)                     (neither rounded nor clipped)
    gender     = F with the probability sigmoid(3 * w_gender . x), else M
    occupation ~ softmax(4 * w_k . x), one of 10

Only the content shows the traits, and it shows all of them. So the noise of the labels is all that a model cannot know:

    vector     = tanh(x M / 3), M a fixed random matrix of 9 x `vector_size` standard normal numbers
    photo      : each of three colours is the sum of three patterns of stripes, along rows, columns and diagonals, two
                 pixels on and two pixels off, that begin anywhere. Trait k is the brightness of stripes k: kernels of
                 3 x 3 pixels tell the patterns apart, and what they find does not depend on where the stripes begin.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from mtl_ray.config.data import ProfilesSourceConfig
from mtl_ray.data.sources.base import Raw
from mtl_ray.data.sources.synthetic import expected_auc
from mtl_ray.data.sources.synthetic_factors import GENDERS, OCCUPATIONS, entity_names

GENERATOR_VERSION = 1
"""Raise it with every change that generates other rows for the same settings."""

NUM_TRAITS, NUM_OCCUPATIONS = 9, 10
MEAN_AGE, AGE_SCALE, GENDER_SCALE, OCCUPATION_SCALE = 40.0, 12.0, 3.0, 4.0
SHAPE = (32, 32, 3)
"""Height, width, channels of a photo."""
PERIOD, BRIGHTEST = 4, 85.0
"""Pixels after which stripes repeat, and the largest brightness of a pattern; three patterns add up to 255."""
ACROSS = np.array([[1, 0], [0, 1], [1, 1]])
"""Directions (row, column) across the stripes of a colour."""
START = 1_700_000_000
"""The first instant, in seconds; rows are one second apart."""
ROWS_PER_CHUNK = 4000
FLOOR_ROWS = 200_000

# Streams of random numbers.
_CHUNKS, _TRUTH, _FLOOR = 0, 1, 2


class Truth(NamedTuple):
    """The planted directions."""

    age: np.ndarray
    """(trait,)"""
    gender: np.ndarray
    """(trait,)"""
    occupation: np.ndarray
    """(occupation, trait)"""
    mix: np.ndarray
    """(trait, number of the vector)"""

    def mean_age(self, traits: np.ndarray) -> np.ndarray:
        """Return the mean age, (n,), of (n, trait) traits."""
        return MEAN_AGE + AGE_SCALE * traits @ self.age

    def probability_of_f(self, traits: np.ndarray) -> np.ndarray:
        """Return the probability of the gender F, (n,), of (n, trait) traits."""
        return 1 / (1 + np.exp(-GENDER_SCALE * traits @ self.gender))

    def occupation_probabilities(self, traits: np.ndarray) -> np.ndarray:
        """Return the probabilities, (n, occupation), of (n, trait) traits."""
        odds = np.exp(OCCUPATION_SCALE * traits @ self.occupation.T)
        return odds / odds.sum(1, keepdims=True)


def planted_truth(source: ProfilesSourceConfig) -> Truth:
    """Draw the planted directions; they depend on the seed alone."""
    random = np.random.default_rng([source.seed, _TRUTH])
    directions = random.standard_normal((2 + NUM_OCCUPATIONS, NUM_TRAITS))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    mix = random.standard_normal((NUM_TRAITS, source.vector_size))
    return Truth(directions[0], directions[1], directions[2:], mix)


def open_source(source: ProfilesSourceConfig) -> Raw:
    """Open the log that the settings describe."""
    content = json.dumps({"version": GENERATOR_VERSION, **source.model_dump(mode="json")}, sort_keys=True)
    column = "photo" if source.content == "image" else "vector"
    return Raw(
        chunks=[ProfilesChunk(source, index) for index in range(-(-source.num_profiles // ROWS_PER_CHUNK))],
        columns=("user_id", "profile_id", "timestamp", column, "age", "gender", "occupation"),
        num_rows=source.num_profiles,
        fingerprint=hashlib.sha256(content.encode()).hexdigest(),
        noise_floor=_noise_floor(source),
    )


@dataclass(frozen=True)
class ProfilesChunk:
    """The rows from `index * ROWS_PER_CHUNK` on; they depend only on the settings and the index."""

    source: ProfilesSourceConfig
    index: int

    @property
    def file(self) -> str:
        """Name of the part."""
        return f"part-{self.index:05d}"

    def read(self) -> Iterator[tuple[int, pa.Table]]:
        """Generate the rows, as one table."""
        source, truth = self.source, planted_truth(self.source)
        random = np.random.default_rng([source.seed, _CHUNKS, self.index])
        first = self.index * ROWS_PER_CHUNK
        rows = np.arange(first, min(first + ROWS_PER_CHUNK, source.num_profiles))
        traits = draw_traits(random, len(rows))
        age = truth.mean_age(traits) + source.noise * random.standard_normal(len(rows))
        is_m = (random.random(len(rows)) >= truth.probability_of_f(traits)).astype(np.int8)
        reached = np.cumsum(truth.occupation_probabilities(traits), 1) < random.random((len(rows), 1))
        occupation = np.minimum(reached.sum(1), NUM_OCCUPATIONS - 1)
        if source.content == "image":
            content = {"photo": _lists(draw_photos(random, traits).reshape(len(rows), -1))}
        else:
            content = {"vector": _lists(np.tanh(traits @ truth.mix / 3).astype(np.float32))}
        columns = {
            "user_id": entity_names("u", rows),
            "profile_id": entity_names("p", rows),
            "timestamp": pa.array(START + rows),
            **content,
            "age": pa.array(age.astype(np.float32)),
            "gender": pa.array(GENDERS).take(pa.array(is_m)),
            "occupation": pa.array(OCCUPATIONS).take(pa.array(occupation)),
        }
        yield 1, pa.table(columns)


def draw_traits(random: np.random.Generator, num: int) -> np.ndarray:
    """Draw (num, trait) traits."""
    return np.sqrt(12) * (random.random((num, NUM_TRAITS)) - 0.5)


def draw_photos(random: np.random.Generator, traits: np.ndarray) -> np.ndarray:
    """Draw (n, height, width, channel) uint8 photos that show (n, trait) traits."""
    height, width, channels = SHAPE
    brightness = BRIGHTEST * (traits / np.sqrt(12) + 0.5).reshape(-1, channels, len(ACROSS))
    begins = random.integers(0, PERIOD, brightness.shape)
    places = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"))
    photos = np.zeros((len(traits), *SHAPE), np.float32)
    for k, direction in enumerate(ACROSS):
        place = np.tensordot(direction, places, 1)[None, :, :, None] + begins[:, None, None, :, k]
        photos += brightness[:, None, None, :, k] * (place % PERIOD < PERIOD // 2)
    return np.rint(photos).astype(np.uint8)


def _lists(values: np.ndarray) -> pa.ListArray:
    """Return (n,) lists, one for each row of (n, length) numbers."""
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(values.reshape(-1)))


def _noise_floor(source: ProfilesSourceConfig) -> dict[str, float]:
    """Return the metrics of the true mean and probabilities on a large sample."""
    truth, traits = planted_truth(source), draw_traits(np.random.default_rng([source.seed, _FLOOR]), FLOOR_ROWS)
    return {
        "age/rmse": source.noise,
        "gender/auc": expected_auc(truth.probability_of_f(traits)),
        "occupation/accuracy": float(truth.occupation_probabilities(traits).max(1).mean()),
    }
