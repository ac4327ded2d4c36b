"""What the quality report counts, what is said of it, and what is refused because of it."""

from collections import Counter
from typing import Any

import numpy as np
import pytest

from mtl_ray.config import override
from mtl_ray.data.preparation.empty_splits import refuse_empty_splits
from mtl_ray.data.preparation.findings import findings, refuse_lost_join
from mtl_ray.data.preparation.fit import FitStatistics
from mtl_ray.data.preparation.quality_report import count_staged, quality_report
from mtl_ray.errors import InputError
from mtl_ray.storage import Folder
from tests.support import small_experiment

QUALITY: dict[str, Any] = {
    **{"rows": 100, "bad": 0, "reasons": {}, "splits": {"train": 60, "valid": 10, "test": 10}, "in_no_split": 15},
    **{"shown_in_histories": 5, "mended": {}, "unknown_entities": {}, "constant": []},
    "label_share": {"click": {"train": 0.5, "valid": 0.0, "test": 0.0}},
}
"""80 rows in the splits, 100 used."""


def lost(column: str, cells: int, number: int) -> dict[str, Any]:
    return {"column": column, "cells": cells, "lost": number, "examples": ["'a' (log row 1)"]}


def found(whole: bool = True, **changes: Any) -> list[str]:
    return findings({**QUALITY, "in_no_split": 0, "shown_in_histories": 20, **changes}, whole=whole)


def test_a_sound_data_set_has_no_finding():
    assert found() == []


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({"label_share": {"click": {"train": 0.0}}}, ["tasks.click: no training row has a label"]),
        ({"splits": {"train": 80, "valid": 0, "test": 1}}, ["no row is a validation row"]),
        ({"splits": {"train": 80, "valid": 1, "test": 0}}, ["no row is a test row"]),
        ({"constant": ["age"]}, ["features.age has the same value in all training rows, or none"]),
        ({"constant": ["x.label"]}, ["the label of tasks.x has the same value in all training rows, or none"]),
        ({"in_no_split": 25}, ["25 of 125 rows (20.0%) in no split: neither trained on nor evaluated"]),
        ({"unknown_entities": {"user not in the users table": 0}}, []),
        ({"unknown_entities": {"user not in x": 1}}, ["1 of 100 rows (1.0%) user not in x"]),
        (
            {"reasons": {"a is null": 2, "b": 5}},
            ["5 of 100 rows (5.0%) set aside: b", "2 of 100 rows (2.0%) set aside: a is null"],
        ),
        (
            {"reasons": {"repeats an earlier row": 7, "b": 1}},
            [
                "1 of 100 rows (1.0%) set aside: b",
                "7 of 100 rows (7.0%) set aside: repeats an earlier row (`data.repeats: keep` keeps them)",
            ],
        ),
        (
            {"mended": {"users.id is repeated": 1, "users.id is null": 2, "users.age is not a finite number": 3000}},
            [
                "3,000 x users.age is not a finite number: read as null",
                "2 x users.id is null: the row is left out",
                "1 x users.id is repeated: the first row counts",
            ],
        ),
        (
            {"lost": {"tasks.x": lost("x", 4, 1), "tasks.y": lost("z", 4, 2), "features.w": lost("w", 4, 0)}},
            [
                "2 of 4 cells (50.0%) of `z` cannot be read by tasks.y.format, such as 'a' (log row 1): read as null",
                "1 of 4 cells (25.0%) of `x` cannot be read by tasks.x.format, such as 'a' (log row 1): read as null",
            ],
        ),
        ({"unmapped": ["features.x.map.a"]}, ["in no row: features.x.map.a: correct these values, or leave them out"]),
    ],
)
def test_each_finding_is_a_line_with_its_share(changes: dict[str, Any], lines: list[str]):
    assert found(**changes) == lines


@pytest.mark.parametrize(("count", "first"), [(51, True), (50, False)])
def test_a_join_that_loses_more_than_half_comes_first(count: int, first: bool):
    lines = found(unknown_entities={"item not in the items table": count, "user not in x": 3}, constant=["age"])
    assert (lines[0].startswith(f"{count} of 100 rows")) == first
    assert len(lines) == 3
    assert lines[-1] == "3 of 100 rows (3.0%) user not in x"


def test_the_first_rows_of_a_log_are_in_no_split():
    assert found(whole=False, splits={"train": 80, "valid": 0, "test": 0}, in_no_split=20) == []


@pytest.mark.parametrize(("count", "refused"), [(50, False), (51, True)])
def test_a_join_finds_at_least_the_share_that_is_asked_for(count: int, refused: bool):
    quality = {**QUALITY, "unknown_entities": {"user not in the users table": count}}
    if not refused:
        refuse_lost_join(small_experiment(), quality)
        return
    with pytest.raises(
        InputError, match=r"data\.source\.users: 49 of 100 rows \(49\.0%\) find their user .* expected 50%"
    ):
        refuse_lost_join(small_experiment(), quality)


def test_a_lost_join_shows_three_ids_of_each_side():
    quality = {**QUALITY, "unknown_entities": {"item not in the items table": 99}}
    with pytest.raises(InputError) as told:
        refuse_lost_join(small_experiment(), quality, {"item": list("abcd")}, {"item": list("vwxyz")})
    assert "; the log has ids such as `a`, `b`, `c`; the table has ids such as `v`, `w`, `x`; write" in str(told.value)
    with pytest.raises(InputError) as told:
        refuse_lost_join(small_experiment(), quality, {"user": ["a"]})
    assert "such as" not in str(told.value)


