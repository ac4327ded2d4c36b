"""What a column is, by its values."""

import numpy as np
import pyarrow as pa
import pytest

from mtl_ray.drafting.dates import formats_of, unit_of
from mtl_ray.drafting.facts import facts_of
from mtl_ray.drafting.groups import spared

TITLES = [f"The {word} of number {n}" for n in range(30) for word in ("rise", "fall")]
FORMS = {
    "number": ("age", [str(n) for n in range(40)]),
    "flag": ("seen", ["yes", "no", None, "yes"]),
    "empty": ("nothing", [None, "", None]),
    "constant": ("site", ["shop", None, "shop"]),
    "money": ("price", ["€1,234.50", "$ 12.00", "7.90 €", "1.20"]),
    "date": ("born", ["1990-01-31", "1991-02-28", None]),
    "set": ("tags", ["a|b", "b|c", "a", "c|a"]),
    "text": ("title", TITLES),
    "vector": ("embedding", [[0.1, 0.2, 0.3, -0.4], [0.5, 0.6, 0.7, 0.8]]),
    "image": ("photo", [list(range(192)), list(range(0, 192))[::-1]]),
    "category": ("colour", ["red", "blue", "red"]),
    "nested": ("address", [{"city": "Delft"}, {"city": "Lyon"}]),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_a_column_is_that_of_its_values(form: str):
    name, values = FORMS[form]
    assert facts_of(name, pa.array(values)).form == form


def test_the_order_of_rows_changes_nothing():
    for name, values in FORMS.values():
        one, other = facts_of(name, pa.array(values)), facts_of(name, pa.array(values[::-1]))
        assert (one.form, one.separator, one.size, one.formats) == (
            other.form,
            other.separator,
            other.size,
            other.formats,
        )
        assert one.different.to_pylist() == other.different.to_pylist()
        assert (one.codes == other.codes[::-1]).all()


def test_a_few_words_among_numbers_stand_for_none():
    assert facts_of("age", pa.array(["31", "52", "47", "secret", "28"])).null_words == ("secret",)
    assert facts_of("age", pa.array(["31", "52", "47", "n/a", "28"])).null_words == ()
    assert facts_of("room", pa.array(["31", "52", "47", "28b"])).form == "category"
    assert facts_of("zip", pa.array(["00123", "52000", "47110", "V3N4M"])).form == "category"


def test_what_separates_a_set_is_recognised_and_prose_is_none():
    sets = {"|": "a|b", ";": "a;b", " > ": "a > b", ",": "a,b"}
    for separator, text in sets.items():
        values = pa.array([text, text.replace("a", "c"), text.replace("b", "c"), *[text] * 3, "a", "b", "c"])
        assert facts_of("tags", values).separator == (separator if separator != "," else None) or separator == ","
    many = pa.array([f"{a},{b}" for a in "abcdef" for b in "abcdef"])
    assert facts_of("tags", many).separator == ","
    prose = [f"Well made, for the {n}, and durable in any weather, as all of ours" for n in range(80)]
    assert facts_of("about", pa.array(prose)).form == "text"
    assert facts_of("range", pa.array(["[10,100)", "[100,1000)", "500+"] * 5)).form == "category"


def test_dates_are_read_in_the_formats_that_occur():
    def formats(texts: list[str]) -> tuple[str, ...]:
        return formats_of(texts, np.ones(len(texts), np.int64))

    assert formats(["2026-01-31", "2026-02-28T10:00:00+02:00"]) == ("iso",)
    assert formats(["31/01/2026", "28/02/2026", "01/02/2026"]) == ("%d/%m/%Y",)
    assert formats(["01/31/2026", "02/28/2026"]) == ("%m/%d/%Y",)
    assert formats(["2026-01-31", "2026-01-30", "28/02/2026"]) == ("iso", "%d/%m/%Y")
    assert formats(["01-Jan-1995", "22-Aug-1996"]) == ("%d-%b-%Y",)
    assert formats(["31.01.2026 10:15", "28.02.2026 11:20"]) == ("%d.%m.%Y %H:%M",)
    assert formats(["spring", "summer"]) == ()


def test_the_unit_of_an_instant_is_told_by_its_size():
    start = 1_767_222_000.0
    for unit, size in {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}.items():
        assert unit_of(np.array([start * size, (start + 1e6) * size, np.nan])) == unit
    assert unit_of(np.array([12.0, 20_000.0])) is None
    assert unit_of(np.array([np.nan])) is None


def test_knowing_an_id_spares_the_errors_about_what_belongs_to_it():
    draw = np.random.default_rng(0)
    ids = draw.integers(0, 50, 1000)
    assert spared(ids, ids % 7) == 1.0
    assert spared(ids, draw.integers(0, 7, 1000)) < 0.5
    assert spared(np.arange(1000), ids) == 0.0, "ids that never come again tell nothing"
    assert spared(ids, np.zeros(1000, np.int64)) == 0.0, "a constant belongs to nobody"
    assert spared(ids, np.where(draw.random(1000) < 0.02, 9, ids % 7)) > 0.9, "some exceptions are tolerated"
