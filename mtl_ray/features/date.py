"""A date or a time: how long it was before the row, or its weekday, month or hour."""

import time
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa

from mtl_ray.config.numbers import DateFeatureConfig
from mtl_ray.features.base import FeatureKind
from mtl_ray.features.categorical import CategoryKind
from mtl_ray.features.numeric import NumberKind
from mtl_ray.values.columns import raw_values
from mtl_ray.values.keys import bad_keys
from mtl_ray.values.times import instants, parse_times

DAY = 86_400
SECONDS = {"days": DAY, "years": 365.2425 * DAY}
"""Seconds of what is counted; a year is the mean one of the Gregorian calendar."""

WEEKDAYS = np.array(["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"], dtype=object)


class DateKind(FeatureKind[DateFeatureConfig]):
    """A date or a time, as seconds since 1970."""

    may_lose = True

    @property
    def is_time_of_row(self) -> bool:
        """True if its column is the time of the log, of which a row always has one."""
        return self.request_column == self.around.time

    def read(self, values: pa.Array) -> pa.Array:
        times, _ = self._instants(values, self.around.time_format if self.is_time_of_row else self.config.format)
        return pa.array(times, from_pandas=True)

    def _instants(self, values: pa.Array, formats: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Return (n,) float64 seconds since 1970, NaN for none, and (n,) bool flags of cells that are no instants."""
        times, is_date, wrong = parse_times(values, self.null_words, formats)
        found = np.where(is_date, times, instants(times))
        return found, wrong | (np.isnan(found) & ~np.isnan(times))

    def row_times(self, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
        """Return `_instants` of the rows; a row to be scored that has no time is of now."""
        column, now = self.around.time, time.time()
        if column is None or column not in table.column_names:
            return np.full(len(table), now), np.zeros(len(table), bool)
        times, wrong = self._instants(raw_values(table, column), self.around.time_format)
        return np.where(np.isnan(times), now, times), wrong

    def values(self, table: pa.Table) -> np.ndarray:
        """Return (n,) float64 seconds since 1970, NaN for none."""
        if self.is_time_of_row:
            return self.row_times(table)[0]
        return super().raw(table).to_numpy(zero_copy_only=False)

    def bad_cells(self, table: pa.Table) -> Iterator[tuple[np.ndarray, str]]:
        yield from bad_keys(raw_values(table, self.column_in(table)), self.column)

    def bad_log_cells(self, table: pa.Table) -> Iterator[tuple[np.ndarray, str]]:
        if self.config.is_duration or self.is_time_of_row:
            why = f"{self.around.time} is no date, and no number that counts from 1970"
            yield self.row_times(table)[1], f"{why}, as features.{self.name} needs it"

    bad_request_cells = bad_log_cells

    def mend(self, values: pa.Array) -> None:
        return None


class DateNumberKind(DateKind, NumberKind[DateFeatureConfig]):
    """How long before the row it is."""

    @property
    def quantity(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What is standardised."""
        return f"{self.config.measure} from the value to the time of the row"

    def raw(self, table: pa.Table) -> pa.Array:
        passed = self.row_times(table)[0] - self.values(table)
        return pa.array(passed / SECONDS[self.config.measure], from_pandas=True)

    def input_columns(self) -> list[str]:
        return [*super().input_columns(), *([self.around.time] if self.around.time else [])]


class DateCategoryKind(DateKind, CategoryKind[DateFeatureConfig]):
    """Its weekday, month or hour."""

    def raw(self, table: pa.Table) -> pa.Array:
        values = self.values(table)
        whole = np.floor(np.nan_to_num(values)).astype("datetime64[s]")
        clock = pd.DatetimeIndex(whole).tz_localize("UTC").tz_convert(self.config.zone)
        match self.config.measure:
            case "weekday":
                found = WEEKDAYS[clock.day_of_week]
            case "month":
                found = clock.month.astype(str)
            case _:
                found = clock.hour.astype(str)
        return pa.array(np.asarray(found, dtype=object), pa.string(), mask=np.isnan(values))
