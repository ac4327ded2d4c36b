"""Attributes come from the table of their entity, whatever names its columns share with other tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtl_ray.config import Experiment, parse
from mtl_ray.config.columns import request_columns
from mtl_ray.data.dataset import Prepared
from mtl_ray.data.encoding import Encoder
from mtl_ray.data.item_catalog import ITEMS
from mtl_ray.data.preparation.findings import findings
from mtl_ray.data.preparation.write import RAW_TEST
from mtl_ray.data.prepare import prepare
from mtl_ray.errors import InputError
from mtl_ray.features.base import feature_kinds
from mtl_ray.values.vocabulary import read_vocabularies
from mtl_ray.workflows.plan import plan

IDS: dict[str, Any] = {"user": {"kind": "id", "entity": "user"}, "item": {"kind": "id", "entity": "item"}}
USER_COUNTRY = {"kind": "categorical", "entity": "user", "column": "country"}
ITEM_COUNTRY = {"kind": "categorical", "entity": "item", "column": "country"}


def log(num_rows: int = 120) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    ids = {"user": rng.integers(0, 12, num_rows), "item": rng.integers(0, 9, num_rows)}
    return pd.DataFrame({**ids, "time": np.arange(num_rows), "click": rng.integers(0, 2, num_rows)})


USERS = pd.DataFrame({"user": range(12), "country": ["NL", "BE", "FR"] * 4})
ITEMS_TABLE = pd.DataFrame({"item": range(9), "country": ["US", "IN", "CN"] * 3})


def experiment(folder: Path, features: dict[str, Any], tables: dict[str, pd.DataFrame], **data: Any) -> Experiment:
    for name, frame in tables.items():
        frame.to_parquet(folder / f"{name}.parquet", index=False)
    source = {"kind": "table", **{name: f"{name}.parquet" for name in tables}}
    own = {"source": source, "raw": str(folder), "output": str(folder / "out"), "time": "time", "split": "time"}
    return parse(
        {"name": "shop", "data": {**own, **data}, "features": {**IDS, **features}, "tasks": {"click": "binary"}}, "test"
    )


def known(prepared: Prepared, name: str) -> list[str]:
    words = prepared.folder.read_table("vocabulary.parquet").to_pandas()
    return sorted(words[words.feature == name].value)


def encoded(prepared: Prepared, of: Experiment, table: pa.Table) -> dict[str, np.ndarray]:
    return Encoder(of, prepared.schema, read_vocabularies(prepared.folder, list(of.features))).features(table)


def test_users_and_items_may_have_columns_of_one_name(tmp_path: Path):
    tables = {"interactions": log(), "users": USERS, "items": ITEMS_TABLE}
    ours = experiment(tmp_path, {"from": USER_COUNTRY, "made_in": ITEM_COUNTRY}, tables)
    prepared = prepare(ours)
    assert known(prepared, "from") == ["BE", "FR", "NL"]
    assert known(prepared, "made_in") == ["CN", "IN", "US"]
    raw = pq.read_table(str(Path(prepared.folder.path) / RAW_TEST))
    assert raw.column("user.country").to_pylist() == [USERS.country[u] for u in raw.column("user").to_pylist()]
    assert raw.column("item.country").to_pylist() == [ITEMS_TABLE.country[i] for i in raw.column("item").to_pylist()]
    columns = {name: column for kind in feature_kinds(ours).values() for name, column in [(kind.name, kind)]}
    assert columns["from"].input_columns() == ["user.country"]
    again = encoded(prepared, ours, raw)
    test = pq.read_table(str(Path(prepared.folder.path) / "test"))
    for name in ("from", "made_in"):
        assert sorted(again[name]) == sorted(test.column(name).to_pylist())
    items = prepared.folder.read_table(ITEMS)
    assert (encoded(prepared, ours, items)["made_in"] >= 3).all(), "a table of items calls its column by its plain name"


@pytest.mark.parametrize("also_read", [False, True], ids=["only the table's", "both"])
def test_the_table_of_an_entity_comes_before_the_log(tmp_path: Path, also_read: bool):
    tables = {"interactions": log().assign(country="XX"), "items": ITEMS_TABLE}
    features: dict[str, Any] = {"made_in": ITEM_COUNTRY}
    features |= {"seen_in": {"kind": "categorical", "column": "country"}} if also_read else {}
    ours = experiment(tmp_path, features, tables)
    prepared = prepare(ours)
    assert known(prepared, "made_in") == ["CN", "IN", "US"]
    assert request_columns(ours.features, ours.data.time)["made_in"] == ("item.country" if also_read else "country")
    if also_read:
        assert known(prepared, "seen_in") == ["XX"]


def test_a_column_that_nothing_reads_does_not_hide_another_of_its_name(tmp_path: Path):
    tables = {"interactions": log(), "users": USERS, "items": ITEMS_TABLE}
    prepared = prepare(experiment(tmp_path, {"made_in": ITEM_COUNTRY}, tables))
    assert known(prepared, "made_in") == ["CN", "IN", "US"]


def test_a_number_of_one_table_is_not_asked_of_the_text_of_another(tmp_path: Path):
    sizes = pd.DataFrame({"item": range(9), "size": [float(n) for n in range(9)]})
    tables = {"interactions": log().assign(size="XL"), "users": USERS.assign(size="tall"), "items": sizes}
    features = {
        "length": {"kind": "numeric", "entity": "item", "column": "size"},
        "height": {"kind": "categorical", "entity": "user", "column": "size"},
    }
    prepared = prepare(experiment(tmp_path, features, tables))
    assert prepared.quality["bad"] == 0
    assert prepared.quality["mended"] == {}
    assert known(prepared, "height") == ["tall"]
    assert prepared.schema.features["length"].std > 1


def test_the_time_of_the_log_is_not_that_of_a_table(tmp_path: Path):
    tables = {"interactions": log(), "users": USERS.assign(time=7.0)}
    ours = experiment(tmp_path, {"since": {"kind": "numeric", "entity": "user", "column": "time"}}, tables)
    prepared = prepare(ours)
    assert prepared.schema.features["since"].mean == 7
    raw = pq.read_table(str(Path(prepared.folder.path) / RAW_TEST))
    assert min(raw.column("time").to_pylist()) > 90
    assert set(raw.column("user.time").to_pylist()) == {7.0}


AGE = {"age": {"kind": "numeric", "entity": "user"}}


def differently_written(folder: Path, **data: Any) -> Experiment:
    """The log says 0003 where the table says 3."""
    rows = log()
    tables = {"interactions": rows.assign(user=rows.user.map("{:04d}".format)), "users": USERS.assign(age=USERS.user)}
    return experiment(folder, AGE, tables, **data)


def test_a_join_that_finds_nothing_is_refused_with_ids_of_both(tmp_path: Path):
    for command in (prepare, plan):
        with pytest.raises(InputError) as caught:
            command(differently_written(tmp_path))
        message = str(caught.value)
        assert "data.source.users: 0 of 120 rows (0.0%) find their user in the table" in message
        assert "the log has ids such as `00" in message
        assert "the table has ids such as `0`, `1`, `2`" in message
        assert "\n" not in message


def test_a_setting_allows_it_and_it_is_the_first_finding(tmp_path: Path):
    ours = differently_written(tmp_path, min_joined_share=0.0)
    found = plan(ours).findings
    assert found[0] == "120 of 120 rows (100.0%) user not in the users table"
    prepared = prepare(ours)
    assert findings(prepared.quality)[:2] == [found[0], "features.age has the same value in all training rows, or none"]
    with pytest.raises(InputError, match="min_joined_share"):
        prepare(differently_written(tmp_path))  # the same data set, which is there already
    assert plan(ours).findings[0] == found[0]


def test_a_join_that_finds_half_of_the_rows_is_a_lesser_finding(tmp_path: Path):
    tables = {"interactions": log().assign(kind="x"), "users": USERS.assign(age=USERS.user)[:7]}
    doubled = pd.concat([tables["users"], tables["users"].assign(age=99)])
    prepared = prepare(experiment(tmp_path, AGE | {"kind": {"kind": "categorical"}}, tables | {"users": doubled}))
    constant, joined, repeated = findings(prepared.quality)
    assert constant == "features.kind has the same value in all training rows, or none"
    assert joined.endswith(f"of 120 rows ({(log().user >= 7).mean():.1%}) user not in the users table")
    assert repeated == "7 x users.user is repeated: the first row counts"


def test_findings_say_in_words_and_numbers_what_is_lost_the_gravest_first():
    quality = {
        "rows": 1000,
        "splits": {"train": 400, "valid": 0, "test": 100},
        "in_no_split": 400,
        "shown_in_histories": 0,
        "unknown_entities": {"item not in the items table": 10, "user not in the users table": 0},
        "label_share": {"click": {"train": 1.0}, "buy": {"train": 0.0}},
        "constant": ["age", "click.label"],
        "reasons": {"repeats an earlier row": 90, "user is null": 10},
        "mended": {"items.price is not a finite number": 3},
    }
    assert findings(quality) == [
        "tasks.buy: no training row has a label",
        "no row is a validation row",
        "features.age has the same value in all training rows, or none",
        "the label of tasks.click has the same value in all training rows, or none",
        "400 of 900 rows (44.4%) in no split: neither trained on nor evaluated",
        "10 of 900 rows (1.1%) item not in the items table",
        "10 of 1,000 rows (1.0%) set aside: user is null",
        "90 of 1,000 rows (9.0%) set aside: repeats an earlier row (`data.repeats: keep` keeps them)",
        "3 x items.price is not a finite number: read as null",
    ]
