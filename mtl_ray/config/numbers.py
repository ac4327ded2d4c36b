"""Feature kinds that are numbers: a number as it is, and the time from a date to the row."""

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from mtl_ray.config.base import NOT_ENCODED, name_alone
from mtl_ray.config.encoders import LinearNumberConfig, NumberEncoderConfig
from mtl_ray.config.feature_base import FeatureSection
from mtl_ray.config.formats import ISO, NumberFormat, TimeFormats, Zone

if TYPE_CHECKING:
    from mtl_ray.config.experiment import Experiment


class NumberSection(FeatureSection):
    """A feature that becomes a number."""

    buckets: Annotated[int, Field(ge=2, le=1024)] | None = None
    """Largest number of quantile buckets, each with an embedding; a value that fills a bucket has one to itself."""
    encoder: Annotated[NumberEncoderConfig, name_alone(NumberEncoderConfig), NOT_ENCODED] = LinearNumberConfig()
    """How a number that is not cut into buckets becomes a vector."""

    @property
    def is_number(self) -> bool:
        """True if the model reads a number, not a row of an embedding table."""
        return self.buckets is None

    @model_validator(mode="after")
    def _one_way(self) -> "NumberSection":
        if self.buckets is not None and not isinstance(self.encoder, LinearNumberConfig):
            raise ValueError("expected either `buckets` or an `encoder`; found both")
        return self


class NumericFeatureConfig(NumberSection, NumberFormat):
    """A number, as a vector of its value (see `encoder`), or cut into quantile buckets."""

    implementation: ClassVar[str] = "mtl_ray.features.numeric:NumericKind"
    kind: Literal["numeric"] = "numeric"


class DateFeatureConfig(NumberSection):
    """A date or a time: how long it was before the row, as a number, or its weekday, month or hour, as a category."""

    kind: Literal["date"] = "date"
    measure: Literal["years", "days", "weekday", "month", "hour"]
    """`years` and `days` count from the value to the row's time, `data.time`."""
    format: TimeFormats = ISO
    """How it is written: `iso`, a pattern such as `%d/%m/%Y`, or a list of these, tried in turn."""
    zone: Zone = "UTC"
    """The clock, such as `Europe/Berlin`, by which an instant has its weekday, month and hour."""
    min_count: ClassVar[int] = 1
    compression: ClassVar[None] = None

    @property
    def implementation(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The kind of a number, or that of a category."""
        return f"mtl_ray.features.date:{'DateNumberKind' if self.is_duration else 'DateCategoryKind'}"

    @property
    def is_duration(self) -> bool:
        """True if it is how long before the row the value is."""
        return self.measure in ("years", "days")

    @property
    def is_number(self) -> bool:
        return self.is_duration and super().is_number

    @model_validator(mode="after")
    def _read(self) -> "DateFeatureConfig":
        if self.is_duration and self.zone != "UTC":
            raise ValueError(f"zone: `{self.measure}` count from instant to instant, by any clock; leave it out")
        if not self.is_duration and (self.buckets is not None or not isinstance(self.encoder, LinearNumberConfig)):
            raise ValueError(
                f"`buckets` and `encoder` are for numbers, and `{self.measure}` is a category; leave it out"
            )
        return self

    def check(self, name: str, experiment: "Experiment") -> None:
        if self.is_duration and experiment.data.time is None:
            raise ValueError(f"features.{name}.measure: `{self.measure}` count to the time of the row; set `data.time`")
