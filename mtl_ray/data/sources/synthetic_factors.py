"""The truth planted in the synthetic log: profiles, content, factors, popularity and arrivals; see `synthetic.py`."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtl_ray.config.data import SyntheticSourceConfig

TASKS = ("click", "rating", "purchase")
AFFINITY_SHARE, USER_SHARE, ITEM_SHARE = 0.6, 0.15, 0.25
"""Shares of the variance of an affinity: the product of factors, the level of the user, the level of the item."""
USER_ACTIVITY_EXPONENT = 0.5

GENDERS = ("F", "M")
OCCUPATIONS = (
    *("artist", "clerk", "doctor", "driver", "engineer", "farmer"),
    *("lawyer", "manager", "nurse", "retired", "student", "teacher"),
)
COUNTRIES = ("BR", "CN", "DE", "FR", "IN", "JP", "NG", "US")
CATEGORIES = (
    *("audio", "beauty", "books", "clothes", "food", "games"),
    *("garden", "home", "movies", "office", "sports", "toys"),
)
TAGS = tuple(f"tag{index:02d}" for index in range(20))

# Streams of random numbers, apart from those of the log.
_USERS, _ITEMS = 1, 2
_NUM_BLOCKS = len(TASKS) + 1


@dataclass(frozen=True)
class Population:
    """The users or the items: visible attributes, planted factors, and times of arrival."""

    table: pa.Table
    factors: np.ndarray
    """(entity, block, rank)"""
    levels: np.ndarray
    """(entity, block)"""
    arrival: np.ndarray
    """Share of the time span at which each entity appears; 0 for those that are there from the start."""
    weights: np.ndarray
    """Popularity of each entity."""
    order: np.ndarray
    """The entities by arrival."""
    ordered_arrival: np.ndarray
    cumulative: np.ndarray
    """Sums of the popularity in the order of arrival."""

    def draw(self, random: np.random.Generator, time: np.ndarray) -> np.ndarray:
        """Draw an entity for each instant, by popularity among those that have arrived."""
        num_arrived = np.searchsorted(self.ordered_arrival, time, side="right")
        target = random.random(len(time)) * self.cumulative[num_arrived - 1]
        place = np.searchsorted(self.cumulative, target, side="right")
        return self.order[np.minimum(place, num_arrived - 1)]  # the product above may round up to the sum itself


@dataclass(frozen=True)
class World:
    """The planted truth."""

    users: Population
    items: Population
    mix: np.ndarray
    """(task, block): from the blocks' scores to the affinities."""

    def affinity(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return the affinity of each task for pairs of user and item: (task, pair)."""
        factors = np.einsum("nbr,nbr->bn", self.users.factors[users], self.items.factors[items])
        scores = (
            np.sqrt(AFFINITY_SHARE / self.users.factors.shape[-1]) * factors
            + np.sqrt(USER_SHARE) * self.users.levels[users].T
            + np.sqrt(ITEM_SHARE) * self.items.levels[items].T
        )
        return self.mix @ scores


def peak_bytes(source: SyntheticSourceConfig) -> int:
    """Estimate the bytes that `planted_world` takes at most, from measurements: six arrays of coordinates and names."""
    coordinates = 4 * _NUM_BLOCKS * (source.rank + 1)
    return (source.num_users + source.num_items) * (6 * coordinates + 300)


def planted_world(source: SyntheticSourceConfig) -> World:
    """Return the truth behind the log. It is cached: the chunks of one process generate it once."""
    return _planted_world(source.model_dump_json())


@lru_cache(maxsize=2)
def _planted_world(settings: str) -> World:
    source = SyntheticSourceConfig.model_validate_json(settings)
    random = np.random.default_rng([source.seed, _USERS])
    users = _population(random, source, *_user_content(random, source))
    random = np.random.default_rng([source.seed, _ITEMS])
    items = _population(random, source, *_item_content(random, source))
    # Over all pairs the mean of every score is 0; the covariances follow from those of users and items.
    dot = np.einsum("bkcl,bkcl->bc", _covariance(users.factors), _covariance(items.factors))
    user_levels, item_levels = (_covariance(side.levels[:, :, None])[:, 0, :, 0] for side in (users, items))
    covariance = AFFINITY_SHARE * dot / source.rank + USER_SHARE * user_levels + ITEM_SHARE * item_levels
    covariance += 1e-9 * np.eye(_NUM_BLOCKS)  # a population of one has no variance
    uncorrelated = np.linalg.inv(np.linalg.cholesky(covariance))
    correlated = np.eye(len(TASKS), _NUM_BLOCKS, k=1) * np.sqrt(1 - source.task_correlation)
    correlated[:, 0] = np.sqrt(source.task_correlation)
    # Rounded, so that the labels do not depend on the last bits of a machine's linear algebra.
    return World(users, items, np.round(correlated @ uncorrelated, 6))


def _covariance(factors: np.ndarray) -> np.ndarray:
    """Return the covariances, (block, rank, block, rank), of coordinates whose mean is 0."""
    num_entities, *shape = factors.shape
    flat = factors.reshape(num_entities, -1)
    return (flat.T @ flat / num_entities).astype(np.float64).reshape(*shape, *shape)


def _user_content(random: np.random.Generator, source: SyntheticSourceConfig) -> tuple[pa.Table, np.ndarray]:
    num = source.num_users
    age = random.integers(18, 71, num)
    choices = {"gender": GENDERS, "occupation": OCCUPATIONS, "country": COUNTRIES}
    codes = {name: random.integers(0, len(values), num) for name, values in choices.items()}
    content = _slope(random, source, age)
    for name, values in choices.items():
        content += _effect(random, source, len(values))[codes[name]]
    columns = {name: pa.array(choices[name]).take(pa.array(codes[name])) for name in choices}
    return pa.table({"user_id": entity_names("u", np.arange(num)), "age": pa.array(age), **columns}), content


def _item_content(random: np.random.Generator, source: SyntheticSourceConfig) -> tuple[pa.Table, np.ndarray]:
    num = source.num_items
    category = random.integers(0, len(CATEGORIES), num)
    tags = np.argsort(random.random((num, len(TAGS)), dtype=np.float32), axis=1, kind="stable")[:, :3]
    absent = np.arange(3) >= random.integers(1, 4, num)[:, None]
    log_price = random.normal(3.0, 0.8, num)
    content = _effect(random, source, len(CATEGORIES))[category] + _slope(random, source, log_price)
    tag_effect = _effect(random, source, len(TAGS))
    for place in range(3):
        content += tag_effect[tags[:, place]] * ~absent[:, place, None]
    names = [pa.array(TAGS).take(pa.array(tags[:, place], mask=absent[:, place])) for place in range(3)]
    columns = {
        "item_id": entity_names("i", np.arange(num)),
        "category": pa.array(CATEGORIES).take(pa.array(category)),
        "tags": pc.call_function("binary_join_element_wise", [*names, "|"], pc.JoinOptions(null_handling="skip")),
        "price": pa.array(np.round(np.exp(log_price), 2)),
    }
    return pa.table(columns), content


def _effect(random: np.random.Generator, source: SyntheticSourceConfig, num_values: int) -> np.ndarray:
    """Draw what each value of a category adds to the coordinates: first factors of the blocks, then levels."""
    return random.standard_normal((num_values, _NUM_BLOCKS * (source.rank + 1)), dtype=np.float32)


def _slope(random: np.random.Generator, source: SyntheticSourceConfig, values: np.ndarray) -> np.ndarray:
    return _standard(values[:, None].astype(np.float32)) * _effect(random, source, 1)


def _standard(coordinates: np.ndarray) -> np.ndarray:
    """Standardise coordinates to mean 0 and variance 1 over the entities."""
    coordinates = coordinates - coordinates.mean(axis=0, dtype=np.float64).astype(np.float32)
    return coordinates / np.maximum(coordinates.std(axis=0, dtype=np.float64), 1e-6).astype(np.float32)


def _population(
    random: np.random.Generator, source: SyntheticSourceConfig, table: pa.Table, content: np.ndarray
) -> Population:
    is_users = table.column_names[0] == "user_id"
    exponent = USER_ACTIVITY_EXPONENT if is_users else source.popularity_exponent
    new_share = source.new_user_share if is_users else source.new_item_share
    num, num_coordinates = content.shape
    hidden = _standard(random.standard_normal((num, num_coordinates), dtype=np.float32))
    seen_scale, hidden_scale = np.sqrt(source.content_signal), np.sqrt(1 - source.content_signal)
    coordinates = _standard(np.float32(seen_scale) * _standard(content) + np.float32(hidden_scale) * hidden)
    weights = np.arange(1, num + 1, dtype=np.float64)[random.permutation(num)] ** -exponent
    order = random.permutation(num)
    num_new = min(round(new_share * num), num - 1)  # someone must be there at the first row
    arrival = np.zeros(num)
    arrival[order[num - num_new :]] = np.sort(1 - source.arrival_window * random.random(num_new))
    return Population(
        table=table,
        factors=coordinates[:, : _NUM_BLOCKS * source.rank].reshape(num, _NUM_BLOCKS, source.rank),
        levels=coordinates[:, _NUM_BLOCKS * source.rank :],
        arrival=arrival,
        weights=weights,
        order=order,
        ordered_arrival=arrival[order],
        cumulative=np.cumsum(weights[order]),
    )


def entity_names(prefix: str, codes: np.ndarray) -> pa.Array:
    """Return the ids of the entities with these numbers."""
    return pc.call_function("binary_join_element_wise", [prefix, pa.array(codes).cast(pa.string()), ""])
