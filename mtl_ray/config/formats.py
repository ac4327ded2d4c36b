"""How the cells of a column are written: settings that features and tasks share."""

from typing import Annotated, Literal

from pydantic import model_validator

from mtl_ray.config.base import ENCODED_UNLESS_DEFAULT, Section


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
