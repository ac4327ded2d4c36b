"""`prepare` of a log of events: nothing of it is lost in silence, and it is made anew if rows would differ."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import mtl_ray as mtl
from mtl_ray.data.preparation import parallel
from mtl_ray.data.preparation.findings import findings
from mtl_ray.errors import InputError


@pytest.fixture
def events() -> pd.DataFrame:
    """For each of 60 sessions two views, of which every other becomes a cart, and every fourth an order."""
    rows = [
        (f"u{session % 7}", f"s{session}", f"i{(session + step) % 5}", what, 100 * session + 10 * step + late)
        for session in range(60)
        for step in (0, 1)
        for late, what in enumerate(("view", "cart", "order"))
        if what == "view" or (session + step) % (2 if what == "cart" else 4) == 0
    ]
    return pd.DataFrame(rows, columns=["user", "session", "item", "what", "time"])


def experiment(
    folder: Path, log: str | None = None, data: dict[str, Any] | None = None, **source: Any
) -> mtl.Experiment:
    made = {"event": "what", "unit": ["session"], "labels": {"cart": "cart", "order": "order"}, **source}
    return mtl.Experiment(
        name="shop",
        data={
            "source": {"kind": "events", "events": log, **made},
            **{"time": "time", "split": "random", "output": str(folder / "out"), **(data or {})},
        },
        features={"user": {"kind": "id", "entity": "user"}, "item": {"kind": "id", "entity": "item"}},
        tasks={"cart": "binary", "order": {"kind": "binary", "where": {"cart": 1}}},
    )


def test_events_of_files_and_of_frames_become_rows_once(tmp_path: Path, events: pd.DataFrame):
    events.to_parquet(tmp_path / "interactions", index=False)
    of_files = mtl.prepare(experiment(tmp_path, str(tmp_path / "interactions")))
    of_frames = mtl.prepare(experiment(tmp_path), interactions=events)
    assert not of_frames.reused
    assert of_frames.schema.content_hash == of_files.schema.content_hash
    assert sum(of_frames.schema.num_rows.values()) == of_frames.quality["rows"] == 120
    labels = {name: sum(task.num_labels.values()) for name, task in of_frames.schema.tasks.items()}
    assert labels == {"cart": 120, "order": 60}
    assert of_frames.quality["events"] == {"rows": 210, "bad": 0, "reasons": {}, "examples": []}
    assert mtl.prepare(experiment(tmp_path), interactions=events).reused
    assert not {"events", "rows", "staging"} & {*of_frames.folder.entries()}


def test_this_process_and_the_cluster_make_the_same_rows(
    local_ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: pd.DataFrame
):
    log = pd.concat([events, events.iloc[[20]]])
    made = []
    for limit in (parallel.IN_PROCESS_ROWS, 0):
        monkeypatch.setattr(parallel, "IN_PROCESS_ROWS", limit)
        data = {"bucket_rows": 40, "output": str(tmp_path / str(limit))}
        made.append(mtl.prepare(experiment(tmp_path, data=data), interactions=log))
    here, spread = made
    assert not spread.reused
    assert here.schema == spread.schema
    assert here.quality == spread.quality


def test_other_rows_of_the_same_events_are_another_data_set(tmp_path: Path, events: pd.DataFrame):
    first = mtl.prepare(experiment(tmp_path), interactions=events)
    counted, chained = {"values": {"number": {"by": "count"}}}, {"chain": ["view", "cart", "order"]}
    sources: list[dict[str, Any]] = [counted, chained, {"window": 5}]
    for source in sources:
        other = mtl.prepare(experiment(tmp_path, **source), interactions=events)
        assert other.schema.fingerprint != first.schema.fingerprint


def test_events_that_are_set_aside_are_counted_and_kept(tmp_path: Path, events: pd.DataFrame):
    events.loc[7, "user"] = None
    events.loc[9, "session"] = None
    log = pd.concat([events, events.iloc[[20, 20]]])
    prepared = mtl.prepare(experiment(tmp_path, data={"max_bad_share": 0.1}), interactions=log)
    reasons = {"user is null": 1, "session is null": 1, "repeats an earlier event": 2}
    assert prepared.quality["events"]["reasons"] == reasons
    lines = "\n".join(findings(prepared.quality))
    assert "2 of 212 events (0.9%) set aside: repeats an earlier event (`data.repeats: keep` keeps them)" in lines
    bad = pd.concat([pd.read_parquet(path) for path in sorted((tmp_path / "out").glob("*/quarantine/*.parquet"))])
    assert dict(bad.groupby("reason").size()) == reasons
    assert set(bad.row) == {8, 10, 211, 212}


def test_a_log_with_too_many_bad_events_is_refused_and_its_events_are_kept(tmp_path: Path, events: pd.DataFrame):
    events.loc[:50, "item"] = None
    with pytest.raises(InputError, match=r"^51 of 210 rows are bad .*: 51 x item is null; first: interactions row 1"):
        mtl.prepare(experiment(tmp_path), interactions=events)
    assert len(pd.read_parquet(next((tmp_path / "out").glob("*.rejected/events-*.parquet")))) == 51


def test_an_event_that_occurs_nowhere_is_refused_with_those_that_do(tmp_path: Path, events: pd.DataFrame):
    with pytest.raises(InputError, match=r"labels.order: .*`what`; 'buy' is in no row; .* view \(120\), cart \(60\)"):
        mtl.prepare(experiment(tmp_path, labels={"cart": "cart", "order": "buy"}), interactions=events)
    assert not list((tmp_path / "out").glob("*"))
