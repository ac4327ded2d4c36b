"""Batch scoring of synthetic rows: rows per second beside a plain loop over the same model, peak memory, and a job
that is killed in the middle and goes on; and the best items for one profile.

MTL_RAY_BENCH_ROWS sets the number of rows, 20 million by default; with few of them the start of Ray's processes counts.
"""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from mtl_ray.cluster.session import connect
from mtl_ray.data.prepare import prepare
from mtl_ray.models import checkpoint
from mtl_ray.scoring.recommender import Recommender
from mtl_ray.scoring.scorer import Scorer
from mtl_ray.training.trainer import Trainer
from mtl_ray.values.vocabulary import VOCABULARY
from tests.benchmarks.test_evaluation import seconds
from tests.benchmarks.test_prepare import peak_memory
from tests.support import shard, small_experiment

NUM_ROWS = int(os.environ.get("MTL_RAY_BENCH_ROWS", "20_000_000"))
FILE_ROWS = 1_000_000
PLAIN_ROWS = min(NUM_ROWS, FILE_ROWS)
ROOT = Path(__file__).parents[2]

PLAIN = """
import sys, time
from pathlib import Path
import pyarrow as pa, pyarrow.parquet as pq
from mtl_ray.scoring.scorer import Scorer

scorer = Scorer(Path(sys.argv[1]))
output, rows, began = Path(sys.argv[3]), 0, time.perf_counter()
for number, batch in enumerate(pq.ParquetFile(sys.argv[2]).iter_batches(100_000)):
    table = pa.table(batch)
    scores = scorer.score(table)
    columns = {f"predicted_{name}": pa.array(values) for name, values in scores.items()}
    result = pa.table({"request": table.column("request"), **columns})
    pq.write_table(result, output / f"{number}.parquet", compression="zstd")
    rows += len(table)
print(rows / (time.perf_counter() - began))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """The model of `make demo`, trained for a moment."""
    import ray

    experiment = small_experiment(
        data__source__num_users=20_000,
        data__source__num_items=5_000,
        data__source__num_interactions=100_000,
        data__bucket_rows=50_000,
        data__output=str(tmp_path_factory.mktemp("datasets")),
        model__embedding_dim=16,
        model__encoder__hidden=[128, 64],
        model__tower__hidden=[32],
        training__precision="float32",
        tasks__gender=None,
        tasks__occupation=None,
        tasks__tags=None,
    )
    connect()
    prepared = prepare(experiment)
    ray.shutdown()
    trainer = Trainer(experiment, prepared.schema, torch.device("cpu"))
    trainer.epoch(shard(prepared, "train"))
    folder = tmp_path_factory.mktemp("model")
    checkpoint.save(folder, experiment, prepared.schema, trainer.model, {})
    prepared.folder.copy_to(VOCABULARY, folder / VOCABULARY)
    return folder


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
    """Users of whom half are known, with profiles and histories, in files of a million rows."""
    folder = tmp_path_factory.mktemp("rows")
    random = np.random.default_rng(0)

    def texts(prefix: str, high: int, size: int) -> pa.Array:
        values = pa.array([f"{prefix}{i}" for i in range(high)])
        return values.take(pa.array(random.integers(0, high, size)))

    for number, first in enumerate(range(0, NUM_ROWS, FILE_ROWS)):
        size = min(FILE_ROWS, NUM_ROWS - first)
        lengths = random.integers(0, 11, size)
        offsets = pa.array(np.concatenate([[0], lengths.cumsum()]).astype(np.int32))
        table = pa.table(
            {
                "request": first + np.arange(size),
                "user_id": texts("u", 40_000, size),
                "item_id": texts("i", 6_000, size),
                "age": random.integers(18, 80, size),
                "gender": texts("g", 3, size),
                "occupation": texts("o", 10, size),
                "category": texts("c", 20, size),
                "tags": texts("t", 30, size),
                "price": random.random(size) * 100,
                "history": pa.ListArray.from_arrays(offsets, texts("i", 6_000, int(lengths.sum()))),
            }
        )
        pq.write_table(table, folder / f"{number:03d}.parquet", row_group_size=100_000)
    return folder


def start(model: Path, rows: Path, output: Path, result: Path) -> subprocess.Popen:
    arguments = ["predict", str(model), "--input", str(rows), "--output", str(output), "--keys", "request"]
    command = [sys.executable, "-m", "mtl_ray.cli", *arguments, "--json", str(result)]
    # A group of its own, so that it can be killed with all that it started.
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)


def plain_loop(model: Path, rows: Path, folder: Path) -> float:
    """Rows per second of one process that scores the first file."""
    (folder / "plain").mkdir(exist_ok=True)
    command = [sys.executable, "-c", PLAIN, model, rows / "000.parquet", folder / "plain"]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def test_scoring_keeps_up_with_a_plain_loop_in_bounded_memory_and_survives_a_kill(
    model, rows, tmp_path: Path, performance
):
    before = plain_loop(model, rows, tmp_path)
    output, result = tmp_path / "out", tmp_path / "result.json"
    killed = start(model, rows, output, result)
    notes = tmp_path / "out.partial" / "_done"
    num_chunks = sum(-(-pq.read_metadata(path).num_rows // 300_000) for path in rows.iterdir())
    while len(list(notes.glob("*.json"))) < num_chunks // 3:
        assert killed.poll() is None, "finished, or failed, before it could be killed"
        time.sleep(0.2)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    done_before = len(list(notes.glob("*.json")))
    assert not output.exists()

    peak = [0]
    resumed = start(model, rows, output, result)
    watcher = threading.Thread(target=peak_memory, args=(resumed, peak))
    watcher.start()
    assert resumed.wait() == 0
    watcher.join()
    found = json.loads(result.read_text())
    requests = pq.read_table(output, columns=["request"]).column("request").to_numpy()
    assert len(requests) == found["rows"] == NUM_ROWS
    assert (np.sort(requests) == np.arange(NUM_ROWS)).all()
    ours, after = found["rows_per_second"], plain_loop(model, rows, tmp_path)
    plain = max(before, after)
    note = (
        f"{ours:,.0f} rows/s ({NUM_ROWS:,} rows, killed after {done_before} chunks and resumed) over {plain:,.0f} "
        f"({PLAIN_ROWS:,} rows, all threads of torch); peak memory {peak[0] / 2**20:,.0f} MiB with Ray's own processes"
    )
    shutil.rmtree(output)
    performance("batch scoring over a plain loop, rows/s", ours / plain, bar=0.8, note=note)


def test_the_best_items_over_a_scoring_of_their_rows(model, performance):
    """Time of the ten best of 5,000 items for a profile, over that of scoring the profile's 5,000 raw rows, in turn:
    the candidates are encoded once, not for each profile."""
    number, profile = 5_000, {"age": 33, "gender": "g1", "history": ["i1", "i2"]}
    items = pa.table(
        {
            "item_id": [f"i{n}" for n in range(number)],
            "category": [f"c{n % 20}" for n in range(number)],
            "tags": [f"t{n % 30}" for n in range(number)],
            "price": np.arange(number) % 100,
        }
    )
    rows = pa.Table.from_pylist([{**profile, **item} for item in items.to_pylist()])
    recommender, scorer = Recommender(model, items, "rating"), Scorer(model)

    def pair() -> tuple[float, float]:
        return seconds(lambda: recommender.recommend(profile)), seconds(lambda: scorer.score(rows))

    pairs = [pair() for _ in range(12)][2:]
    note = f"{1000 * statistics.median(own for own, _ in pairs):.1f} ms a profile, all threads of torch"
    ratios = [own / whole for own, whole in pairs]
    performance("the best of 5,000 items over scoring their rows", ratios, bar=1, at_least=False, note=note)
