"""Where the log comes from and how it is split."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from mtl_ray.config.base import NOT_ENCODED, Section, name_alone

Share = Annotated[float, Field(ge=0, lt=1)]

Protocol = Literal[
    "cv5", "cold_user", "cold_item", "cold_both", "cold_user_k5", "cold_user_k10", "cold_item_k10", "profile"
]


class SyntheticSourceConfig(Section):
    """Seeded log with planted truth; see `data/sources/synthetic.py` for the model that generates it."""

    kind: Literal["synthetic"] = "synthetic"
    num_users: PositiveInt = 2000
    num_items: PositiveInt = 1000
    num_interactions: NonNegativeInt = 200_000
    rank: PositiveInt = 8
    """Dimension of the planted user and item factors."""
    content_signal: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the factors' variance that profile and content explain."""
    task_correlation: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Correlation between the planted affinities of the tasks."""
    popularity_exponent: Annotated[float, Field(ge=0)] = 1.0
    """Item popularity is proportional to rank ** -exponent."""
    new_user_share: Share = 0.15
    """Share of users that arrive in the last `arrival_window` of the time span."""
    new_item_share: Share = 0.1
    arrival_window: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Final part of the time span in which new users and items appear."""
    label_share: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default={"click": 1.0, "rating": 0.3, "purchase": 0.5}
    )
    """Share of rows that carry the label of each task (at random)."""
    noise: Annotated[float, Field(gt=0)] = 0.5
    """Standard deviation of the rating's noise."""
    harmful: bool = False
    """Adds the label `harmful`: an affinity of users and items that has to do with nothing else in the log."""
    seed: int = 0


class ProfilesSourceConfig(Section):
    """Seeded people, one a row, with a vector or an image that shows age, gender and occupation; see
    `data/sources/profiles.py` for the model that generates them."""

    kind: Literal["profiles"] = "profiles"
    content: Literal["vector", "image"] = "vector"
    """What shows a person: the column `vector`, or `photo` with 32 x 32 x 3 numbers from 0 to 255."""
    num_profiles: PositiveInt = 10_000
    vector_size: PositiveInt = 100
    """Numbers of each vector."""
    noise: Annotated[float, Field(gt=0)] = 5.0
    """Standard deviation of the noise of the age, in years."""
    seed: int = 0


class MovieLensSourceConfig(Section):
    """MovieLens 100K or 1M as published: a folder or zip given by `data.raw`, else downloaded."""

    kind: Literal["movielens"] = "movielens"
    variant: Literal["100k", "1m"] = "100k"
    split: Literal["u1", "u2", "u3", "u4", "u5", "ua", "ub"] | None = None
    """Published split of the 100K data: the log is then its base and test file, for a `predefined` data split."""
    protocol: Protocol | None = None
    """Fixed protocol of the 100K data, read from `folds.parquet` beside `u.data`: the log then has a column `split`
    with the values `test`, `shown` (interactions of tested entities that are revealed), `valid` (the next fold, cut in
    the same way), `train`, and `rest` (rows that train when `valid` does), for a `predefined` data split. `profile`
    tests the last interaction of each user of the fold and shows the others: its user's profile from its history."""
    fold: Annotated[int, Field(ge=0, lt=5)] = 0
    """The fold that `protocol` tests."""


class KuaiRandSourceConfig(Section):
    """KuaiRand-Pure: a folder with the log (`val.parquet`, `test.parquet`, or the published CSV) and its tables."""

    kind: Literal["kuairand"] = "kuairand"


class TableSourceConfig(Section):
    """The user's own log, Parquet or CSV: a file, a folder or a glob, local or any URL that pyarrow opens.

    `data.raw`, when given, is the folder that relative paths start from.
    """

    kind: Literal["table"] = "table"
    interactions: str
    """The log; user and item key columns are those of the `id` features."""
    users: str | None = None
    """Table of user attributes, keyed by the user id column."""
    items: str | None = None


SourceConfig = Annotated[
    SyntheticSourceConfig | ProfilesSourceConfig | MovieLensSourceConfig | KuaiRandSourceConfig | TableSourceConfig,
    Field(discriminator="kind"),
]


