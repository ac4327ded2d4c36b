"""How the cells of a column are written: settings that features and tasks share."""

from datetime import datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from mtl_ray.config.base import ENCODED_UNLESS_DEFAULT, Section, iso_date


def _name(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("expected a text; found true or false, as which YAML reads yes, no, on and off: use quotes")
    return str(value) if isinstance(value, int | float) else iso_date(value)


Written = Annotated[str, BeforeValidator(_name)]
Meant = Annotated[str, BeforeValidator(_name, json_schema_input_type=str | int | float)]
"""A value of a column of categories, as the experiment file names it."""


def _known_format(text: str) -> str:
    if text != "iso":
        try:
            datetime.strptime(datetime(2000, 1, 1).strftime(text), text)
        except ValueError as error:
            raise ValueError(f"expected `iso` or a pattern such as %d/%m/%Y; found {text!r}: {error}") from None
        if "%" not in text:
            raise ValueError(f"expected `iso` or a pattern such as %d/%m/%Y; found {text!r}")
    return text


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"expected a time zone such as Europe/Berlin; found {name!r}") from None
    return name


TimeFormat = Annotated[str, AfterValidator(_known_format)]
_Formats = Annotated[tuple[TimeFormat, ...], Field(min_length=1)]
TimeFormats = Annotated[
    _Formats,
    BeforeValidator(
        lambda value: (value,) if isinstance(value, str) else value, json_schema_input_type=_Formats | TimeFormat
    ),
]
"""How times are written: `iso` (ISO 8601), patterns of `strptime`, or several of these, tried in turn."""

ISO = ("iso",)

Zone = Annotated[str, AfterValidator(_known_zone)]
"""A time zone of the IANA database."""


class NumberFormat(Section):
    """How a number is written."""

    format: Annotated[Literal["money"] | None, ENCODED_UNLESS_DEFAULT] = None
    """`money`: an amount such as `€1,234.50`, `1.234,50 EUR` or `-$ 12`; a cell that is none is read as null and
    counted. By default a plain number, and any other cell makes a bad row."""
    decimal: Annotated[Literal[".", ","], ENCODED_UNLESS_DEFAULT] = "."
    """Decimal sign of amounts that can be read in two ways, such as `1.234`."""

    @model_validator(mode="after")
    def _of_amounts(self) -> "NumberFormat":
        if self.format is None and self.decimal != ".":
            raise ValueError("decimal: needs `format: money`; plain numbers have a point")
        return self


class Spelling(Section):
    """How categories are written."""

    case: Annotated[Literal["fold"] | None, ENCODED_UNLESS_DEFAULT] = None
    """`fold`: values that differ in case, or in spaces around them, are one."""
    map: Annotated[dict[Written, Meant | None] | None, ENCODED_UNLESS_DEFAULT] = None
    """Names of values that are written in several ways, as in `{female: f, femal: f}`, and null for those that mean
    nothing. `case` folds cells and keys first."""

    @property
    def is_set(self) -> bool:
        """True if some value is not read as it is written."""
        return self.case is not None or bool(self.map)