def test_without_a_row_no_join_is_lost():
    none = {"splits": {"train": 0}, "in_no_split": 0, "shown_in_histories": 0}
    refuse_lost_join(small_experiment(), {**QUALITY, **none, "unknown_entities": {"user not in x": 0}})


def piece(rows: int, **reasons: int) -> dict[str, Any]:
    examples = [f"row {number}" for number in range(sum(reasons.values()))]
    return {"rows": rows, "reasons": reasons, "examples": examples, "lost": {}}


def quarantine(folder: Folder) -> tuple[Folder, Folder]:
    aside = folder / "aside"
    (aside / "quarantine").create()
    return aside, folder / "target"


def test_counts_of_the_pieces_add_up(tmp_path):
    aside, target = quarantine(Folder(str(tmp_path)))
    experiment = small_experiment(data__max_bad_share=0.5)
    assert count_staged(experiment, [piece(10, a=3), piece(5, a=1, b=3)], aside, target) == {
        **{"rows": 15, "bad": 7, "reasons": {"a": 4, "b": 3}},
        "examples": ["row 0", "row 1", "row 2", "row 0", "row 1"],
        "lost": {},
    }
    with pytest.raises(InputError, match="the log is empty"):
        count_staged(experiment, [piece(0)], aside, target)


@pytest.mark.parametrize(
    ("bad", "rows", "share", "refused"),
    [(1, 100, 0.01, False), (2, 100, 0.01, True), (0, 100, 0.0, False), (1, 100, 0.0, True), (5, 5, 0.99, True)],
)
def test_a_log_with_more_bad_rows_than_allowed_or_bad_rows_alone_is_refused(tmp_path, bad, rows, share, refused):
    aside, target = quarantine(Folder(str(tmp_path)))
    experiment = small_experiment(data__max_bad_share=share)
    if not refused:
        count_staged(experiment, [piece(rows, a=bad)], aside, target)
        assert (tmp_path / "aside/quarantine").exists()
        return
    with pytest.raises(InputError, match=rf"{bad} of {rows} rows are bad .*: {bad} x a; first: row 0"):
        count_staged(experiment, [piece(rows, a=bad)], aside, target)
    assert (tmp_path / "target.rejected").exists()


def test_the_report_has_the_rows_of_each_split_and_shares_of_labels():
    total = FitStatistics(
        num_rows=[np.array([6, 2, 1, 3, 4]), np.array([2, 0, 0, 1, 0])],
        labels=Counter({("click", "train"): 2, ("click", "valid"): 1}),
        issues=Counter({"lost": 2}),
        num_duplicates=3,
        duplicates=["row 9"],
    )
    experiment = small_experiment()
    staged = {"rows": 23, "reasons": {"a": 1}, "examples": ["row 1"], "lost": {}}
    found = quality_report(experiment, staged, total, {"m": 1})
    assert found["splits"] == {"train": 8, "valid": 2, "test": 1}
    assert (found["in_no_split"], found["shown_in_histories"], found["rows"], found["bad"]) == (4, 4, 23, 4)
    assert found["reasons"] == {"a": 1, "repeats an earlier row": 3}
    assert found["examples"] == ["row 1", "row 9"]
    assert found["label_share"]["click"] == {"train": 0.25, "valid": 0.5, "test": 0.0}
    assert (found["unknown_entities"], found["mended"], found["repeats"]) == ({"lost": 2}, {"m": 1}, "exact")
    without = quality_report(experiment, {**staged, "reasons": {}}, FitStatistics(total.num_rows), {})
    assert (without["reasons"], without["bad"]) == ({}, 0)


@pytest.mark.parametrize(
    ("split", "valid", "test", "setting"),
    [
        ({"kind": "random"}, 0, 1, "valid: 0.1"),
        ({"kind": "random"}, 1, 0, "test: 0.1"),
        ({"kind": "random", "valid": 0}, 0, 1, None),
        ({"kind": "random", "test": 0}, 1, 0, None),
        ({"kind": "time"}, 0, 1, "valid: 0.1"),
        ({"kind": "time", "test": 0}, 1, 0, None),
        ({"kind": "time", "test_from": 5}, 0, 1, None),
        ({"kind": "time", "test_from": 5}, 1, 0, "test_from: 5.0"),
        ({"kind": "time", "test_from": 5, "valid_from": 5}, 0, 1, None),
        ({"kind": "time", "test_from": 5, "valid_from": 4}, 0, 1, "valid_from: 4.0"),
        ({"kind": "cold"}, 0, 1, "valid_users: 0.1"),
        ({"kind": "cold", "test_items": 0.2}, 1, 0, "test_users: 0.1, test_items: 0.2"),
        ({"kind": "cold", "valid_users": 0}, 0, 1, None),
        ({"kind": "predefined"}, 0, 0, None),
        ({"kind": "predefined", "test": ["late"]}, 0, 0, r"test: \['late'\]"),
        ({"kind": "predefined", "valid": ["dev"], "valid_share": 0.1}, 0, 1, r"valid: \['dev'\]"),
        ({"kind": "predefined", "valid_share": 0.1}, 0, 1, "valid_share: 0.1"),
    ],
)
def test_a_split_that_is_asked_for_has_rows(split: dict, valid: int, test: int, setting: str | None):
    experiment, rows = (
        override(small_experiment(), {"data.split": split}),
        {"train": 1000, "valid": valid, "test": test},
    )
    if setting is None:
        refuse_empty_splits(experiment, rows)
        return
    with pytest.raises(
        InputError, match=rf"rows \({setting}\), found none \(1,000 train, {valid} valid, {test} test\)"
    ):
        refuse_empty_splits(experiment, rows)
