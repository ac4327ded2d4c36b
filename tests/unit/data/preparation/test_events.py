"""Rows made of events: those of the script that people write, whatever the order and the pieces of the log."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mtl_ray.config import Experiment, parse
from mtl_ray.data.preparation import passes
from mtl_ray.data.preparation.events import first_rows, make_rows
from mtl_ray.data.preparation.side_tables import raw_columns
from mtl_ray.data.sources import files, open_source
from mtl_ray.errors import InputError
from mtl_ray.storage import Folder
from mtl_ray.values.partition import FILE, ROW

KEY = ["user", "session", "item"]
LABELS = {"cart": "cart", "purchase": ["purchase", "order"]}


def experiment(source: dict[str, Any] | None = None, *read: str, **data: Any) -> Experiment:
    """An experiment whose tasks are some columns of the rows, or its features, if they are named with a `+`."""
    source = {"kind": "events", "event": "what", "unit": ["session"], "labels": LABELS, **(source or {})}
    ids = {name: {"kind": "id", "entity": name} for name in ("user", "item")}
    context = {name.strip("+"): {"kind": "categorical"} for name in read if "+" in name}
    tasks = {name: "regression" for name in read if "+" not in name} or {next(iter(source["labels"])): "regression"}
    tree = {"name": "shop", "data": {"source": source, "time": "time", "max_bad_share": 0.5, **data}}
    return parse({**tree, "features": ids | context, "tasks": tasks}, "test")


def made(settings: Experiment, events: pd.DataFrame | None = None) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The rows of events, and what is said of these."""
    raw = open_source(settings, events)
    log, report, is_whole = first_rows(settings, raw, raw_columns(settings, raw), 10**6)
    assert is_whole
    return pd.concat([table.to_pandas() for chunk in log.chunks for _, table in chunk.read()]), report


def few(lines: str, **columns: Any) -> pd.DataFrame:
    """Events `user item what time`, each in a session of its own user."""
    cells = [line.split() for line in lines.strip().splitlines()]
    frame = pd.DataFrame(cells, columns=["user", "item", "what", "time"]).astype({"time": float})
    return frame.assign(session=frame.user, **columns)


@pytest.fixture
def events() -> pd.DataFrame:
    """A messy log: zones, blanks, events without user or time, some twice, in the order of their times."""
    random, number = np.random.default_rng(5), 500
    instants = pd.Timestamp("2026-03-01", tz="UTC") + pd.to_timedelta(np.sort(random.permutation(9000)[:number]), "s")
    zones = random.choice(["Europe/Paris", "Asia/Tokyo", "UTC"], number)
    frame = pd.DataFrame(
        {
            "user": [f"u{n}" for n in random.integers(9, size=number)],
            "session": [f"s{n}" for n in random.integers(3, size=number)],
            "item": random.integers(6, size=number).astype(str),
            "what": random.choice(["view", "cart", "purchase", "order"], number, p=[0.7, 0.15, 0.1, 0.05]),
            "time": [at.tz_convert(zone).isoformat() for at, zone in zip(instants, zones, strict=True)],
            "device": np.array(["tv", "phone, old", "", None])[random.integers(4, size=number)],
            "note": random.integers(100, size=number).astype(str),
        }
    )
    frame.loc[random.integers(number, size=9), "user"] = None
    frame.loc[random.integers(number, size=9), "time"] = "0000-00-00"
    return pd.concat([frame, frame.sample(20, random_state=1)], ignore_index=True)


def of_pandas(events: pd.DataFrame) -> pd.DataFrame:
    """What people write to make the rows."""
    events = events.drop_duplicates()
    events = events.assign(at=pd.to_datetime(events.time, utc=True, errors="coerce", format="ISO8601"))
    events = events.dropna(subset=["at", "user", "item"])
    events["device"] = events.device.replace("", None)
    events["what"] = events.what.replace("order", "purchase")
    flags = pd.crosstab([events[key] for key in KEY], events.what).clip(upper=1).reset_index()
    first = events.sort_values("at").groupby(KEY, as_index=False).first()[[*KEY, "time", "device"]]
    return first.merge(flags, on=KEY)


def sorted_rows(rows: pd.DataFrame) -> list[tuple[Any, ...]]:
    whole = rows[["user", "session", "item", "time", "device", "cart", "purchase"]].astype(object)
    return sorted(map(tuple, whole.where(whole.notna(), "").to_numpy().tolist()))


