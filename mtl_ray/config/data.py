"""Settings of the log: its source and its split."""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from mtl_ray.config.base import ENCODED_UNLESS_DEFAULT, NOT_ENCODED, Scalar, Section, iso_date, name_alone
from mtl_ray.config.custom import CustomConfig
from mtl_ray.config.formats import ISO, TimeFormats
from mtl_ray.config.tables import EventsSourceConfig, TableSourceConfig

Share = Annotated[float, Field(ge=0, lt=1)]
NULL_WORDS = ("nan", "na", "n/a", "nat", "none", "null", "nil", "-", "--", "?", "\\n", "<na>", "#n/a", "#na")
"""Words that mean "no value" where a number or a time is expected, by default."""

Repeats = Literal["exact", "first", "last", "keep"]

Protocol = Literal[
    "cv5", "cold_user", "cold_item", "cold_both", "cold_user_k5", "cold_user_k10", "cold_item_k10", "profile"
]


Instant = Annotated[float | str, BeforeValidator(iso_date)]
"""An instant in the unit of the time column, or an ISO date or time."""


class SyntheticSourceConfig(Section):
    """A generated log with planted truth; `data/sources/synthetic.py` describes the model."""

    kind: Literal["synthetic"] = "synthetic"
    num_users: PositiveInt = 2000
    num_items: PositiveInt = 1000
    num_interactions: Annotated[int, Field(ge=0, le=10**11)] = 200_000
    rank: PositiveInt = 8
    """Dimension of the planted user and item factors."""
    content_signal: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the variance of the factors that profile and content explain."""
    task_correlation: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Correlation between the planted affinities of any two tasks."""
    popularity_exponent: Annotated[float, Field(ge=0)] = 1.0
    """Item popularity is proportional to rank ** -exponent."""
    new_user_share: Share = 0.15
    """Share of users that arrive in the last part of the time span, see `arrival_window`."""
    new_item_share: Share = 0.1
    arrival_window: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Share of the time span, at its end, in which new users and items arrive."""
    label_share: dict[str, Annotated[float, Field(ge=0, le=1)]] = Field(
        default={"click": 1.0, "rating": 0.3, "purchase": 0.5}
    )
    """Share of rows with a label, by task; which rows is random."""
    noise: Annotated[float, Field(gt=0)] = 0.5
    """Standard deviation of the noise of ratings."""
    harmful: bool = False
    """Adds the label `harmful`: an affinity of users and items that is unrelated to everything else in the log."""
    seed: int = 0


class ProfilesSourceConfig(Section):
    """Generated people, one a row, with a vector or an image that shows age, gender and occupation;
    `data/sources/profiles.py` describes the model."""

    kind: Literal["profiles"] = "profiles"
    content: Literal["vector", "image"] = "vector"
    """The input that shows a person: the column `vector`, or `photo` with 32 x 32 x 3 numbers from 0 to 255."""
    num_profiles: PositiveInt = 10_000
    vector_size: PositiveInt = 100
    """Numbers of each vector."""
    noise: Annotated[float, Field(gt=0)] = 5.0
    """Standard deviation of the noise of ages, in years."""
    seed: int = 0


class MovieLensSourceConfig(Section):
    """MovieLens 100K or 1M as published: the folder or zip `data.raw`; downloaded by default."""

    kind: Literal["movielens"] = "movielens"
    variant: Literal["100k", "1m"] = "100k"
    split: Literal["u1", "u2", "u3", "u4", "u5", "ua", "ub"] | None = None
    """Published split of the 100K data: the log is its base and its test file, for a `predefined` data split."""
    protocol: Protocol | None = None
    """Fixed protocol of the 100K data, read from `folds.parquet` beside `u.data`. The log gets a column `split` for a
    `predefined` data split, with the values `test`, `shown` (interactions of tested entities that are revealed),
    `valid` (the next fold, cut in the same way), `train`, and `rest` (rows that are trained on whenever the `valid`
    rows are). `profile` tests the last interaction of each user of the fold and shows the others: it predicts a user's
    profile from the history."""
    fold: Annotated[int, Field(ge=0, lt=5)] = 0
    """The fold that `protocol` tests."""


class KuaiRandSourceConfig(Section):
    """KuaiRand-Pure: a folder with the log (`val.parquet`, `test.parquet`, or the published CSV) and its tables."""

    kind: Literal["kuairand"] = "kuairand"


class MemorySourceConfig(Section):
    """Frames that a Python program gives: `mtl_ray.train(experiment, interactions=..., users=..., items=...)`."""

    kind: Literal["memory"] = "memory"


class CustomSourceConfig(CustomConfig):
    """A source of your own: a `Source` that is built from its settings."""

    base: ClassVar[str] = "mtl_ray.data.sources.base:Source"


SourceConfig = Annotated[
    SyntheticSourceConfig
    | ProfilesSourceConfig
    | MovieLensSourceConfig
    | KuaiRandSourceConfig
    | TableSourceConfig
    | EventsSourceConfig
    | MemorySourceConfig
    | CustomSourceConfig,
    Field(discriminator="kind"),
]


class RandomSplitConfig(Section):
    """Rows at random, by a draw of the seed, the file and the number of the row."""

    kind: Literal["random"] = "random"
    valid: Share = 0.1
    test: Share = 0.1

    @property
    def has_valid(self) -> bool:
        """True if the split has validation rows."""
        return self.valid > 0


class TimeSplitConfig(Section):
    """Cuts in time, the same for all users: at `valid_from` and `test_from`, or by default so that the last shares of
    the rows are validation and test rows."""

    kind: Literal["time"] = "time"
    valid: Share = 0.1
    test: Share = 0.1
    valid_from: Instant | None = None
    """First instant of the validation rows, in the unit of the time column, or an ISO date; overrides `valid`."""
    test_from: Instant | None = None

    @property
    def has_valid(self) -> bool:
        """True if the split has validation rows."""
        if self.test_from is None:
            return self.valid > 0
        return self.valid_from not in (None, self.test_from)

    @model_validator(mode="after")
    def _both_or_none(self) -> "TimeSplitConfig":
        if self.valid_from is not None and self.test_from is None:
            raise ValueError("expected `test_from` beside `valid_from`; give both, `test_from` alone, or shares")
        return self


class ColdSplitConfig(Section):
    """Whole users or items, or both, are held out: all their rows but the shown ones are evaluation rows."""

    kind: Literal["cold"] = "cold"
    valid_users: Share = 0.1
    test_users: Share = 0.1
    valid_items: Share = 0.0
    test_items: Share = 0.0
    shown_users: NonNegativeInt = 0
    """Few-shot: number of first interactions of each held-out user that are shown; needs `data.time`."""
    shown_items: NonNegativeInt = 0
    """Number of first interactions of each held-out item that are shown; needs `data.time`."""
    evaluated_after: NonNegativeInt = 0
    """Number of first interactions of each held-out user or item that are not evaluated, whether shown or not. With it
    curves over `shown_users` or `shown_items` evaluate the same rows."""
    shown_to: Literal["history", "training"] = "history"
    """`history`: shown interactions are only in histories, and the model is not trained on them. `training`: they are
    training rows."""

    @property
    def has_valid(self) -> bool:
        """True if the split has validation rows."""
        return self.valid_users > 0 or self.valid_items > 0


class PredefinedSplitConfig(Section):
    """The log itself names the split of each row, by a column or by the names of its files."""

    kind: Literal["predefined"] = "predefined"
    column: str | None = None
    """Column that names the split; by default the name of the file does."""
    train: tuple[Scalar, ...] = ("train",)
    """Values of the column, or file names, of training rows."""
    valid: tuple[Scalar, ...] = ()
    test: tuple[Scalar, ...] = ("test",)
    shown: tuple[Scalar, ...] = ()
    """Values of rows that are only in histories: neither trained on nor evaluated."""
    valid_share: Share = 0.0
    """Share of the training rows that become validation rows, at random, if `valid` is empty."""

    @property
    def has_valid(self) -> bool:
        """True if the split has validation rows."""
        return bool(self.valid) or self.valid_share > 0


SplitConfig = Annotated[
    RandomSplitConfig | TimeSplitConfig | ColdSplitConfig | PredefinedSplitConfig, Field(discriminator="kind")
]


class HoldoutConfig(Section):
    """Validation rows that are cut from the training rows of a split without any."""

    kind: Literal["rows", "users", "items", "either", "both", "time"] = "rows"
    """Rows at random; all rows of some users or of some items, or of either; rows of such users with such items; the
    last rows."""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the rows, users or items (with `either` and `both`: of the users, and of the items) held out."""
    kept: Share = 0.0
    """Few-shot: share of the rows of a held-out user or item that are training rows all the same."""


