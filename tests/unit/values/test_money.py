"""Amounts of money read back the number, however people write them."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl_ray.config.formats import NumberFormat
from mtl_ray.values.money import as_numbers, to_amounts

CENTS = st.integers(-10_000_000_00, 10_000_000_00)
SPACE = "\u00a0"


def grouped(cents: int, thousands: str, decimal: str) -> str:
    """The sum in whole units and hundredths, with a minus for a negative one."""
    whole = f"{abs(cents) // 100:,}".replace(",", thousands)
    return f"{'-' if cents < 0 else ''}{whole}{decimal}{abs(cents) % 100:02}"


SHAPES = {
    "€1,234.50": lambda cents: f"{'-' if cents < 0 else ''}€{grouped(abs(cents), ',', '.')}",
    "$ 1234.50": lambda cents: f"$ {grouped(cents, '', '.')}",
    "1.234,50 €": lambda cents: f"{grouped(cents, '.', ',')} €",
    "EUR 1 234,50": lambda cents: f"EUR {grouped(cents, SPACE, ',')}",
    "1'234.50 CHF": lambda cents: f"{grouped(cents, chr(39), '.')}{SPACE}CHF",
}


@pytest.mark.parametrize("decimal", [".", ","])
@given(sums=st.lists(CENTS, min_size=1, max_size=20))
def test_an_amount_of_any_shape_reads_back_the_number(decimal: str, sums: list[int]):
    for shape in SHAPES.values():
        texts = pa.array([shape(cents) for cents in sums])
        assert to_amounts(texts, decimal).to_pylist() == [cents / 100 for cents in sums]


@pytest.mark.parametrize(
    ("text", "point", "comma"),
    [
        ("1.234", 1.234, 1234),
        ("1,234", 1234, 1.234),
        ("0.234", 0.234, 0.234),
        ("0,234", 0.234, 0.234),
        ("1234.567", 1234.567, 1234.567),
        ("12,5", 12.5, 12.5),
        ("1.234.567", 1234567, 1234567),
        ("12,34,567.5 ₹", 1234567.5, 1234567.5),
        ("US$ .50", 0.5, 0.5),
        ("−12 kr.", -12, -12),
        ("+7 Usd", 7, 7),
        ("1e3", 1000, 1000),
        ("$1e30", None, None),
        ("1e30", None, None),
        ("12k", None, None),
        ("12 Mio", None, None),
        ("1.2.3", None, None),
        ("12,50 € / kg", None, None),
        ("--5", None, None),
        ("€", None, None),
        ("free", None, None),
        (" n/a ", None, None),
        ("", None, None),
        (None, None, None),
    ],
)
def test_an_amount_means_what_its_signs_say_and_in_doubt_what_the_setting_says(
    text: str | None, point: float | None, comma: float | None
):
    column = pa.array([text, "1"], pa.string())
    assert [to_amounts(column, decimal)[0].as_py() for decimal in ".,"] == [point, comma]


def test_what_is_no_text_or_has_no_format_stays():
    money, plain = NumberFormat(format="money", decimal=","), NumberFormat()
    assert as_numbers(pa.array([1.234, None]), money).to_pylist() == [1.234, None]
    assert as_numbers(pa.array(["1.234", None]), money).to_pylist() == [1234, None]
    assert as_numbers(pa.array(["1.234", None, "x"]).dictionary_encode(), money).to_pylist() == [1234, None, None]
    assert as_numbers(pa.array(["1.234"]), plain).to_pylist() == ["1.234"]
