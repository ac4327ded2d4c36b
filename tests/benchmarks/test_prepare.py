"""`prepare`: rows per second, peak memory as the log grows, and the same work written by hand in pandas."""

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet as pq
from pandas.util import hash_pandas_object

from mtl_ray.data.sources import open_source
from tests.support import small_experiment

LARGE = int(os.environ.get("MTL_RAY_BENCH_ROWS", "20_000_000"))
SMALL = LARGE // 10
ROOT = Path(__file__).parents[2]
PANDAS = 2_000_000
"""Rows for the comparison with pandas."""
SIZES = {"num_users": 100_000, "num_items": 20_000}
SCRIPT = """
import json, sys, time
from mtl_ray.data.prepare import prepare
from mtl_ray.cluster.session import connect
from tests.support import small_experiment

experiment = small_experiment(**json.loads(sys.argv[1]))
connect()
start = time.perf_counter()
prepared = prepare(experiment)
print(json.dumps([time.perf_counter() - start, prepared.quality["rows"], prepared.folder.location]))
"""


def peak_memory(process: subprocess.Popen, peak: list[int]) -> None:
    """Largest sum of the private and shared memory of the process and all below it, each shared page counted once."""
    root = psutil.Process(process.pid)
    while process.poll() is None:
        total = 0
        for each in [root, *root.children(recursive=True)]:
            try:
                total += each.memory_full_info().pss
            except psutil.Error:
                continue
        peak[0] = max(peak[0], total)
        time.sleep(0.5)


def watched(*arguments: str) -> tuple[Any, int]:
    """The last line that a Python process prints, as JSON, and its peak memory."""
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    peak = [0]
    watcher = threading.Thread(target=peak_memory, args=(process, peak))
    watcher.start()
    output, errors = process.communicate()
    watcher.join()
    assert process.returncode == 0, errors
    return json.loads(output.strip().splitlines()[-1]), peak[0]


def test_memory_does_not_grow_with_the_log(tmp_path: Path, performance):
    """`prepare` of the generated log, its generation included, in a process of its own; memory is the proportional
    share (PSS) of that process and all that Ray starts below it, looked at twice a second. Ray is started before."""
    rates, peaks = {}, {}
    for rows in (SMALL, LARGE):
        source = {"kind": "synthetic", **SIZES, "num_interactions": rows}
        changes = {"data__source": source, "data__bucket_rows": 250_000, "data__output": str(tmp_path / str(rows))}
        (seconds, found, _), peaks[rows] = watched("-c", SCRIPT, json.dumps(changes))
        assert found == rows
        rates[rows] = rows / seconds
    what = f"{LARGE // 10**6} over {SMALL // 10**6} million rows"
    note = f"{peaks[LARGE] / 2**20:,.0f} MiB over {peaks[SMALL] / 2**20:,.0f} MiB"
    performance(f"prepare, peak memory: {what}", peaks[LARGE] / peaks[SMALL], bar=1.3, at_least=False, note=note)
    note = f"{rates[LARGE]:,.0f} rows/s over {rates[SMALL]:,.0f}"
    performance(f"prepare, rows/s: {what}", rates[LARGE] / rates[SMALL], note=note)


def write_log(folder: Path) -> None:
    """The generated log and its tables as Parquet files."""
    source = {"kind": "synthetic", **SIZES, "num_interactions": PANDAS}
    raw = open_source(small_experiment(data__source=source))
    (folder / "log").mkdir(parents=True)
    for number, chunk in enumerate(raw.chunks):
        for _, table in chunk.read():
            pq.write_table(table, folder / f"log/{number:03d}.parquet")
    assert raw.users is not None
    assert raw.items is not None
    pq.write_table(raw.users, folder / "users.parquet")
    pq.write_table(raw.items, folder / "items.parquet")


def rows_of(path: Path) -> pd.Series:
    """Counts of equal encoded rows, by a digest of ids, supports, labels and history; numbers are scaled by statistics
    that are summed in another order."""
    table = pq.read_table(path)
    history = np.array(table.column("history").combine_chunks().flatten()).reshape(len(table), -1)
    names = sorted(n for n in table.column_names if n.endswith((".label", "_support")) or n in CATEGORIES)
    columns = {name: table.column(name).to_numpy() for name in names}
    columns |= {f"history {place}": history[:, place] for place in range(history.shape[1])}
    return hash_pandas_object(pd.DataFrame(columns).fillna(-1), index=False).value_counts().sort_index()


CATEGORIES = ("user_id", "item_id", "gender", "occupation", "category")


def test_prepare_over_a_pandas_script(tmp_path: Path, performance):
    """`prepare` on two cores over `pandas_prepare.py`, which holds all in one process: from 2 million rows in Parquet
    to encoded splits in Parquet, in turn; that the encoded ids, supports, labels and histories are the same is checked.
    Imports and the start of Ray are not counted."""
    raw = tmp_path / "raw"
    write_log(raw)
    times = pq.read_table(raw / "log", columns=["timestamp"]).column(0).to_numpy()
    cuts = [float(cut) for cut in np.quantile(times, [0.8, 0.9])]
    features = {name: {"kind": "categorical", "entity": "user"} for name in ("gender", "occupation")}
    features |= {"user_id": {"kind": "id", "entity": "user"}, "item_id": {"kind": "id", "entity": "item"}}
    features |= {"age": {"kind": "numeric", "entity": "user"}, "price": {"kind": "numeric", "entity": "item"}}
    features["category"] = {"kind": "categorical", "entity": "item"}
    features["history"] = {"kind": "sequence", "of": "item_id", "max_length": 20}
    tasks = {"click": "binary", "rating": "regression", "purchase": {"kind": "binary", "where": {"click": 1}}}
    places = {key: str(raw / name) for key, name in (("interactions", "log"), ("users", "users.parquet"))}
    source = {"kind": "table", **places, "items": str(raw / "items.parquet")}
    changes = {
        "features": features,
        "tasks": tasks,
        "data__source": source,
        "data__split": {"kind": "time", "valid_from": cuts[0], "test_from": cuts[1]},
        "data__bucket_rows": 250_000,
    }
    pairs, peaks, ours = [], [], Path()
    script = str(Path(__file__).with_name("pandas_prepare.py"))
    for repetition in range(3):
        by_hand = tmp_path / f"pandas{repetition}"
        by_hand.mkdir()
        theirs, their_peak = watched(script, str(raw), str(by_hand), *map(str, cuts))
        changes["data__output"] = str(tmp_path / f"ours{repetition}")
        (seconds, _, folder), our_peak = watched("-c", SCRIPT, json.dumps(changes))
        pairs.append((theirs, seconds))
        peaks.append((their_peak, our_peak))
        ours = Path(folder)
        for split in ("train", "valid", "test"):
            assert rows_of(ours / split).equals(rows_of(by_hand / f"{split}.parquet")), split
    theirs, seconds = (statistics.median(each) for each in zip(*pairs, strict=True))
    memory = [f"{max(each) / 2**20:,.0f} MiB" for each in zip(*peaks, strict=True)]
    note = (
        f"{PANDAS / seconds:,.0f} rows/s over {PANDAS / theirs:,.0f}; "
        f"peak memory {memory[1]}, Ray's processes included, and {memory[0]}"
    )
    performance("prepare over a pandas script, rows/s", [a / b for a, b in pairs], bar=1, note=note)