class RandomSplitConfig(Section):
    kind: Literal["random"] = "random"
    valid: Share = 0.1
    test: Share = 0.1


class TimeSplitConfig(Section):
    """Global cuts in time: train before `valid_from`, test from `test_from` on; or the last shares of the rows."""

    kind: Literal["time"] = "time"
    valid: Share = 0.1
    test: Share = 0.1
    valid_from: float | str | None = None
    """First instant of the validation rows, in the unit of the time column (or an ISO date); overrides `valid`."""
    test_from: float | str | None = None

    @model_validator(mode="after")
    def _both_or_none(self) -> "TimeSplitConfig":
        if self.valid_from is not None and self.test_from is None:
            raise ValueError("expected `test_from` beside `valid_from`; give both, `test_from` alone, or shares")
        return self


class ColdSplitConfig(Section):
    """Holds out whole users and/or items: all their rows but the shown ones are evaluation rows."""

    kind: Literal["cold"] = "cold"
    valid_users: Share = 0.1
    test_users: Share = 0.1
    valid_items: Share = 0.0
    test_items: Share = 0.0
    shown_users: NonNegativeInt = 0
    """Few-shot: the first so many interactions of each held-out user are shown; needs `data.time`."""
    shown_items: NonNegativeInt = 0
    """The same of each held-out item."""
    evaluated_after: NonNegativeInt = 0
    """So many first interactions of each held-out user or item are not evaluated, whether shown or not: curves over
    `shown_users` or `shown_items` are then of the same rows."""
    shown_to: Literal["history", "training"] = "history"
    """Whether shown interactions are in histories alone, so that the model meets their entities without training on
    them, or are training rows."""


class PredefinedSplitConfig(Section):
    """The log says itself: by the values of a column, or by the names of the files."""

    kind: Literal["predefined"] = "predefined"
    column: str | None = None
    """Column that names the split; None splits by file name."""
    train: tuple[str, ...] = ("train",)
    """Values of the column (or file names) that are training rows."""
    valid: tuple[str, ...] = ()
    test: tuple[str, ...] = ("test",)
    shown: tuple[str, ...] = ()
    """Rows that are in histories alone: neither training rows nor evaluated."""
    valid_share: Share = 0.0
    """Share of the training rows to cut out at random for validation, when no value names validation rows."""


SplitConfig = Annotated[
    RandomSplitConfig | TimeSplitConfig | ColdSplitConfig | PredefinedSplitConfig, Field(discriminator="kind")
]


class DataConfig(Section):
    source: Annotated[SourceConfig, name_alone(SourceConfig)]
    """The data set, by name (`source: movielens`) or with its settings (`source: {kind: synthetic, ...}`)."""
    raw: Annotated[str | None, NOT_ENCODED] = None
    """Where the raw files are: folder, zip or URL."""
    time: str | None = None
    """Column of the time of the interaction: a number or a timestamp. Needed by histories and by the time split."""
    split: Annotated[SplitConfig, name_alone(SplitConfig)] = RandomSplitConfig()
    seed: Annotated[Annotated[int, Field(ge=0, lt=2**31)] | None, NOT_ENCODED] = None  # see `Experiment.data_seed`
    """Seed of the split; the experiment's seed by default. Give it to vary that seed on one fixed data set."""
    max_bad_share: Annotated[Share, NOT_ENCODED] = 0.01
    """More bad rows than this share stop `prepare`."""
    output: Annotated[str, NOT_ENCODED] = "datasets"
    """Folder (or URL) under which prepared data sets are kept."""
    cache: Annotated[str, NOT_ENCODED] = "~/.cache/mtl_ray"
    """Folder for downloaded and unpacked raw files."""
    lanes: Annotated[int, Field(ge=1, le=256)] = 16
    """Parts of every bucket's training rows; the most workers that can share them."""
    bucket_rows: PositiveInt = 250_000
    """Approximate rows of one bucket of users: the unit of memory, of shuffling and of parallel work."""