class DataConfig(Section):
    """The log: its source, its split, the rows that are set aside, and the places of what is made of it."""

    source: Annotated[SourceConfig, name_alone(SourceConfig)]
    """The data set, by name (`source: movielens`) or with its settings (`source: {kind: synthetic, ...}`)."""
    raw: Annotated[str | None, NOT_ENCODED] = None
    """Folder, zip or URL of the raw files."""
    time: str | None = None
    """Column with the time of the interaction, a number or a timestamp. Histories and the time split need it."""
    time_format: Annotated[TimeFormats, ENCODED_UNLESS_DEFAULT] = ISO
    """How its texts are written: `iso`, a pattern such as `%d/%m/%Y %H:%M`, or a list of these, tried in turn."""
    row_id: Annotated[str | None, ENCODED_UNLESS_DEFAULT] = None
    """Name of a column that is added to the log, in which each row has a value of its own: the key of users (with
    `embed: false`) where each row is another person, or nobody knows whose rows are one person's."""
    constants: Annotated[dict[str, Scalar], ENCODED_UNLESS_DEFAULT] = Field(default={})
    """Columns that are added to the log, in which all rows have the same value: the key of items where there is but
    one, or the label of a ranking task where the log has nothing but positives."""
    split: Annotated[SplitConfig, name_alone(SplitConfig)] = RandomSplitConfig()
    holdout: Annotated[Annotated[HoldoutConfig, name_alone(HoldoutConfig)] | None, ENCODED_UNLESS_DEFAULT] = None
    """Validation rows, cut from the training rows of the split; see `training.choose_epochs`."""
    seed: Annotated[Annotated[int, Field(ge=0, lt=2**31)] | None, NOT_ENCODED] = None  # see `Experiment.data_seed`
    """Seed of the split; the experiment's seed by default. Give it to vary that seed on the same data set."""
    null_words: Annotated[tuple[str, ...], ENCODED_UNLESS_DEFAULT] = NULL_WORDS
    """Words, in any case, that mean "no value" where a number, a time or a 0/1 label is expected, beside a blank cell
    and NaN. In ids, categories and texts they are values like any other."""
    max_bad_share: Annotated[Share, NOT_ENCODED] = 0.01
    """Largest share of bad rows, not counting repeats; with more, `prepare` stops."""
    min_joined_share: Annotated[Annotated[float, Field(ge=0, le=1)], NOT_ENCODED] = 0.5
    """Smallest share of rows whose user is in the users table, if there is one, and whose item is in the items table;
    with less, `prepare` stops: ids are mostly written in two ways then."""
    output: Annotated[str, NOT_ENCODED] = "datasets"
    """Folder or URL where prepared data sets are kept."""
    cache: Annotated[str, NOT_ENCODED] = "~/.cache/mtl_ray"
    """Folder for downloaded and unpacked raw files."""
    repeats: Annotated[Repeats, ENCODED_UNLESS_DEFAULT] = "exact"
    """Which rows are set aside as repeats. `exact`: those that equal an earlier row in all columns of the log. `first`
    and `last`: all but one of each user, item and time (without `data.time`, of each user and item). `keep`: none."""
    lanes: Annotated[int, Field(ge=1, le=256)] = 16
    """Number of parts that training rows are dealt into; at most so many workers can share them."""
    bucket_rows: PositiveInt = 250_000
    """Approximate rows of a partition of users: the unit of memory, of shuffling and of parallel work."""

    @property
    def needs_frames(self) -> bool:
        """True if the log comes from a Python program, not from files."""
        source = self.source
        return source.kind == "memory" or (isinstance(source, EventsSourceConfig) and source.events is None)

    @model_validator(mode="after")
    def _window(self) -> "DataConfig":
        if isinstance(self.source, EventsSourceConfig) and self.source.window is not None and self.time is None:
            raise ValueError("source.window: expected `time`, the column with the time of an event, beside it")
        return self

    @model_validator(mode="after")
    def _goes_together(self) -> "DataConfig":
        if self.time is None and self.time_format != ISO:
            raise ValueError("time_format: needs `time`, the log's time column")
        if self.holdout and self.split.has_valid:
            raise ValueError("holdout: expected a split without validation rows; `split` has some of its own")
        if self.holdout and self.holdout.kind == "time" and self.time is None:
            raise ValueError("holdout: the last rows need `time`, the log's time column")
        if self.row_id in self.constants:
            raise ValueError(f"constants: expected another column than `row_id`; found `{self.row_id}` in both")
        return self