READ = ("session+", "device+", "cart", "purchase")


def test_rows_are_those_of_the_pandas_script(tmp_path: Path, events: pd.DataFrame):
    events.to_csv(tmp_path / "log.csv", index=False)
    rows, report = made(experiment({"events": str(tmp_path / "log.csv")}, *READ))
    expected = of_pandas(events)
    assert len(rows) == len(expected)
    assert rows[["cart", "purchase"]].sum().tolist() == expected[["cart", "purchase"]].sum().tolist()
    assert sorted_rows(rows) == sorted_rows(expected)
    good = events[events.user.notna() & (events.time != "0000-00-00")]
    assert report["rows"] == len(events)
    assert report["bad"] == len(events) - len(good.drop_duplicates())
    assert report["reasons"]["repeats an earlier event"] == len(good) - len(good.drop_duplicates())
    assert {"user is null", "time is not a number"} < report["reasons"].keys()


def test_the_order_of_events_in_the_log_does_not_matter(events: pd.DataFrame):
    first, report = made(experiment(None, *READ), events)
    other, again = made(experiment(None, *READ), events.sample(frac=1, random_state=3))
    assert sorted_rows(other) == sorted_rows(first)
    assert again["reasons"] == report["reasons"]


def test_pieces_and_partitions_change_nothing(tmp_path: Path, events: pd.DataFrame, monkeypatch: pytest.MonkeyPatch):
    events.to_parquet(tmp_path / "log.parquet", row_group_size=40)
    found = []
    for number, (piece_rows, bucket_rows) in enumerate([(1_000_000, 1000), (90, 70), (90, 1000)]):
        monkeypatch.setattr(passes, "PIECE_ROWS", piece_rows)
        monkeypatch.setattr(files, "ROWS_PER_CHUNK", piece_rows)
        source = {"events": str(tmp_path / "log.parquet")}
        settings = experiment(source, *READ, bucket_rows=bucket_rows, output=str(tmp_path))
        raw, aside = open_source(settings), Folder(str(tmp_path / str(number)))
        log, report = make_rows(settings, raw, raw_columns(settings, raw), aside, aside, map, print)
        tables = [table.to_pandas() for chunk in log.chunks for _, table in chunk.read()]
        rows = pd.concat(tables).sort_values([FILE, ROW]).fillna("").to_dict("records")
        assert len(tables) == (1 if bucket_rows == 1000 else len(list((tmp_path / str(number) / "rows").iterdir())))
        found.append((log.num_rows, report["rows"], report["reasons"], rows))
    assert found[0] == found[1] == found[2]
    assert len(list((tmp_path / "1/rows").iterdir())) > 3
    assert len(list((tmp_path / "1/quarantine").glob("events-*"))) > 3


def test_a_later_step_of_a_chain_implies_the_earlier_ones():
    log = few("u a view 1\n u b order 2\n v a cart 3\n v b view 4")
    source = {"labels": {"buys": ["purchase", "order"]}, "chain": ["view", "cart", "buys"]}
    rows, _ = made(experiment(source, "cart", "buys", "view"), pd.concat([log, few("w a purchase 5")]))
    assert rows[["view", "cart", "buys"]].to_numpy().tolist() == [[1, 0, 0], [1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]]


def test_an_event_beyond_the_window_of_its_first_begins_another_row():
    log = few("u a view 0\n u a cart 10\n u a view 11\n u a purchase 21\n u a view 22\n v a order 12")
    rows, _ = made(experiment({"window": 10}, "cart", "purchase"), log)
    assert rows[["user", "time", "cart", "purchase"]].to_numpy().tolist() == [
        ["u", 0, 1, 0],
        ["u", 11, 0, 1],
        ["v", 12, 0, 1],
        ["u", 22, 0, 0],
    ]


def test_numbers_are_made_of_the_events_that_are_meant():
    log = few("u a purchase 3\n u a purchase 1\n u a view 2\n v a view 4\n u a order 5\n v a cart 9")
    log["price"] = ["2.5", "4", "no price yet", None, "NaN", None]
    bought = {"column": "price", "of": ["purchase", "order"]}
    ways = ("sum", "mean", "max", "first", "last", "count")
    values = {by: {**bought, "by": by} for by in ways}
    values |= {"all": {"by": "count"}, "views": {"of": "view", "by": "count"}}
    rows, _ = made(experiment({"values": values}, *values), log)
    assert rows[[*ways, "all", "views"]].fillna(-1).to_numpy().tolist() == [
        [6.5, 3.25, 4, 4, 2.5, 2, 4, 1],
        [-1, -1, -1, -1, -1, 0, 2, 1],
    ]


