"""Generated log with planted truth; seeded, chunk by chunk, of any length.

Every user has factors p (coordinates for shared and own tastes, and one for the general level), every item q:

    p = sqrt(content_signal) * W x + sqrt(1 - content_signal) * eps        (each coordinate: mean 0, variance 1)

x is the visible profile (age, gender, occupation, country) or content (category, tags, log price), W a fixed random
map, eps the part that only interactions reveal. The coordinates form one block b that all tasks share and one per task:

    s_b(u, i) = sqrt(0.6) * p_b . q_b / sqrt(rank) + sqrt(0.15) * level_b(u) + sqrt(0.25) * level_b(i)

The four s_b are made exactly uncorrelated with variance 1 over all pairs of user and item; a task's affinity is

    a_t = sqrt(task_correlation) * s_shared + sqrt(1 - task_correlation) * s_t

so the affinities of any two tasks have exactly the correlation `task_correlation` over all pairs. The labels are

    click    ~ Bernoulli(sigmoid(-0.5 + 1.8 * a_click))
    purchase ~ Bernoulli(sigmoid(-1.5 + 1.8 * a_purchase))
    rating   = 3.5 + a_rating + noise * N(0, 1)                            (neither rounded nor clipped)

    harmful  = p_h . q_h / sqrt(rank)     (only if `harmful`; its factors are independent of content and other tasks)

each kept with the probability `label_share[task]` (1 for a task that is not named), else null. Row g of N happens at
the share s = g / N of the time span. Its user and its item are drawn independently among those that have arrived by
then: items in proportion to rank ** -popularity_exponent, users to rank ** -0.5. Ranks are assigned at random.

A process that reads chunks holds the factors once: 144 bytes a user and an item at the default rank.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from mtl_ray.cluster.machine import physical_memory
from mtl_ray.config.data import SyntheticSourceConfig
from mtl_ray.data.sources.base import Raw
from mtl_ray.data.sources.synthetic_factors import TASKS, entity_names, peak_bytes, planted_world
from mtl_ray.errors import InputError

GENERATOR_VERSION = 1
"""Raise it with every change that generates other rows for the same settings."""

COLUMNS = ("user_id", "item_id", "timestamp", *TASKS)
HARMFUL = "harmful"
LOGIT_BIAS = {"click": -0.5, "purchase": -1.5}
LOGIT_SCALE = 1.8
MEAN_RATING = 3.5
START, SPAN = 1_700_000_000, 90 * 24 * 3600
"""The first instant and the length of the log, in seconds."""
ROWS_PER_CHUNK = 100_000
FLOOR_ROWS = 200_000

# Streams of random numbers; those of the planted truth are [seed, 1] and [seed, 2].
_CHUNKS, _FLOOR, _HARMFUL = 0, 3, 4


def open_source(source: SyntheticSourceConfig) -> Raw:
    """Open the log that the settings describe, and generate its tables of users and items.

    Raises:
        InputError: the log would be empty, or `label_share` names a task that is not generated.
    """
    if unknown := sorted(set(source.label_share) - {*TASKS, HARMFUL}):
        raise InputError(
            f"data.source.label_share: expected the tasks {', '.join(TASKS)}, found {', '.join(unknown)}; "
            "rename or remove them"
        )
    if source.num_interactions == 0:
        raise InputError("empty log: expected data.source.num_interactions of at least 1, found 0; raise it")
    needed, memory = peak_bytes(source), physical_memory()
    if needed > memory:
        raise InputError(
            f"data.source: {source.num_users:,} users and {source.num_items:,} items need {needed / 2**30:,.0f} GiB to "
            f"be generated; this machine has {memory / 2**30:,.0f}; lower num_users, num_items or rank"
        )
    num_chunks = -(-source.num_interactions // ROWS_PER_CHUNK)
    world = planted_world(source)
    content = json.dumps({"version": GENERATOR_VERSION, **source.model_dump(mode="json")}, sort_keys=True)
    return Raw(
        chunks=[SyntheticChunk(source, index) for index in range(num_chunks)],
        columns=(*COLUMNS, HARMFUL) if source.harmful else COLUMNS,
        num_rows=source.num_interactions,
        fingerprint=hashlib.sha256(content.encode()).hexdigest(),
        users=world.users.table,
        items=world.items.table,
        noise_floor=_noise_floor(source),
    )


@dataclass(frozen=True)
class SyntheticChunk:
    """The rows from `index * ROWS_PER_CHUNK` on; they depend only on the settings and the index."""

    source: SyntheticSourceConfig
    index: int

    @property
    def file(self) -> str:
        """Name of the part."""
        return f"part-{self.index:05d}"

    def read(self) -> Iterator[tuple[int, pa.Table]]:
        """Generate the rows, as one table."""
        source, world = self.source, planted_world(self.source)
        random = np.random.default_rng([source.seed, _CHUNKS, self.index])
        first = self.index * ROWS_PER_CHUNK
        rows = np.arange(first, min(first + ROWS_PER_CHUNK, source.num_interactions))
        time = rows / source.num_interactions
        users, items = world.users.draw(random, time), world.items.draw(random, time)
        affinity = world.affinity(users, items)
        columns: dict[str, pa.Array] = {
            "user_id": entity_names("u", users),
            "item_id": entity_names("i", items),
            "timestamp": pa.array(START + (time * SPAN).astype(np.int64)),
        }
        for task, a in zip(TASKS, affinity, strict=True):
            if task == "rating":
                label = (MEAN_RATING + a + source.noise * random.standard_normal(len(rows))).astype(np.float32)
            else:
                label = (random.random(len(rows)) < _probability(task, a)).astype(np.int8)
            missing = random.random(len(rows)) >= source.label_share.get(task, 1.0)
            columns[task] = pa.array(label, mask=missing)
        if source.harmful:  # from random streams of its own, so that the rest of the log is the same without it
            p, q = _harmful_factors(source.seed, source.num_users, source.num_items, source.rank)
            label = (p[users] * q[items]).sum(1) / np.sqrt(source.rank)
            missing = np.random.default_rng([source.seed, _HARMFUL, self.index]).random(len(rows)) >= (
                source.label_share.get(HARMFUL, 1.0)
            )
            columns[HARMFUL] = pa.array(label.astype(np.float32), mask=missing)
        yield 1, pa.table(columns)


@lru_cache(maxsize=1)
def _harmful_factors(seed: int, num_users: int, num_items: int, rank: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng([seed, _HARMFUL])
    return random.standard_normal((num_users, rank)), random.standard_normal((num_items, rank))


def _probability(task: str, affinity: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-(LOGIT_BIAS[task] + LOGIT_SCALE * affinity)))


def _noise_floor(source: SyntheticSourceConfig) -> dict[str, float]:
    """Return the metrics of the true means and probabilities on rows drawn like those of the log."""
    world, random = planted_world(source), np.random.default_rng([source.seed, _FLOOR])
    time = random.random(FLOOR_ROWS)
    affinity = world.affinity(world.users.draw(random, time), world.items.draw(random, time))
    floor = {"rating/rmse": source.noise}
    for task in LOGIT_BIAS:
        floor[f"{task}/auc"] = expected_auc(_probability(task, affinity[TASKS.index(task)]))
    return floor


def expected_auc(probability: np.ndarray) -> float:
    """Return the expected share of pairs in which a positive is above a negative, if labels follow the probabilities.

    It is the AUC of drawn labels, without the noise of drawing them.
    """
    p = np.sort(probability)
    negatives_below = np.cumsum(1 - p) - (1 - p)
    return float((p * negatives_below).sum() / (p.sum() * (1 - p).sum() - (p * (1 - p)).sum()))