def test_a_number_that_cannot_be_read_makes_an_event_bad_where_it_is_meant():
    log = few(
        "u a purchase 1\n u a view 2\n v a purchase 3\n v a cart 4\n v a order 5", price=["x", "y", "1", "2", "3"]
    )
    rows, report = made(experiment({"values": {"paid": {"column": "price", "of": "purchase"}}}, "paid"), log)
    assert report["reasons"] == {"price is not a number": 1}
    assert rows.paid.fillna(-1).tolist() == [-1, 1]


def test_repeats_count_where_they_are_kept():
    log = pd.concat([few("u a purchase 1\n u a cart 2\n u a order 3")] * 2)
    source = {"values": {"number": {"by": "count"}}}
    assert made(experiment(source, "number"), log)[0].number.tolist() == [3]
    assert made(experiment(source, "number", repeats="keep"), log)[0].number.tolist() == [6]


def test_numbers_of_events_may_be_amounts_of_money():
    prices = ["€1,234.50", "12,50 €", "free", "", "?"]
    log = few("u a purchase 1\n u a order 2\n v b purchase 3\n v c cart 4\n v d order 5", price=prices)
    values = {"paid": {"column": "price", "format": "money"}}
    rows, report = made(experiment({"values": values}, "paid"), log)
    assert rows.paid.fillna(-1).tolist() == [1247.0, -1, -1]
    assert report["reasons"] == {"price is not a number": 1}


def test_a_row_has_the_first_values_and_the_place_of_its_first_event():
    log = few("u a cart 5\n u a purchase 3\n v a order 4\n u a view 4", device=["tv", " ", "phone", None])
    rows, _ = made(experiment(None, "device+"), log)
    assert rows[["user", "time", "device", FILE, ROW]].to_numpy().tolist() == [
        ["u", 3, "tv", "interactions", 2],
        ["v", 4, "phone", "interactions", 3],
    ]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"labels": {"cart": "crat"}}, r"labels.cart: expected a value .* `what`; 'crat' is in no row; .* view \(2"),
        ({"chain": ["view", "cart", "pay"]}, r"data.source.labels.pay: .* 'pay' is in no row"),
        ({"values": {"n": {"of": "buy", "by": "count"}}}, r"data.source.values.n.of: expected .* 'buy' is in no row"),
        ({"event": "wat"}, r"^data.source.event: expected a column `wat`; the events have .*; did you mean `what`\?"),
        ({"unit": ["day"]}, r"^data.source.unit: expected a column `day`"),
        ({"values": {"n": {"column": "cost"}}}, r"^data.source.values.n.column: expected a column `cost`"),
        ({"labels": {"time": "cart"}}, r"^data.source.labels.time: expected a name that no column of the events has"),
        ({"values": {"cart": {"by": "count"}}}, r"values.cart: expected a name that no label has"),
        ({"values": {"n": {}}}, r"expected a `column` of numbers for `by: sum`"),
        ({"event": None}, r"expected `event`, the column that names what happened"),
        ({"unit": ["session", "session"]}, r"unit: expected different names"),
        ({"labels": {"cart": []}}, r"labels.cart: expected at least one value"),
    ],
)
def test_settings_that_no_event_can_fulfil_are_one_line(source: dict[str, Any], message: str):
    log = few("u a view 1\n u a cart 2\n v b purchase 3\n v b order 4\n w b view 5")
    with pytest.raises(InputError, match=message) as caught:
        made(experiment(source), log)
    assert "\n" not in str(caught.value)


def test_a_window_needs_times():
    with pytest.raises(InputError, match="expected `time`, the column with the time of an event"):
        experiment({"window": 5}, time=None)


def test_a_log_without_a_usable_event_says_why():
    with pytest.raises(InputError, match=r"no usable event among its first: 2 x time is not a number"):
        made(experiment(), few("u a cart 1\n u a order 2").assign(time="soon"))


def test_a_frame_is_asked_for_where_no_path_is_given():
    with pytest.raises(InputError, match=r"`events` without a path stands for frames .*\{kind: events, events: FILE\}"):
        open_source(experiment())
    with pytest.raises(InputError, match=r"interactions: expected no frames beside `data.source: events`"):
        open_source(experiment({"events": "log.csv"}), pd.DataFrame())
